//! A device behind a mapping: a map of pages, requests that complete when the test or a thread says so,
//! and errors on demand.

use super::PAGE;
use abi::Errno;
use abi::errno::Result;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use vm::{BackingDevice, CacheKind, FolioRead, FolioWrite, Mapping, MappingOps, ReadRun, WriteRun, WriteWhy};

/// A request on its way.
enum Request {
    Read(FolioRead),
    Write(FolioWrite, Vec<u8>),
}

/// One file's blocks.
pub struct Disk {
    pub blocks: Mutex<BTreeMap<u64, Vec<u8>>>,
    queue: Mutex<Vec<Request>>,
    /// Requests wait for [`Disk::complete_all`] or the thread of [`Disk::serve`].
    pub slow: AtomicBool,
    pub bad: Mutex<BTreeSet<u64>>,
    pub full: AtomicBool,
    pub reads: AtomicU64,
    pub writes: AtomicU64,
    pub prepared: Mutex<BTreeSet<u64>>,
    pub device: Mutex<Option<Arc<BackingDevice>>>,
    stop: AtomicBool,
}

impl Disk {
    pub fn new() -> Arc<Disk> {
        Arc::new(Disk {
            blocks: Mutex::default(),
            queue: Mutex::default(),
            slow: AtomicBool::new(false),
            bad: Mutex::default(),
            full: AtomicBool::new(false),
            reads: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            prepared: Mutex::default(),
            device: Mutex::new(None),
            stop: AtomicBool::new(false),
        })
    }

    pub fn mapping(self: &Arc<Self>, size: u64) -> Arc<Mapping> {
        Mapping::new(CacheKind::Backed, size, Arc::new(Ops(self.clone())))
    }

    fn submit(&self, request: Request) {
        if self.slow.load(SeqCst) {
            self.queue.lock().expect("queue").push(request);
        } else {
            self.complete(request);
        }
    }

    fn complete(&self, request: Request) {
        match request {
            Request::Read(one) => {
                if self.bad.lock().expect("bad").contains(&one.index()) {
                    return one.finish(Err(Errno::EIO));
                }
                match self.blocks.lock().expect("blocks").get(&one.index()) {
                    Some(bytes) => one.folio().write(0, bytes),
                    None => return one.fill_zero(),
                }
                one.finish(Ok(()));
            }
            Request::Write(one, bytes) => {
                if self.bad.lock().expect("bad").contains(&one.index()) {
                    return one.finish(Err(Errno::EIO));
                }
                self.blocks.lock().expect("blocks").insert(one.index(), bytes);
                one.finish(Ok(()));
            }
        }
    }

    pub fn queued(&self) -> usize {
        self.queue.lock().expect("queue").len()
    }

    /// Completes what is on its way, the last first.
    pub fn complete_all(&self) {
        loop {
            let Some(request) = self.queue.lock().expect("queue").pop() else { return };
            self.complete(request);
        }
    }

    /// Completes requests from a thread of its own, some time later, until [`Disk::stop`].
    pub fn serve(self: &Arc<Self>) -> std::thread::JoinHandle<()> {
        self.slow.store(true, SeqCst);
        let disk = self.clone();
        std::thread::spawn(move || {
            while !disk.stop.load(SeqCst) || disk.queued() > 0 {
                disk.complete_all();
                std::thread::sleep(Duration::from_micros(100));
            }
        })
    }

    pub fn stop(&self) {
        self.stop.store(true, SeqCst);
    }

    /// The first byte of a block; 0 for a hole.
    pub fn byte(&self, index: u64) -> u8 {
        self.blocks.lock().expect("blocks").get(&index).map_or(0, |bytes| bytes[0])
    }

    pub fn put(&self, index: u64, byte: u8) {
        self.blocks.lock().expect("blocks").insert(index, vec![byte; PAGE]);
    }
}

struct Ops(Arc<Disk>);

impl MappingOps for Ops {
    fn read_run(&self, run: ReadRun) {
        self.0.reads.fetch_add(1, SeqCst);
        run.into_iter().for_each(|one| self.0.submit(Request::Read(one)));
    }

    fn prepare_write(&self, pages: Range<u64>, _why: WriteWhy) -> Result<()> {
        if self.0.full.load(SeqCst) {
            return Err(Errno::ENOSPC);
        }
        self.0.prepared.lock().expect("prepared").extend(pages);
        Ok(())
    }

    fn write_run(&self, run: WriteRun) {
        self.0.writes.fetch_add(1, SeqCst);
        for one in run {
            if one.valid_len() == 0 {
                one.finish(Ok(()));
                continue;
            }
            assert!(self.0.prepared.lock().expect("prepared").contains(&one.index()), "written unprepared");
            let mut bytes = vec![0; PAGE];
            one.folio().read(0, &mut bytes);
            bytes[one.valid_len()..].fill(0xee);
            self.0.submit(Request::Write(one, bytes));
        }
    }

    fn device(&self) -> Option<Arc<BackingDevice>> {
        self.0.device.lock().expect("device").clone()
    }
}
