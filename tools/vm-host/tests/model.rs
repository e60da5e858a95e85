//! Random calls on several processes, compared page by page with a model that has no page table.
//!
//! The model knows what POSIX promises: what a byte reads as and whether an access is allowed. Counters
//! and leaks are checked against the fake machine.

mod common;

use abi::mm::{MapFlags, Prot, RemapFlags, madv};
use common::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;
use vm::{AddressSpace, FaultError, MapRequest, RemapRequest, Unlimited, VmFile};

const BASE: usize = 0x1000_0000;
/// Pages of the window that all calls act in; it crosses two borders of 2 MiB.
const WINDOW: usize = 40;
const FIRST: usize = BASE + (512 - 12) * PAGE;

#[derive(Clone, Debug)]
enum Op {
    MapAnon { at: usize, len: usize, prot: u8, shared: bool },
    MapFile { at: usize, len: usize, prot: u8, shared: bool, offset: usize },
    Unmap { at: usize, len: usize },
    Protect { at: usize, len: usize, prot: u8 },
    Discard { at: usize, len: usize },
    Move { at: usize, len: usize, to: usize },
    Read { at: usize },
    Write { at: usize, byte: u8 },
    FileWrite { index: usize, byte: u8 },
    Truncate { pages: usize },
    Fork,
    Exit,
    Switch { to: usize },
    Starve { pages: i64 },
}

fn op() -> impl Strategy<Value = Op> {
    let at = 0..WINDOW;
    let len = 1..12usize;
    prop_oneof![
        3 => (at.clone(), len.clone(), 0..4u8, any::<bool>())
            .prop_map(|(at, len, prot, shared)| Op::MapAnon { at, len, prot, shared }),
        3 => (at.clone(), len.clone(), 0..4u8, any::<bool>(), 0..10usize)
            .prop_map(|(at, len, prot, shared, offset)| Op::MapFile { at, len, prot, shared, offset }),
        2 => (at.clone(), len.clone()).prop_map(|(at, len)| Op::Unmap { at, len }),
        2 => (at.clone(), len.clone(), 0..4u8).prop_map(|(at, len, prot)| Op::Protect { at, len, prot }),
        1 => (at.clone(), len.clone()).prop_map(|(at, len)| Op::Discard { at, len }),
        2 => (at.clone(), len.clone(), at.clone()).prop_map(|(at, len, to)| Op::Move { at, len, to }),
        8 => at.clone().prop_map(|at| Op::Read { at }),
        12 => (at, any::<u8>()).prop_map(|(at, byte)| Op::Write { at, byte }),
        2 => (0..14usize, any::<u8>()).prop_map(|(index, byte)| Op::FileWrite { index, byte }),
        1 => (0..14usize).prop_map(|pages| Op::Truncate { pages }),
        2 => Just(Op::Fork),
        1 => Just(Op::Exit),
        2 => (0..4usize).prop_map(|to| Op::Switch { to }),
        1 => (0..4i64).prop_map(|pages| Op::Starve { pages }),
    ]
}

/// What a page is in the model.
#[derive(Clone, Debug, PartialEq)]
enum Source {
    Anonymous(u8),
    /// Page `1` of shared object `0`.
    Object(usize, usize),
    /// The file, shared.
    File(usize),
    /// The file, private, with the copy if there is one.
    Private(usize, Option<u8>),
}

#[derive(Clone, Debug)]
struct Page {
    prot: u8,
    source: Source,
}

type Pages = BTreeMap<usize, Page>;

struct World {
    processes: Vec<(Arc<AddressSpace>, Pages)>,
    current: usize,
    file: Arc<TestFile>,
    /// First byte of each page of the file.
    contents: Vec<u8>,
    objects: Vec<Vec<u8>>,
}

fn prot(bits: u8) -> Prot {
    Prot::from_bits_truncate(u32::from(bits))
}

fn addr(page: usize) -> usize {
    FIRST + page * PAGE
}

