//! What the algorithms ask of whoever runs them: blocks, locks, events, a clock.
//!
//! The kernel implements [`Env`] with its buffer cache and levelled locks, the host tests with memory and
//! std's. Two locks of the same kind are never held together, and the order of kinds is: [`Env::NodeLock`],
//! [`Env::LogLock`], [`Env::Lock`], then the lock inside [`Bytes`]. The first two may be held across I/O.

use abi::errno::Result;
use alloc::vec::Vec;
use core::fmt;
use core::ops::DerefMut;

/// A lock around a value.
pub trait Lock<T>: Send + Sync {
    type Guard<'a>: DerefMut<Target = T>
    where
        Self: 'a,
        T: 'a;

    fn new(value: T) -> Self;

    fn lock(&self) -> Self::Guard<'_>;
}

/// Something to sleep on until a condition holds.
pub trait Event: Send + Sync {
    fn new() -> Self;

    /// Returns when `ready` does; it is asked again after each [`Event::wake`]. Uninterruptible.
    fn wait(&self, ready: &mut dyn FnMut() -> bool);

    fn wake(&self);
}

/// The bytes of one block in memory, shared by its users.
pub trait Bytes: Send + Sync + 'static {
    /// Runs `action` on them; it must not sleep or touch other blocks.
    fn with<R>(&self, action: impl FnOnce(&[u8]) -> R) -> R;

    fn with_mut<R>(&self, action: impl FnOnce(&mut [u8]) -> R) -> R;
}

/// Blocks that go to the medium: consecutive ones from the number on.
pub struct Write {
    pub block: u64,
    pub bytes: Vec<u8>,
}

/// The world of a mounted file system.
pub trait Env: Send + Sync + Sized + 'static {
    type Bytes: Bytes;
    /// Short; its holder does not sleep.
    type Lock<T: Send>: Lock<T>;
    /// Guards one inode; its holder may sleep.
    type NodeLock<T: Send>: Lock<T>;
    /// Guards the journal's commits and the list of orphans; its holder may sleep.
    type LogLock<T: Send>: Lock<T>;
    type Event: Event;

    /// Says how long a block is; before anything else is asked.
    fn set_block_size(&self, bytes: usize) -> Result<()>;

    /// The medium's length in bytes.
    fn device_bytes(&self) -> u64;

    /// A metadata block, read from the medium.
    fn read_block(&self, block: u64) -> Result<Self::Bytes>;

    /// `count` consecutive metadata blocks, by one request where the device allows it.
    fn read_blocks(&self, first: u64, count: usize) -> Result<Vec<Self::Bytes>>;

    /// A metadata block whose content on the medium does not matter: zeroes.
    fn blank_block(&self, block: u64) -> Result<Self::Bytes>;

    /// Reads at a byte offset, past all caches: superblock, journal.
    fn read_raw(&self, offset: u64, out: &mut [u8]) -> Result<()>;

    /// Writes all of them, in any order, and waits until the device has taken them (maybe in its cache).
    fn write_raw(&self, writes: &[Write]) -> Result<()>;

    /// Everything that the device has taken is on the medium.
    fn flush(&self) -> Result<()>;

    /// Writes these when everything that the device has taken is on the medium, and waits until they are there, too. What
    /// can give the device the three steps at once sleeps once, not three times.
    fn write_in_order(&self, write: &Write) -> Result<()> {
        self.flush()?;
        self.write_raw(core::slice::from_ref(write))?;
        self.flush()
    }

    /// The device need not keep what these blocks (first, count) hold; waits. EOPNOTSUPP where there is no such thing.
    fn discard(&self, runs: &[(u64, u64)]) -> Result<()>;

    /// Whoever asks is to end: what takes long stops.
    fn interrupted(&self) -> bool {
        false
    }

    /// Nanoseconds since the Epoch.
    fn now_ns(&self) -> i64;

    /// A number nobody can guess, for generations of inodes.
    fn random(&self) -> u32;

    /// A line for the log.
    fn warn(&self, text: fmt::Arguments);

    /// The file system found an error; `errors` is the superblock's behaviour (1 continue, 2 read-only,
    /// 3 panic), already applied inside. Called once the file system refuses writes.
    fn failed(&self, errors: u16);
}
