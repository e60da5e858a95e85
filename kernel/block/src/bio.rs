//! A bio: one piece of I/O as its submitter sees it.
//!
//! A bio names consecutive sectors of a device and the pieces of folios that they go to or come from. It is
//! given away with [`crate::submit`] and comes back, with its result, to its [`EndBio`]. [`Batch`] is the
//! `EndBio` for whoever submits any number of them and waits.

use crate::device::BlockDevice;
use crate::plug::Plug;
use abi::Errno;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use bitflags::bitflags;
use core::sync::atomic::{AtomicI32, AtomicU32, Ordering};
use mem::{Folio, OutOfMemory};
use task::WaitQueue;

/// Bytes of a sector, the unit of all addresses here whatever a device's own block size is.
pub const SECTOR: u64 = 512;
/// `1 << SECTOR_SHIFT` is [`SECTOR`].
pub const SECTOR_SHIFT: u32 = 9;

/// What is to be done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Op {
    Read,
    Write,
    /// Everything written before gets to the medium. Has no sectors.
    Flush,
    /// The contents of the sectors are no longer needed.
    Discard,
    /// The sectors read as zeroes afterwards.
    WriteZeroes,
}

impl Op {
    /// Whether it changes the medium.
    pub fn is_write(self) -> bool {
        matches!(self, Op::Write | Op::Discard | Op::WriteZeroes)
    }

    /// Whether it moves data.
    pub fn has_data(self) -> bool {
        matches!(self, Op::Read | Op::Write)
    }
}

bitflags! {
    /// More about a bio.
    #[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
    pub struct BioFlags: u32 {
        /// Somebody waits for it (reads always count as such).
        const SYNC = 1;
        /// A file system's metadata.
        const META = 2;
        /// A write that is complete only when it is on the medium itself.
        const FUA = 4;
        /// What was written (and completed) before gets to the medium first.
        const PREFLUSH = 8;
        /// Nobody needs it yet: may fail rather than wait.
        const RAHEAD = 16;
        /// Do not join it with others.
        const NOMERGE = 32;
        /// Call the [`EndBio`] in a kernel thread, where it may take any lock and sleep for short.
        const IN_THREAD = 64;
    }
}

/// A part of a folio.
#[derive(Clone, Debug)]
pub struct Segment {
    pub folio: Folio,
    pub offset: u32,
    pub len: u32,
}

impl Segment {
    /// Physical address of the first byte.
    pub fn phys(&self) -> u64 {
        self.folio.phys().0 + u64::from(self.offset)
    }
}

/// Who gets bios back.
pub trait EndBio: Send + Sync {
    /// The bio is done; [`Bio::result`] says how. Any context, also an interrupt handler's: `irq` locks above
    /// `BlockQueue` only, wake-ups, no sleep. With [`BioFlags::IN_THREAD`]: process context.
    fn ended(&self, bio: Box<Bio>);
}

/// One piece of I/O.
pub struct Bio {
    pub op: Op,
    pub flags: BioFlags,
    /// The first sector, counted from the start of the device it is submitted to.
    pub sector: u64,
    /// I/O priority as ioprio_set(2) takes it; 0: none. By default the task's that made the bio.
    pub prio: u16,
    /// Who asks: an I/O scheduler is fair between owners. By default the task that made the bio.
    pub owner: u64,
    /// For its [`EndBio`].
    pub cookie: u64,
    sectors: u32,
    segments: Vec<Segment>,
    pub(crate) end: Option<Arc<dyn EndBio>>,
    pub(crate) device: Option<Arc<BlockDevice>>,
    error: Option<Errno>,
}

impl Bio {
    /// A bio without sectors.
    pub fn new(op: Op, sector: u64) -> Result<Box<Bio>> {
        let task = task::current();
        let bio = Bio {
            op,
            flags: BioFlags::empty(),
            sector,
            prio: task.io_priority(),
            owner: task.id().0.into(),
            cookie: 0,
            sectors: 0,
            segments: Vec::new(),
            end: None,
            device: None,
            error: None,
        };
        Ok(Box::new(bio))
    }

    /// A bio for `sectors` sectors without data: discard or zeroing.
    pub fn without_data(op: Op, sector: u64, sectors: u32) -> Result<Box<Bio>> {
        let mut bio = Bio::new(op, sector)?;
        bio.sectors = sectors;
        Ok(bio)
    }

    /// A bio for part of one folio.
    pub fn with(op: Op, sector: u64, folio: &Folio, offset: usize, len: usize) -> Result<Box<Bio>> {
        let mut bio = Bio::new(op, sector)?;
        bio.push(folio, offset, len)?;
        Ok(bio)
    }

    /// Makes room for `segments` more pushes.
    pub fn reserve(&mut self, segments: usize) -> core::result::Result<(), OutOfMemory> {
        self.segments.try_reserve(segments).map_err(|_| OutOfMemory)
    }

