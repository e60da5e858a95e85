//! The kernel as lib/ext4 sees it: the device, levelled locks, wait queues.

use abi::{Errno, errno::Result};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use block::{Batch, Bio, BioFlags, BlockDevice, Op, Plug, SECTOR_SHIFT};
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use ext4_core::{Bytes, Env, Event, Lock, Write};
use klog::{pr_err, pr_warn};
use mem::{AllocFlags, Folio};
use sync::levels::{Ext4, Ext4Block, Ext4Log, Ext4Node, Level};
use sync::{SpinGuard, SpinLock};
use task::{Mutex, MutexGuard, WaitQueue};

const PAGE: usize = arch::PAGE_SIZE;

/// A spin lock of a level.
pub(crate) struct Spin<T, L: Level>(SpinLock<T, L>);

impl<T: Send, L: Level> Lock<T> for Spin<T, L>
where
    SpinLock<T, L>: Send + Sync,
{
    type Guard<'a>
        = SpinGuard<'a, T, L>
    where
        T: 'a;

    fn new(value: T) -> Self {
        Spin(SpinLock::new(value))
    }

    fn lock(&self) -> SpinGuard<'_, T, L> {
        self.0.lock()
    }
}

/// A sleeping lock of a level.
pub(crate) struct Sleeping<T, L: Level>(Mutex<T, L>);

impl<T: Send, L: Level> Lock<T> for Sleeping<T, L>
where
    Mutex<T, L>: Send + Sync,
{
    type Guard<'a>
        = MutexGuard<'a, T, L>
    where
        T: 'a;

    fn new(value: T) -> Self {
        Sleeping(Mutex::new(value))
    }

    fn lock(&self) -> MutexGuard<'_, T, L> {
        self.0.lock()
    }
}

/// A wait queue.
pub(crate) struct Queue(WaitQueue);

impl Event for Queue {
    fn new() -> Self {
        Queue(WaitQueue::new(&"jbd2_log_wait_commit"))
    }

    fn wait(&self, ready: &mut dyn FnMut() -> bool) {
        self.0.wait(|| ready().then_some(()));
    }

    fn wake(&self) {
        self.0.wake_all();
    }
}

/// A metadata block in memory of its own. The device's page cache would be the other place; its folios can be
/// copied from and to but not looked into, and lib/ext4 searches bitmaps and directories in place.
pub(crate) struct BlockBytes(SpinLock<Vec<u8>, Ext4Block>);

impl Bytes for BlockBytes {
    fn with<R>(&self, action: impl FnOnce(&[u8]) -> R) -> R {
        action(&self.0.lock())
    }

    fn with_mut<R>(&self, action: impl FnOnce(&mut [u8]) -> R) -> R {
        action(&mut self.0.lock())
    }
}

/// The environment of one mounted file system.
pub(crate) struct KernelEnv {
    pub device: Arc<BlockDevice>,
    block_size: AtomicU32,
    /// What to do after an error, if anybody still listens.
    pub on_error: sync::Once<alloc::boxed::Box<dyn Fn(u16) + Send + Sync>>,
    quiet: AtomicBool,
}

impl KernelEnv {
    pub fn new(device: Arc<BlockDevice>) -> KernelEnv {
        KernelEnv {
            device,
            block_size: AtomicU32::new(1024),
            on_error: sync::Once::new(),
            quiet: AtomicBool::new(false),
        }
    }

    fn block_size(&self) -> usize {
        self.block_size.load(Ordering::Relaxed) as usize
    }

    /// An empty buffer with room for a block.
    fn room(&self, len: usize) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(len).map_err(|_| Errno::ENOMEM)?;
        Ok(bytes)
    }

    /// Bios for one piece of a write, by way of folios of their own.
    fn submit(&self, write: &Write, flags: BioFlags, batch: &Arc<Batch>, plug: &mut Plug) -> Result<()> {
        let mut sector = write.block * self.block_size() as u64 >> SECTOR_SHIFT;
        // A bio's pieces are counted in pages; longer ones are cut by the block layer.
        for part in write.bytes.chunks(64 * PAGE) {
            let mut bio = Bio::new(Op::Write, sector)?;
            bio.flags |= BioFlags::SYNC | BioFlags::META | flags;
            for page in part.chunks(PAGE) {
                let folio = Folio::alloc(0, AllocFlags::KERNEL)?;
                folio.write(0, page);
                bio.push(&folio, 0, page.len())?;
            }
            batch.submit(plug, &self.device, bio);
            sector += part.len() as u64 >> SECTOR_SHIFT;
        }
        Ok(())
    }
}