impl World {
    fn new() -> World {
        let file = TestFile::memory(14 * PAGE);
        World {
            processes: vec![(space(), Pages::new())],
            current: 0,
            file,
            contents: vec![0; 14],
            objects: Vec::new(),
        }
    }

    fn run(&mut self, op: &Op) {
        let current = self.current;
        let (space, pages) = &mut self.processes[current];
        match *op {
            Op::MapAnon { at, len, prot: bits, shared } => {
                let kind = if shared { MapFlags::SHARED } else { MapFlags::PRIVATE };
                let flags = kind | MapFlags::ANONYMOUS | MapFlags::FIXED;
                let done = space.mmap(&request(addr(at), len * PAGE, prot(bits), flags), &Unlimited);
                if done.is_err() {
                    return;
                }
                if shared {
                    self.objects.push(vec![0; len]);
                }
                let object = self.objects.len().wrapping_sub(1);
                for i in 0..len {
                    let source = if shared { Source::Object(object, i) } else { Source::Anonymous(0) };
                    pages.insert(at + i, Page { prot: bits, source });
                }
            }
            Op::MapFile { at, len, prot: bits, shared, offset } => {
                let flags = if shared { MapFlags::SHARED } else { MapFlags::PRIVATE } | MapFlags::FIXED;
                let file: Arc<dyn VmFile> = self.file.clone();
                let request = MapRequest {
                    file: Some(file),
                    offset: (offset * PAGE) as u64,
                    ..request(addr(at), len * PAGE, prot(bits), flags)
                };
                if space.mmap(&request, &Unlimited).is_err() {
                    return;
                }
                for i in 0..len {
                    let source =
                        if shared { Source::File(offset + i) } else { Source::Private(offset + i, None) };
                    pages.insert(at + i, Page { prot: bits, source });
                }
            }
            Op::Unmap { at, len } => {
                space.munmap(addr(at), len * PAGE).expect("munmap");
                pages.retain(|&page, _| page < at || page >= at + len);
            }
            Op::Protect { at, len, prot: bits } => {
                let done = space.mprotect(addr(at), len * PAGE, prot(bits), &Unlimited);
                let covered = (at..at + len).take_while(|page| pages.contains_key(page)).count();
                assert_eq!(done.is_ok(), covered == len);
                for page in at..at + covered {
                    pages.entry(page).and_modify(|page| page.prot = bits);
                }
            }
            Op::Discard { at, len } => {
                let done = space.madvise(addr(at), len * PAGE, madv::DONTNEED);
                assert_eq!(done.is_ok(), (at..at + len).all(|page| pages.contains_key(&page)));
                for (_, page) in pages.range_mut(at..at + len) {
                    match &mut page.source {
                        Source::Anonymous(byte) => *byte = 0,
                        Source::Private(_, copy) => *copy = None,
                        Source::Object(..) | Source::File(_) => {}
                    }
                }
            }
            Op::Move { at, len, to } => {
                let flags = RemapFlags::MAYMOVE | RemapFlags::FIXED;
                let bytes = len * PAGE;
                let request = RemapRequest {
                    addr: addr(at),
                    old_len: bytes,
                    new_len: bytes,
                    flags,
                    new_addr: addr(to),
                };
                match space.mremap(&request, &Unlimited) {
                    Ok(_) => {
                        for i in 0..len {
                            let page = pages.remove(&(at + i)).expect("moved what was there");
                            pages.insert(to + i, page);
                        }
                    }
                    // Without memory the target may be gone; its absence is no part of the promise.
                    Err(abi::Errno::ENOMEM) => (to..to + len).for_each(|page| {
                        if !is_mapped(space, addr(page)) {
                            pages.remove(&page);
                        }
                    }),
                    Err(_) => {}
                }
            }
            Op::Read { at } => self.access(at, None),
            Op::Write { at, byte } => self.access(at, Some(byte)),
            Op::FileWrite { index, byte } => {
                if self.file.mapping.write_bytes((index * PAGE) as u64, &[byte]).is_ok() {
                    if self.contents.len() <= index {
                        self.contents.resize(index + 1, 0);
                    }
                    self.contents[index] = byte;
                }
            }
            Op::Truncate { pages } => {
                // A size in the middle of the last page, as long as there is one.
                let size =
                    if self.contents.len() > pages { pages * PAGE } else { self.contents.len() * PAGE };
                self.file.mapping.truncate(size as u64);
                self.contents.truncate(size / PAGE);
                let end = self.contents.len();
                for (_, pages) in &mut self.processes {
                    for page in pages.values_mut() {
                        if let Source::Private(index, copy) = &mut page.source
                            && *index >= end
                        {
                            *copy = None;
                        }
                    }
                }
            }
            Op::Fork => {
                let child = space.fork().map(|child| (child, pages.clone()));
                if let Ok(child) = child
                    && self.processes.len() < 4
                {
                    self.processes.push(child);
                }
            }
            Op::Exit => {
                if self.processes.len() > 1 {
                    self.processes.swap_remove(current);
                    self.current = 0;
                }
            }
            Op::Switch { to } => self.current = to % self.processes.len(),
            Op::Starve { pages } => mem::set_budget(pages),
        }
    }

