//! A disk in memory with a volatile cache, and the environment that lib/ext4 asks for, over std.

use abi::Errno;
use abi::errno::Result;
use ext4_core::{Bytes, Env, Event, Lock, Write};
use std::cell::RefCell;
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

/// What happened to the device.
#[derive(Clone, Debug)]
pub enum Entry {
    Write { offset: u64, bytes: Vec<u8> },
    Flush,
}

#[derive(Default)]
struct Disk {
    bytes: Vec<u8>,
    log: Vec<Entry>,
    recording: bool,
    /// So many writes still work; then all fail.
    writes_left: Option<usize>,
    /// Blocks discarded so far.
    discarded: u64,
    /// Requests to read so far.
    reads: u64,
    /// Reads of this range of bytes fail.
    bad: Option<(u64, u64)>,
}

/// A shared disk.
#[derive(Clone, Default)]
pub struct Device(Arc<Mutex<Disk>>);

impl Device {
    pub fn new(bytes: Vec<u8>) -> Device {
        Device(Arc::new(Mutex::new(Disk { bytes, ..Disk::default() })))
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap()
    }

    /// The bytes as they would be if the power stayed.
    pub fn bytes(&self) -> Vec<u8> {
        self.disk().bytes.clone()
    }

    /// Records writes from now on.
    pub fn record(&self) {
        self.disk().recording = true;
    }

    pub fn log(&self) -> Vec<Entry> {
        self.disk().log.clone()
    }

    /// How many entries the log has.
    pub fn position(&self) -> usize {
        self.disk().log.len()
    }

    /// Blocks discarded so far.
    pub fn discarded(&self) -> u64 {
        self.disk().discarded
    }

    /// Requests to read so far.
    pub fn reads(&self) -> u64 {
        self.disk().reads
    }

    pub fn fail_after(&self, writes: Option<usize>) {
        self.disk().writes_left = writes;
    }

    pub fn fail_reads(&self, range: Option<(u64, u64)>) {
        self.disk().bad = range;
    }

    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<()> {
        let mut disk = self.disk();
        if let Some(left) = &mut disk.writes_left {
            *left = left.checked_sub(1).ok_or(Errno::EIO)?;
        }
        let at = offset as usize;
        disk.bytes.get_mut(at..at + bytes.len()).ok_or(Errno::EIO)?.copy_from_slice(bytes);
        if disk.recording {
            disk.log.push(Entry::Write { offset, bytes: bytes.to_vec() });
        }
        Ok(())
    }

    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let mut disk = self.disk();
        disk.reads += 1;
        let end = offset.checked_add(out.len() as u64).ok_or(Errno::EIO)?;
        if disk.bad.is_some_and(|(from, to)| offset < to && from < end) {
            return Err(Errno::EIO);
        }
        out.copy_from_slice(disk.bytes.get(offset as usize..end as usize).ok_or(Errno::EIO)?);
        Ok(())
    }

    pub fn flush(&self) -> Result<()> {
        let mut disk = self.disk();
        if disk.writes_left == Some(0) {
            return Err(Errno::EIO);
        }
        if disk.recording {
            disk.log.push(Entry::Flush);
        }
        Ok(())
    }
}

/// The environment.
pub struct HostEnv {
    pub device: Device,
    block_size: AtomicUsize,
    clock: AtomicI64,
    random: AtomicU32,
    /// So many times the caller of something long is not to end.
    pub patience: AtomicU32,
    /// Lines of warnings so far.
    pub warnings: Mutex<Vec<String>>,
}

impl HostEnv {
    pub fn new(device: Device) -> HostEnv {
        HostEnv {
            device,
            block_size: AtomicUsize::new(1024),
            clock: AtomicI64::new(1_700_000_000_123_456_789),
            random: AtomicU32::new(1),
            patience: AtomicU32::new(u32::MAX),
            warnings: Mutex::default(),
        }
    }

    fn offset(&self, block: u64) -> u64 {
        block * self.block_size.load(Ordering::Relaxed) as u64
    }
}

thread_local! {
    /// The ranks of the locks that this thread holds.
    static HELD: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// Notes that a lock is taken; panics when that is out of the order that [`ext4_core::env`] gives.
fn take(rank: u8) {
    HELD.with_borrow_mut(|held| {
        assert!(held.iter().all(|other| *other < rank), "a lock of rank {rank} under {held:?}");
        held.push(rank);
    });
}

fn give(rank: u8) {
    HELD.with_borrow_mut(|held| {
        let at = held.iter().rposition(|other| *other == rank).expect("it is held");
        held.remove(at);
    });
}

/// What may only be done without short locks: I/O and sleep.
fn may_sleep() {
    HELD.with_borrow(|held| assert!(held.iter().all(|rank| *rank < SHORT), "sleeping under {held:?}"));
}

const NODE: u8 = 1;
const LOG: u8 = 2;
const SHORT: u8 = 3;
const BYTES: u8 = 4;

/// A block in memory.
pub struct HostBytes(Mutex<Vec<u8>>);

impl Bytes for HostBytes {
    fn with<R>(&self, action: impl FnOnce(&[u8]) -> R) -> R {
        take(BYTES);
        let result = action(&self.0.lock().unwrap());
        give(BYTES);
        result
    }

    fn with_mut<R>(&self, action: impl FnOnce(&mut [u8]) -> R) -> R {
        take(BYTES);
        let result = action(&mut self.0.lock().unwrap());
        give(BYTES);
        result
    }
}

/// std's mutex as every kind of lock, with its place in the order.
pub struct HostLock<T, const RANK: u8>(Mutex<T>);

pub struct HostGuard<'a, T, const RANK: u8>(MutexGuard<'a, T>);

