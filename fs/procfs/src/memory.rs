//! What a process's memory is made of, and its contents: maps, smaps, pagemap, mem, cmdline, environ, auxv.
//!
//! An open file keeps the address space that the process had when it was opened, weakly: it shows nothing
//! once that is gone, and it does not change to that of the next program.

use crate::texts::owner;
use abi::Errno;
use abi::cap::CAP_SYS_ADMIN;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use kcore::access::{self, Ids};
use kcore::{Subject, SubjectId};
use kernfs::{Meta, Next, Opens, RecordSource, Records, TextBuf, written};
use vfs::{Caller, File, FileOps, IoBuf, OpsRef};
use vm::AddressSpace;

/// Bytes that are copied at a time.
const CHUNK: usize = 4096;

/// The address space of a process that the caller may look into. EACCES.
fn memory_of(id: &SubjectId, caller: &Caller) -> Result<Weak<AddressSpace>> {
    let subject = id.find().ok_or(Errno::ESRCH)?;
    access::check(caller.cred, caller.tid, &subject, Ids::FileSystem).map_err(|_| Errno::EACCES)?;
    Ok(weak(&subject))
}

fn weak(subject: &Subject) -> Weak<AddressSpace> {
    subject.mm().map_or_else(Weak::new, |mm| Arc::downgrade(&mm))
}

/// maps and, with `sizes`, smaps: an area a record.
pub struct Areas {
    pub id: SubjectId,
    pub sizes: bool,
}

impl Meta for Areas {
    fn mode(&self) -> u32 {
        0o444
    }

    fn owner(&self) -> Option<(u32, u32)> {
        Some(owner(&self.id))
    }

    fn is_alive(&self) -> bool {
        self.id.find().is_some()
    }
}

impl Records for Areas {
    fn open(&self, caller: &Caller) -> Result<Box<dyn RecordSource>> {
        Ok(Box::new(OpenAreas { id: self.id, mm: memory_of(&self.id, caller)?, sizes: self.sizes }))
    }
}

struct OpenAreas {
    id: SubjectId,
    mm: Weak<AddressSpace>,
    sizes: bool,
}

impl RecordSource for OpenAreas {
    /// A cursor is the address where the last area ended.
    fn next(&self, cursor: u64, out: &mut TextBuf) -> Result<Next> {
        self.id.find().ok_or(Errno::ESRCH)?;
        let Some(mm) = self.mm.upgrade() else { return Ok(Next::End) };
        let end = if self.sizes { mm.write_smap(cursor, out) } else { mm.write_map(cursor, out) };
        Ok(end.map_err(|_| Errno::ENOMEM)?.map_or(Next::End, Next::At))
    }
}

/// smaps_rollup: the sum of all areas.
pub fn rollup(out: &mut TextBuf, subject: &Subject) -> Result<()> {
    let mm = subject.mm().ok_or(Errno::ESRCH)?;
    written(mm.write_smaps_rollup(out))
}

/// auxv: the auxiliary vector as the program found it.
pub fn auxv(out: &mut TextBuf, subject: &Subject) -> Result<()> {
    subject.mm().map_or(Ok(()), |mm| out.bytes(&mm.program().auxv))
}

/// Which of the files that read memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum View {
    /// cmdline: the arguments, for everybody.
    Arguments,
    /// environ.
    Environment,
    /// mem: all of it, by address; also written.
    All,
    /// pagemap: a word for each page.
    Pages,
}

/// Such a file.
pub struct MemoryFile {
    pub id: SubjectId,
    pub view: View,
}

impl Meta for MemoryFile {
    fn mode(&self) -> u32 {
        match self.view {
            View::Arguments => 0o444,
            View::All => 0o600,
            View::Environment | View::Pages => 0o400,
        }
    }

    fn owner(&self) -> Option<(u32, u32)> {
        Some(owner(&self.id))
    }

    fn is_alive(&self) -> bool {
        self.id.find().is_some()
    }
}

impl Opens for MemoryFile {
    fn open(&self, _flags: u32, caller: &Caller) -> Result<OpsRef> {
        let mm = match self.view {
            View::Arguments => weak(&self.id.find().ok_or(Errno::ESRCH)?),
            _ => memory_of(&self.id, caller)?,
        };
        let frames = caller.capable(CAP_SYS_ADMIN);
        Ok(OpsRef::shared(OpenMemory { mm, view: self.view, frames }))
    }
}

struct OpenMemory {
    mm: Weak<AddressSpace>,
    view: View,
    /// pagemap shows frame numbers.
    frames: bool,
}

impl FileOps for OpenMemory {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn read(&self, _file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let Some(mm) = self.mm.upgrade() else { return Ok(0) };
        match self.view {
            View::Arguments => read_range(&mm, arguments(&mm), pos, buf),
            View::Environment => read_range(&mm, mm.program().env, pos, buf),
            View::All => read_all(&mm, pos, buf),
            View::Pages => read_pages(&mm, self.frames, pos, buf),
        }
    }