    /// One access, by the model and by the machine.
    fn access(&mut self, at: usize, write: Option<u8>) {
        let (space, pages) = &mut self.processes[self.current];
        let found = common::access(space, addr(at), write);
        if found == Err(FaultError::Oom) {
            return;
        }
        let expected = match pages.get_mut(&at) {
            None => Err(FaultError::MapErr),
            Some(page) if page.prot == 0 || (write.is_some() && page.prot & 2 == 0) => {
                Err(FaultError::AccErr)
            }
            Some(page) => {
                let (old, cell) = match &mut page.source {
                    Source::Anonymous(byte) => (Some(*byte), Some(byte)),
                    Source::Object(object, index) => {
                        let byte = &mut self.objects[*object][*index];
                        (Some(*byte), Some(byte))
                    }
                    Source::File(index) => match self.contents.get_mut(*index) {
                        Some(byte) => (Some(*byte), Some(byte)),
                        None => (None, None),
                    },
                    Source::Private(index, copy) => {
                        let old = copy.or(self.contents.get(*index).copied());
                        match (old, write) {
                            (Some(old), Some(_)) => (Some(old), Some(copy.get_or_insert(old))),
                            (old, _) => (old, None),
                        }
                    }
                };
                if let (Some(cell), Some(byte)) = (cell, write) {
                    *cell = byte;
                }
                old.ok_or(FaultError::BusErr)
            }
        };
        assert_eq!(found, expected, "page {at}, write {write:?}");
    }

    /// Everything reads as the model says, and every counter is right.
    fn check(&mut self) {
        mem::set_budget(i64::MAX);
        for process in 0..self.processes.len() {
            self.current = process;
            for page in 0..WINDOW + 12 {
                self.access(page, None);
            }
            let (space, pages) = &self.processes[process];
            check_counters(space, true);
            assert_eq!(space.usage().total, pages.len() as u64);
            let data = pages
                .values()
                .filter(|page| page.prot & 2 != 0)
                .filter(|page| matches!(page.source, Source::Anonymous(_) | Source::Private(..)))
                .count();
            assert_eq!(space.usage().data, data as u64);
        }
    }
}

fn is_mapped(space: &AddressSpace, at: usize) -> bool {
    space.mincore(at, &mut [0]).is_ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    #[test]
    fn memory_is_what_was_promised(ops in prop::collection::vec(op(), 1..80)) {
        let mut world = World::new();
        for (i, op) in ops.iter().enumerate() {
            world.run(op);
            if i % 16 == 15 {
                world.check();
            }
        }
        world.check();
    }
}