impl<T, const RANK: u8> Drop for HostGuard<'_, T, RANK> {
    fn drop(&mut self) {
        give(RANK);
    }
}

impl<T, const RANK: u8> Deref for HostGuard<'_, T, RANK> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T, const RANK: u8> DerefMut for HostGuard<'_, T, RANK> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Send, const RANK: u8> Lock<T> for HostLock<T, RANK> {
    type Guard<'a>
        = HostGuard<'a, T, RANK>
    where
        T: 'a;

    fn new(value: T) -> HostLock<T, RANK> {
        HostLock(Mutex::new(value))
    }

    fn lock(&self) -> HostGuard<'_, T, RANK> {
        take(RANK);
        HostGuard(self.0.lock().unwrap())
    }
}

/// A counter of wake-ups.
pub struct HostEvent(Mutex<u64>, Condvar);

impl Event for HostEvent {
    fn new() -> HostEvent {
        HostEvent(Mutex::new(0), Condvar::new())
    }

    fn wait(&self, ready: &mut dyn FnMut() -> bool) {
        may_sleep();
        loop {
            let before = *self.0.lock().unwrap();
            if ready() {
                return;
            }
            let mut count = self.0.lock().unwrap();
            while *count == before {
                count = self.1.wait(count).unwrap();
            }
        }
    }

    fn wake(&self) {
        *self.0.lock().unwrap() += 1;
        self.1.notify_all();
    }
}

impl Env for HostEnv {
    type Bytes = HostBytes;
    type Lock<T: Send> = HostLock<T, SHORT>;
    type NodeLock<T: Send> = HostLock<T, NODE>;
    type LogLock<T: Send> = HostLock<T, LOG>;
    type Event = HostEvent;

    fn set_block_size(&self, bytes: usize) -> Result<()> {
        self.block_size.store(bytes, Ordering::Relaxed);
        Ok(())
    }

    fn device_bytes(&self) -> u64 {
        self.device.disk().bytes.len() as u64
    }

    fn read_block(&self, block: u64) -> Result<HostBytes> {
        let mut bytes = vec![0; self.block_size.load(Ordering::Relaxed)];
        may_sleep();
        self.device.read(self.offset(block), &mut bytes)?;
        Ok(HostBytes(Mutex::new(bytes)))
    }

    fn read_blocks(&self, first: u64, count: usize) -> Result<Vec<HostBytes>> {
        let size = self.block_size.load(Ordering::Relaxed);
        let mut bytes = vec![0; size * count];
        may_sleep();
        self.device.read(self.offset(first), &mut bytes)?;
        Ok(bytes.chunks(size).map(|block| HostBytes(Mutex::new(block.to_vec()))).collect())
    }

    fn blank_block(&self, _block: u64) -> Result<HostBytes> {
        Ok(HostBytes(Mutex::new(vec![0; self.block_size.load(Ordering::Relaxed)])))
    }

    fn read_raw(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.device.read(offset, out)
    }

    fn write_raw(&self, writes: &[Write]) -> Result<()> {
        may_sleep();
        // Each block is a write of its own: a crash may keep one and lose the next.
        let size = self.block_size.load(Ordering::Relaxed);
        for write in writes {
            for (at, block) in write.bytes.chunks(size).enumerate() {
                self.device.write(self.offset(write.block + at as u64), block)?;
            }
        }
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        self.device.flush()
    }

    /// A discarded block reads as something that no file may show.
    fn discard(&self, runs: &[(u64, u64)]) -> Result<()> {
        may_sleep();
        let size = self.block_size.load(Ordering::Relaxed);
        let gone = b"STALE!! ".repeat(size / 8);
        for (first, count) in runs {
            (*first..first + count).try_for_each(|block| self.device.write(self.offset(block), &gone))?;
        }
        self.device.disk().discarded += runs.iter().map(|run| run.1).sum::<u64>();
        Ok(())
    }

    fn interrupted(&self) -> bool {
        let left = self.patience.load(Ordering::Relaxed);
        if left != u32::MAX {
            self.patience.store(left.saturating_sub(1), Ordering::Relaxed);
        }
        left == 0
    }

    fn now_ns(&self) -> i64 {
        self.clock.fetch_add(1_000_001, Ordering::Relaxed)
    }

    fn random(&self) -> u32 {
        self.random.fetch_add(0x9e37_79b9, Ordering::Relaxed)
    }

    fn warn(&self, text: fmt::Arguments) {
        self.warnings.lock().unwrap().push(text.to_string());
    }

    fn failed(&self, _errors: u16) {}
}