    /// Adds `len` bytes of a folio, whole sectors. What follows the last piece in memory is joined to it.
    ///
    /// # Errors
    /// ENOMEM; EINVAL when it is no whole number of sectors or outside of the folio.
    pub fn push(&mut self, folio: &Folio, offset: usize, len: usize) -> Result<()> {
        let inside = offset <= folio.len() && len <= folio.len() - offset;
        let sectors = u32::try_from(len as u64 / SECTOR).ok().and_then(|more| self.sectors.checked_add(more));
        let (true, true, Some(sectors)) = (inside, (len as u64).is_multiple_of(SECTOR), sectors) else {
            return Err(Errno::EINVAL);
        };
        let (offset, len) = (offset as u32, len as u32);
        match self.segments.last_mut() {
            Some(last) if last.folio.ptr_eq(folio) && last.offset + last.len == offset => last.len += len,
            _ => {
                self.segments.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
                self.segments.push(Segment { folio: folio.clone(), offset, len });
            }
        }
        self.sectors = sectors;
        Ok(())
    }

    /// Who gets it back.
    pub fn set_end(&mut self, end: Arc<dyn EndBio>) {
        self.end = Some(end);
    }

    /// Number of sectors.
    pub fn sectors(&self) -> u32 {
        self.sectors
    }

    /// The sector after the last.
    pub fn end_sector(&self) -> u64 {
        self.sector.saturating_add(self.sectors.into())
    }

    /// The pieces of memory, in order.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The device it was submitted to.
    pub fn device(&self) -> Option<&Arc<BlockDevice>> {
        self.device.as_ref()
    }

    /// How it ended.
    pub fn result(&self) -> Result<()> {
        self.error.map_or(Ok(()), Err)
    }

    /// Gives it back to its submitter.
    pub(crate) fn complete(mut self: Box<Self>, result: Result<()>) {
        if let Err(error) = result {
            self.error.get_or_insert(error);
        }
        if self.flags.contains(BioFlags::IN_THREAD) {
            return crate::thread::defer(self);
        }
        self.call_end();
    }

    pub(crate) fn call_end(mut self: Box<Self>) {
        if let Some(end) = self.end.take() {
            end.ended(self);
        }
    }

    /// Takes the first `sectors` sectors off as a bio of their own, which has neither `end` nor flags of order.
    /// ENOMEM leaves it as it was.
    pub(crate) fn split_front(&mut self, sectors: u32) -> Result<Box<Bio>> {
        let mut front = Bio::without_data(self.op, self.sector, sectors)?;
        front.flags = self.flags;
        (front.prio, front.owner, front.device) = (self.prio, self.owner, self.device.clone());
        let mut left = (u64::from(sectors) * SECTOR) as u32;
        let mut whole = 0;
        for segment in &self.segments {
            if segment.len > left {
                break;
            }
            left -= segment.len;
            whole += 1;
        }
        front.segments.try_reserve_exact(whole + 1).map_err(|_| Errno::ENOMEM)?;
        front.segments.extend(self.segments.drain(..whole));
        if left > 0
            && let Some(cut) = self.segments.first_mut()
        {
            front.segments.push(Segment { len: left, ..cut.clone() });
            cut.offset += left;
            cut.len -= left;
        }
        self.sector += u64::from(sectors);
        self.sectors -= sectors;
        Ok(front)
    }
}

/// Any number of bios whose end one task waits for.
///
/// ```text
///   let batch = Batch::new();
///   let mut plug = Plug::new();
///   for .. { batch.submit(&mut plug, &device, bio) }
///   drop(plug);
///   batch.wait()?;
/// ```
pub struct Batch {
    under_way: AtomicU32,
    error: AtomicI32,
    done: WaitQueue,
}

impl Batch {
    pub fn new() -> Arc<Batch> {
        Arc::new(Batch {
            under_way: AtomicU32::new(0),
            error: AtomicI32::new(0),
            done: WaitQueue::new(&"submit_bio_wait"),
        })
    }

    /// Submits a bio as one of the batch. May sleep while the device's queue is full.
    pub fn submit(self: &Arc<Self>, plug: &mut Plug, device: &Arc<BlockDevice>, mut bio: Box<Bio>) {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        bio.end = Some(self.clone());
        plug.submit(device, bio);
    }

    /// Waits for all bios submitted so far; the first error that one of them had.
    pub fn wait(&self) -> Result<()> {
        self.done.wait(|| (self.under_way.load(Ordering::Acquire) == 0).then_some(()));
        Errno::from_number(self.error.load(Ordering::Relaxed)).map_or(Ok(()), Err)
    }
}

impl EndBio for Batch {
    fn ended(&self, bio: Box<Bio>) {
        if let Err(error) = bio.result() {
            let _ = self.error.compare_exchange(0, error.number(), Ordering::Relaxed, Ordering::Relaxed);
        }
        drop(bio);
        if self.under_way.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.done.wake_all();
        }
    }
}
