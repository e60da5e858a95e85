//! Reading the headers of an ELF file. The file is anybody's: every number in it may be anything.

use super::read_exact;
use crate::Result;
use abi::Errno;
use abi::process::ELF_MACHINE;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::PAGE_SIZE;
use elf::abi::{EM_NONE, ET_DYN, ET_EXEC, PF_X, PT_GNU_STACK, PT_INTERP, PT_LOAD, PT_PHDR};
use elf::endian::LittleEndian;
use elf::file::{Class, FileHeader, parse_ident};
use elf::parse::ParseAt;
use elf::segment::ProgramHeader;
use vfs::File;

/// Bytes of an ELF64 header and of one program header.
const HEADER_BYTES: usize = 64;
const SEGMENT_BYTES: usize = 56;
/// Program headers may fill a page's worth of 64 KiB, as on Linux.
const SEGMENTS_MAX: usize = 65536 / SEGMENT_BYTES;
/// The longest interpreter name.
const INTERPRETER_MAX: u64 = 4096;

/// What of an ELF file matters for running it.
pub(super) struct Image {
    pub entry: u64,
    /// May be loaded anywhere (ET_DYN).
    pub relocatable: bool,
    /// PT_LOAD segments in ascending order, no two of which overlap.
    pub segments: Vec<ProgramHeader>,
    /// Where the program headers are, as the program will see them: address before relocation.
    pub headers_addr: u64,
    pub headers: u16,
    pub interpreter: Option<Vec<u8>>,
    /// PT_GNU_STACK asks for an executable stack; without one Linux gives none on 64 bits.
    pub executable_stack: bool,
}

fn bad<E>(_: E) -> Errno {
    Errno::ENOEXEC
}

impl Image {
    /// ENOEXEC for what is not a well-formed program of this machine; EIO for a broken interpreter name.
    pub fn read(file: &Arc<File>, head: &[u8]) -> Result<Image> {
        let header = parse_header(head)?;
        let table = read_exact(file, header.e_phoff, usize::from(header.e_phnum) * SEGMENT_BYTES)?;
        let mut image = Image {
            entry: header.e_entry,
            relocatable: header.e_type == ET_DYN,
            segments: Vec::new(),
            headers_addr: 0,
            headers: header.e_phnum,
            interpreter: None,
            executable_stack: false,
        };
        let mut at = 0;
        let mut phdr = None;
        for _ in 0..header.e_phnum {
            let segment =
                ProgramHeader::parse_at(LittleEndian, Class::ELF64, &mut at, &table).map_err(bad)?;
            match segment.p_type {
                PT_LOAD => image.segments.push(check(segment)?),
                PT_INTERP if image.interpreter.is_none() => {
                    image.interpreter = Some(interpreter(file, &segment)?)
                }
                PT_GNU_STACK => image.executable_stack = segment.p_flags & PF_X != 0,
                PT_PHDR => phdr = Some(segment.p_vaddr),
                _ => {}
            }
        }
        image.check_order()?;
        image.headers_addr = phdr.or_else(|| image.address_of(header.e_phoff)).unwrap_or(0);
        Ok(image)
    }

    /// The address of a file offset, if a segment covers it.
    fn address_of(&self, offset: u64) -> Option<u64> {
        let covers = |s: &&ProgramHeader| s.p_offset <= offset && offset - s.p_offset < s.p_filesz;
        let segment = self.segments.iter().find(covers)?;
        segment.p_vaddr.checked_add(offset - segment.p_offset)
    }

    fn check_order(&self) -> Result<()> {
        if self.segments.is_empty() {
            return Err(Errno::ENOEXEC);
        }
        let apart = |pair: &[ProgramHeader]| pair[0].p_vaddr + pair[0].p_memsz <= pair[1].p_vaddr;
        if self.segments.windows(2).all(apart) { Ok(()) } else { Err(Errno::ENOEXEC) }
    }

    /// First and last address of all segments (the end is exclusive), page aligned.
    pub fn span(&self) -> (u64, u64) {
        let page = PAGE_SIZE as u64;
        let first = self.segments.first().map_or(0, |s| s.p_vaddr & !(page - 1));
        // `check` keeps every end far below the end of the number range.
        let last = self.segments.last().map_or(0, |s| (s.p_vaddr + s.p_memsz + page - 1) & !(page - 1));
        (first, last)
    }

    /// The largest alignment that a segment asks for, at least a page.
    pub fn alignment(&self) -> u64 {
        let asked = self.segments.iter().map(|s| s.p_align).filter(|a| a.is_power_of_two());
        asked.max().unwrap_or(0).clamp(PAGE_SIZE as u64, 1 << 30)
    }
}

fn parse_header(head: &[u8]) -> Result<FileHeader<LittleEndian>> {
    if head.len() < HEADER_BYTES {
        return Err(Errno::ENOEXEC);
    }
    let ident = parse_ident::<LittleEndian>(&head[..16]).map_err(bad)?;
    let header = FileHeader::parse_tail(ident, &head[16..HEADER_BYTES]).map_err(bad)?;
    let machine = header.e_machine == ELF_MACHINE && ELF_MACHINE != EM_NONE;
    let kind = header.e_type == ET_EXEC || header.e_type == ET_DYN;
    let count = usize::from(header.e_phnum);
    let table = usize::from(header.e_phentsize) == SEGMENT_BYTES && (1..=SEGMENTS_MAX).contains(&count);
    let wide = matches!(header.class, Class::ELF64);
    if machine && kind && table && wide { Ok(header) } else { Err(Errno::ENOEXEC) }
}

/// A loadable segment whose numbers make sense together.
fn check(segment: ProgramHeader) -> Result<ProgramHeader> {
    let page = PAGE_SIZE as u64;
    let top = arch::mmu::user_top() as u64;
    let sizes = segment.p_filesz <= segment.p_memsz;
    let end = segment.p_vaddr.checked_add(segment.p_memsz).is_some_and(|end| end <= top);
    let file_end = segment.p_offset.checked_add(segment.p_filesz).is_some_and(|end| end <= i64::MAX as u64);
    let congruent = segment.p_vaddr % page == segment.p_offset % page || segment.p_filesz == 0;
    if sizes && end && file_end && congruent { Ok(segment) } else { Err(Errno::ENOEXEC) }
}

/// PT_INTERP: a path with its zero.
fn interpreter(file: &Arc<File>, segment: &ProgramHeader) -> Result<Vec<u8>> {
    if !(2..=INTERPRETER_MAX).contains(&segment.p_filesz) {
        return Err(Errno::ENOEXEC);
    }
    let mut name = read_exact(file, segment.p_offset, segment.p_filesz as usize)?;
    if name.pop() != Some(0) || name.contains(&0) {
        return Err(Errno::ENOEXEC);
    }
    Ok(name)
}