    fn write(&self, _file: &File, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        if self.view != View::All {
            return Err(Errno::EINVAL);
        }
        let Some(mm) = self.mm.upgrade() else { return Ok(0) };
        write_all(&mm, pos, buf)
    }

    fn seek(&self, _file: &File, pos: &mut u64, offset: i64, whence: u32) -> Result<u64> {
        // Every address is a position, those beyond i64::MAX too; there is no end.
        *pos = match whence {
            abi::fcntl::SEEK_SET => offset as u64,
            abi::fcntl::SEEK_CUR => pos.wrapping_add_signed(offset),
            _ => return Err(Errno::EINVAL),
        };
        Ok(*pos)
    }
}

/// A buffer for `len` bytes at most.
fn buffer(len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let len = len.min(CHUNK);
    bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(len, 0);
    Ok(bytes)
}

/// The addresses of the command line. A program that wrote over the end of its arguments (setproctitle)
/// continues in what was its environment, up to a zero.
fn arguments(mm: &AddressSpace) -> (u64, u64) {
    let program = mm.program();
    let (start, end) = program.args;
    let mut last = [0];
    let continued = end > start
        && program.env.0 == end
        && mm.read_remote(end as usize - 1, &mut last, true) == 1
        && last[0] != 0;
    if !continued {
        return program.args;
    }
    let mut at = end;
    let mut chunk = [0; 64];
    while at < program.env.1 {
        let wanted = chunk.len().min((program.env.1 - at) as usize);
        let got = mm.read_remote(at as usize, &mut chunk[..wanted], true);
        if let Some(zero) = chunk[..got].iter().position(|byte| *byte == 0) {
            return (start, at + zero as u64 + 1);
        }
        if got < wanted {
            break;
        }
        at += got as u64;
    }
    (start, at)
}

/// Reads memory of the range; a position counts from its start.
fn read_range(mm: &AddressSpace, (start, end): (u64, u64), pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
    let mut done = 0;
    let mut chunk = buffer(buf.remaining())?;
    while buf.remaining() > 0 {
        let left = end.saturating_sub(start).saturating_sub(*pos);
        let wanted = (chunk.len() as u64).min(left).min(buf.remaining() as u64) as usize;
        if wanted == 0 {
            break;
        }
        let got = mm.read_remote((start + *pos) as usize, &mut chunk[..wanted], true);
        if got == 0 {
            return if done == 0 { Err(Errno::EIO) } else { Ok(done) };
        }
        done += buf.put(&chunk[..got])?;
        *pos += got as u64;
    }
    Ok(done)
}

/// mem: reads what lies at address `pos`. EIO where nothing is.
fn read_all(mm: &AddressSpace, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
    let mut done = 0;
    let mut chunk = buffer(buf.remaining())?;
    while buf.remaining() > 0 {
        let wanted = chunk.len().min(buf.remaining());
        let got = mm.read_remote(*pos as usize, &mut chunk[..wanted], true);
        if got == 0 {
            return if done == 0 { Err(Errno::EIO) } else { Ok(done) };
        }
        done += buf.put(&chunk[..got])?;
        *pos += got as u64;
    }
    Ok(done)
}

fn write_all(mm: &AddressSpace, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
    let mut done = 0;
    let mut chunk = buffer(buf.remaining())?;
    while buf.remaining() > 0 {
        let wanted = chunk.len().min(buf.remaining());
        let taken = buf.take(&mut chunk[..wanted])?;
        let wrote = mm.write_remote(*pos as usize, &chunk[..taken], true);
        done += wrote;
        *pos += wrote as u64;
        if wrote < taken {
            return if done == 0 { Err(Errno::EIO) } else { Ok(done) };
        }
    }
    Ok(done)
}

/// pagemap: whole words only.
fn read_pages(mm: &AddressSpace, frames: bool, pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
    const WORD: u64 = 8;
    if !pos.is_multiple_of(WORD) || !(buf.remaining() as u64).is_multiple_of(WORD) {
        return Err(Errno::EINVAL);
    }
    let pages = arch::mmu::user_top() as u64 / arch::PAGE_SIZE as u64;
    let mut words = [0; CHUNK / WORD as usize / 8];
    let mut done = 0;
    loop {
        let first = *pos / WORD;
        let count = (buf.remaining() as u64 / WORD).min(pages.saturating_sub(first)).min(words.len() as u64);
        if count == 0 {
            return Ok(done);
        }
        let part = &mut words[..count as usize];
        mm.pagemap(first, part, frames);
        let mut bytes = [0; CHUNK / 8];
        for (bytes, word) in bytes.chunks_exact_mut(WORD as usize).zip(part.iter()) {
            bytes.copy_from_slice(&word.to_ne_bytes());
        }
        let put = buf.put(&bytes[..(count * WORD) as usize])?;
        done += put;
        *pos += put as u64;
    }
}