impl Env for KernelEnv {
    type Bytes = BlockBytes;
    type Lock<T: Send> = Spin<T, Ext4>;
    type NodeLock<T: Send> = Sleeping<T, Ext4Node>;
    type LogLock<T: Send> = Sleeping<T, Ext4Log>;
    type Event = Queue;

    fn set_block_size(&self, bytes: usize) -> Result<()> {
        if bytes > PAGE || bytes < self.device.logical_block() as usize {
            return Err(Errno::EINVAL);
        }
        self.block_size.store(bytes as u32, Ordering::Relaxed);
        Ok(())
    }

    fn device_bytes(&self) -> u64 {
        self.device.bytes()
    }

    fn read_block(&self, block: u64) -> Result<BlockBytes> {
        self.read_blocks(block, 1)?.pop().ok_or(Errno::EIO)
    }

    fn read_blocks(&self, first: u64, count: usize) -> Result<Vec<BlockBytes>> {
        let len = self.block_size();
        let pages = block::bounce(count * len)?;
        let mut bio = Bio::new(Op::Read, first * len as u64 >> SECTOR_SHIFT)?;
        bio.flags |= BioFlags::META;
        pages.iter().try_for_each(|(folio, used)| bio.push(folio, 0, *used))?;
        self.device.submit_wait(bio)?;
        let mut blocks = Vec::new();
        blocks.try_reserve_exact(count).map_err(|_| Errno::ENOMEM)?;
        for (folio, used) in &pages {
            for at in (0..*used).step_by(len) {
                let mut bytes = self.room(len)?;
                bytes.resize(len, 0);
                folio.read(at, &mut bytes);
                blocks.push(BlockBytes(SpinLock::new(bytes)));
            }
        }
        Ok(blocks)
    }

    fn blank_block(&self, _block: u64) -> Result<BlockBytes> {
        let len = self.block_size();
        let mut bytes = self.room(len)?;
        bytes.resize(len, 0);
        Ok(BlockBytes(SpinLock::new(bytes)))
    }

    fn read_raw(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let unit = u64::from(self.device.logical_block());
        let (start, end) = (offset / unit * unit, (offset + out.len() as u64).next_multiple_of(unit));
        let folio = Folio::alloc(0, AllocFlags::KERNEL)?;
        let mut at = start;
        while at < end {
            let len = (end - at).min(PAGE as u64) as usize;
            self.device.read_sync(at >> SECTOR_SHIFT, &folio, 0, len)?;
            // What of the piece was asked for.
            let (from, to) = (offset.max(at), (offset + out.len() as u64).min(at + len as u64));
            folio.read((from - at) as usize, &mut out[(from - offset) as usize..(to - offset) as usize]);
            at += len as u64;
        }
        Ok(())
    }

    fn write_raw(&self, writes: &[Write]) -> Result<()> {
        let batch = Batch::new();
        let mut plug = Plug::new();
        let submitted =
            writes.iter().try_for_each(|write| self.submit(write, BioFlags::empty(), &batch, &mut plug));
        drop(plug);
        batch.wait().and(submitted)
    }

    fn flush(&self) -> Result<()> {
        self.device.flush()
    }

    /// The block layer's flush machine goes from step to step in the interrupts that end them.
    fn write_in_order(&self, write: &Write) -> Result<()> {
        let batch = Batch::new();
        let mut plug = Plug::new();
        let submitted = self.submit(write, BioFlags::PREFLUSH | BioFlags::FUA, &batch, &mut plug);
        drop(plug);
        batch.wait().and(submitted)
    }

    fn discard(&self, runs: &[(u64, u64)]) -> Result<()> {
        let shift = self.block_size().ilog2() - SECTOR_SHIFT;
        for (first, count) in runs {
            self.device.discard(first << shift, count << shift)?;
        }
        Ok(())
    }

    fn interrupted(&self) -> bool {
        task::current().fatal_pending()
    }

    fn now_ns(&self) -> i64 {
        vfs::now_ns()
    }

    fn random(&self) -> u32 {
        vfs::random::next_u64() as u32
    }

    fn warn(&self, text: fmt::Arguments) {
        pr_warn!("EXT4-fs ({}): {text}", self.device.name());
    }

    fn failed(&self, errors: u16) {
        if self.quiet.swap(true, Ordering::Relaxed) {
            return;
        }
        let name: String = self.device.name().into();
        if errors == 3 {
            panic!("EXT4-fs (device {name}): panic forced after error");
        }
        pr_err!("EXT4-fs ({name}): Remounting filesystem read-only");
        if let Some(listener) = self.on_error.get() {
            listener(errors);
        }
    }
}
