//! A disk in memory with a volatile cache, and the environment that lib/ext4 asks for, over std.

use abi::Errno;
use abi::errno::Result;
use ext4_core::{Bytes, Env, Event, Lock, Write};
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
        let disk = self.disk();
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
            warnings: Mutex::default(),
        }
    }

    fn offset(&self, block: u64) -> u64 {
        block * self.block_size.load(Ordering::Relaxed) as u64
    }
}

/// A block in memory.
pub struct HostBytes(Mutex<Vec<u8>>);

impl Bytes for HostBytes {
    fn with<R>(&self, action: impl FnOnce(&[u8]) -> R) -> R {
        action(&self.0.lock().unwrap())
    }

    fn with_mut<R>(&self, action: impl FnOnce(&mut [u8]) -> R) -> R {
        action(&mut self.0.lock().unwrap())
    }
}

/// std's mutex as every kind of lock. Locking one twice in a thread deadlocks: the tests' time limit finds it.
pub struct HostLock<T>(Mutex<T>);

pub struct HostGuard<'a, T>(MutexGuard<'a, T>);

impl<T> Deref for HostGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T> DerefMut for HostGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

impl<T: Send> Lock<T> for HostLock<T> {
    type Guard<'a>
        = HostGuard<'a, T>
    where
        T: 'a;

    fn new(value: T) -> HostLock<T> {
        HostLock(Mutex::new(value))
    }

    fn lock(&self) -> HostGuard<'_, T> {
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
    type Lock<T: Send> = HostLock<T>;
    type NodeLock<T: Send> = HostLock<T>;
    type LogLock<T: Send> = HostLock<T>;
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
        self.device.read(self.offset(block), &mut bytes)?;
        Ok(HostBytes(Mutex::new(bytes)))
    }

    fn blank_block(&self, _block: u64) -> Result<HostBytes> {
        Ok(HostBytes(Mutex::new(vec![0; self.block_size.load(Ordering::Relaxed)])))
    }

    fn read_raw(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        self.device.read(offset, out)
    }

    fn write_raw(&self, writes: &[Write]) -> Result<()> {
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
