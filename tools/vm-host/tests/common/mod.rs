//! A processor in front of an address space: accesses go through the page table and fault like real ones.
#![allow(dead_code)]

pub mod disk;
pub mod store;

use abi::mm::{MapFlags, Prot};
use arch::paging::PteFlags;
use arch::{Access, PAGE_SIZE};
use mem::{Entry, UserTable};
use std::any::Any;
use std::fmt;
use std::sync::Arc;
use vm::{
    AddressSpace, CacheKind, Fault, FaultError, Limits, MapRequest, MapSource, Mapping, MappingOps,
    Unlimited, VmFile,
};

pub const PAGE: usize = PAGE_SIZE;
pub const RW: Prot = Prot::READ.union(Prot::WRITE);

/// Makes one access of one byte; faults are served until it works. `write`: the byte to store.
pub fn access(space: &AddressSpace, addr: usize, write: Option<u8>) -> Result<u8, FaultError> {
    access_counted(space, addr, write).map(|(byte, _)| byte)
}

/// As [`access`], with the faults that it took.
pub fn access_counted(
    space: &AddressSpace,
    addr: usize,
    write: Option<u8>,
) -> Result<(u8, Vec<Fault>), FaultError> {
    let kind = if write.is_some() { Access::Write } else { Access::Read };
    let mut faults = Vec::new();
    for _ in 0..8 {
        if let Some(byte) = try_access(space, addr, write) {
            return Ok((byte, faults));
        }
        faults.push(space.handle_fault(addr, kind, &Unlimited)?);
    }
    panic!("the access at {addr:#x} faults for ever");
}

/// What the hardware does: the access if the entry allows it and its bits are set (Svade).
fn try_access(space: &AddressSpace, addr: usize, write: Option<u8>) -> Option<u8> {
    if addr >= arch::mmu::user_top() {
        return None;
    }
    let table = space.table().lock();
    let va = addr & !(PAGE - 1);
    let Entry::Page(page) = table.get(va) else { return None };
    let need = if write.is_some() {
        PteFlags::WRITE | PteFlags::DIRTY | PteFlags::ACCESSED
    } else {
        PteFlags::READ | PteFlags::ACCESSED
    };
    if !page.flags.contains(need | PteFlags::USER) {
        return None;
    }
    if UserTable::is_zero_page(page.phys) {
        assert!(write.is_none());
        return Some(0);
    }
    let folio = table.folio(va)?;
    let mut byte = [0];
    folio.read(addr % PAGE, &mut byte);
    if let Some(new) = write {
        folio.write(addr % PAGE, &[new]);
    }
    Some(byte[0])
}

/// Writes every area, one a call.
pub fn all_areas(mut write: impl FnMut(u64) -> Result<Option<u64>, fmt::Error>) {
    let mut from = 0;
    while let Some(next) = write(from).expect("memory for a text") {
        from = next;
    }
}

pub fn space() -> Arc<AddressSpace> {
    AddressSpace::new().expect("a space")
}

pub fn map_anonymous(space: &AddressSpace, pages: usize, prot: Prot) -> usize {
    space.mmap(&MapRequest::anonymous(pages * PAGE, prot), &Unlimited).expect("mmap")
}

pub fn request(addr: usize, len: usize, prot: Prot, flags: MapFlags) -> MapRequest {
    MapRequest { addr, len, prot, flags, file: None, offset: 0 }
}

/// A file: its page `n` reads as `n + 1` everywhere, when it is backed.
pub struct TestFile {
    pub mapping: Arc<Mapping>,
    pub writable: bool,
}

struct Pattern;

impl MappingOps for Pattern {
    fn read_folio(&self, index: u64, folio: &mem::Folio) -> abi::errno::Result<()> {
        if index == 13 {
            return Err(abi::Errno::EIO);
        }
        folio.write(0, &[index as u8 + 1; PAGE]);
        Ok(())
    }
}

impl TestFile {
    pub fn backed(pages: usize) -> Arc<TestFile> {
        let mapping = Mapping::new(CacheKind::Backed, (pages * PAGE) as u64, Arc::new(Pattern));
        Arc::new(TestFile { mapping, writable: true })
    }

    pub fn on_disk(mapping: Arc<Mapping>) -> Arc<TestFile> {
        Arc::new(TestFile { mapping, writable: true })
    }

    pub fn memory(bytes: usize) -> Arc<TestFile> {
        let mapping = Mapping::new(CacheKind::Memory, bytes as u64, Arc::new(vm::MemoryOps));
        Arc::new(TestFile { mapping, writable: true })
    }

    pub fn map(self: &Arc<Self>, space: &AddressSpace, pages: usize, prot: Prot, flags: MapFlags) -> usize {
        let file: Arc<dyn VmFile> = self.clone();
        let request = MapRequest { file: Some(file), ..request(0, pages * PAGE, prot, flags) };
        space.mmap(&request, &Unlimited).expect("mmap of a file")
    }
}

impl VmFile for TestFile {
    fn map_source(&self) -> abi::errno::Result<MapSource> {
        Ok(MapSource::Cache(self.mapping.clone()))
    }

    fn readable(&self) -> bool {
        true
    }

    fn writable(&self) -> bool {
        self.writable
    }

    fn device(&self) -> (u32, u32) {
        (8, 1)
    }

    fn inode_number(&self) -> u64 {
        4711
    }

    fn write_path(&self, out: &mut dyn fmt::Write) -> fmt::Result {
        out.write_str("/tmp/a\nb")
    }

    fn punch_hole(&self, start: u64, len: u64) -> abi::errno::Result<()> {
        self.mapping.punch_hole(start, start + len);
        Ok(())
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

/// Limits of a program that is allowed little.
#[derive(Clone, Copy)]
pub struct Small {
    pub address_space: u64,
    pub data: u64,
    pub stack: u64,
    pub memlock: u64,
}

impl Default for Small {
    fn default() -> Small {
        Small { address_space: u64::MAX, data: u64::MAX, stack: u64::MAX, memlock: u64::MAX }
    }
}

impl Limits for Small {
    fn address_space(&self) -> u64 {
        self.address_space
    }

    fn data(&self) -> u64 {
        self.data
    }

    fn stack(&self) -> u64 {
        self.stack
    }

    fn memlock(&self) -> u64 {
        self.memlock
    }

    fn may_map_low(&self) -> bool {
        false
    }
}

/// Checks the space's counters against its page table, entry by entry.
pub fn check_counters(space: &AddressSpace, memory_file: bool) {
    let (mut private, mut file) = (0, 0);
    space.table().lock().for_each(0..arch::mmu::user_top(), |_, entry| {
        if let Entry::Page(page) = entry {
            if page.flags.contains(PteFlags::SOFT) {
                private += 1;
            } else if !UserTable::is_zero_page(page.phys) {
                file += 1;
            }
        }
    });
    let usage = space.usage();
    assert_eq!(usage.rss_anon, private, "anonymous pages");
    let counted = if memory_file { usage.rss_shmem } else { usage.rss_file };
    assert_eq!(counted, file, "file pages");
    assert!(usage.peak_rss >= usage.rss());
}
