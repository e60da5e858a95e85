//! Handing out page frames: per-CPU lists over the zones, and what happens when they are empty.
//!
//! ```text
//!   alloc(0) -> this CPU's list -> (a batch) -> zone Normal, then DMA32 -> trim caches -> reclaim -> refuse
//! ```

use crate::frame::{Metadata, Pfn, frame, virt_of};
use crate::local::{CpuLocal, Init};
use crate::{AllocFlags, OutOfMemory, reclaim};
use buddy::{MAX_ORDER, NONE, Reserve, Zone, ZoneKind};
use core::sync::atomic::{AtomicU32, Ordering};
use sync::{SpinLock, levels};

/// DMA32 and Normal, in this order.
pub(crate) static ZONES: [SpinLock<Zone, levels::Zone>; 2] =
    [SpinLock::new(Zone::new(ZoneKind::Dma32, 0, 0)), SpinLock::new(Zone::new(ZoneKind::Normal, 0, 0))];

/// A CPU's own free frames, newest first, linked through `next`.
struct List {
    head: Pfn,
    count: u32,
}

impl Init for List {
    const INIT: List = List { head: NONE, count: 0 };
}

static LISTS: CpuLocal<List> = CpuLocal::new();

/// Frames moved between list and zone at once; set from the size of memory.
static BATCH: AtomicU32 = AtomicU32::new(4);
/// A list this many batches long gives one back.
const HIGH_BATCHES: u32 = 4;

pub(crate) fn set_batch(managed: u32) {
    BATCH.store((managed / 1024).clamp(4, 32), Ordering::Relaxed);
}

impl List {
    #[inline]
    fn pop(&mut self) -> Option<Pfn> {
        let pfn = self.head;
        if pfn == NONE {
            return None;
        }
        self.head = frame(pfn).next.load(Ordering::Relaxed);
        self.count -= 1;
        Some(pfn)
    }

    #[inline]
    fn push(&mut self, pfn: Pfn) {
        frame(pfn).next.store(self.head, Ordering::Relaxed);
        self.head = pfn;
        self.count += 1;
    }

    #[cold]
    fn refill(&mut self, reserve: Reserve) {
        let batch = BATCH.load(Ordering::Relaxed);
        for zone in ZONES.iter().rev() {
            let mut zone = zone.lock();
            if zone.is_below_high() {
                reclaim::note_pressure();
            }
            while self.count < batch {
                let Some(pfn) = zone.alloc(&mut Metadata, 0, reserve) else { break };
                self.push(pfn);
            }
        }
    }

    #[cold]
    fn drain(&mut self, count: u32) {
        for _ in 0..count {
            let Some(pfn) = self.pop() else { return };
            free_to_zone(pfn, 0);
        }
    }
}

/// Takes 2^`order` frames, or `None`: never sleeps, never reclaims. Contents are whatever was there.
#[inline]
pub(crate) fn try_alloc(order: u8, flags: AllocFlags) -> Option<Pfn> {
    let reserve = flags.reserve();
    if order == 0 && !flags.contains(AllocFlags::DMA32) {
        let local = LISTS.with(|list| {
            if list.head == NONE {
                list.refill(reserve);
            }
            list.pop()
        });
        if let Some(found) = local {
            return found;
        }
    }
    alloc_from_zones(order, reserve, flags)
}

fn alloc_from_zones(order: u8, reserve: Reserve, flags: AllocFlags) -> Option<Pfn> {
    if order > MAX_ORDER {
        return None;
    }
    let only_low = flags.contains(AllocFlags::DMA32);
    let zones = ZONES.iter().rev().skip(usize::from(only_low));
    zones.into_iter().find_map(|zone| zone.lock().alloc(&mut Metadata, order, reserve))
}

/// Takes 2^`order` frames; waits for reclaim where the flags and the context allow it.
#[inline]
pub(crate) fn alloc(order: u8, flags: AllocFlags) -> Result<Pfn, OutOfMemory> {
    let pfn = match try_alloc(order, flags) {
        Some(pfn) => pfn,
        None => alloc_slowly(order, flags)?,
    };
    if flags.contains(AllocFlags::USER) && reclaim::is_pressed() {
        reclaim::tell();
    }
    if flags.contains(AllocFlags::ZERO) {
        // SAFETY: 1. the frames were just allocated, so they are this caller's; 2. the direct map maps all RAM.
        unsafe { crate::bytes::zero_pages(virt_of(pfn), 1 << order) };
    }
    Ok(pfn)
}

#[cold]
#[inline(never)]
fn alloc_slowly(order: u8, flags: AllocFlags) -> Result<Pfn, OutOfMemory> {
    drain_local();
    if let Some(pfn) = try_alloc(order, flags) {
        return Ok(pfn);
    }
    if flags.contains(AllocFlags::ATOMIC) || sync::preempt::in_atomic() {
        return Err(OutOfMemory);
    }
    crate::cache::flush_local();
    crate::stack::trim();
    crate::walk::trim();
    drain_local();
    loop {
        if let Some(pfn) = try_alloc(order, flags) {
            return Ok(pfn);
        }
        reclaim::run(1 << order)?;
    }
}

/// Gives 2^`order` frames back that were allocated with this order, or a naturally aligned part of such.
#[inline]
pub(crate) fn free(pfn: Pfn, order: u8) {
    if order == 0 {
        let kept = LISTS.with(|list| {
            frame(pfn).set_kind(crate::frame::Kind::None, 0);
            list.push(pfn);
            let batch = BATCH.load(Ordering::Relaxed);
            if list.count > batch * HIGH_BATCHES {
                list.drain(batch);
            }
        });
        if kept.is_some() {
            return;
        }
    }
    free_to_zone(pfn, order);
}

/// Single frames on their way back, linked like a CPU's list: it takes all of them at once.
pub(crate) struct Chain {
    head: Pfn,
    tail: Pfn,
    count: u32,
}

impl Chain {
    pub(crate) const fn new() -> Chain {
        Chain { head: NONE, tail: NONE, count: 0 }
    }

    /// Adds a frame that nobody uses any more.
    #[inline]
    pub(crate) fn push(&mut self, pfn: Pfn) {
        let record = frame(pfn);
        record.set_kind(crate::frame::Kind::None, 0);
        record.next.store(self.head, Ordering::Relaxed);
        if self.head == NONE {
            self.tail = pfn;
        }
        self.head = pfn;
        self.count += 1;
    }
}

impl Drop for Chain {
    /// Gives the frames back.
    #[inline]
    fn drop(&mut self) {
        if self.count > 0 {
            free_chain(self);
        }
    }
}

#[inline(never)]
fn free_chain(chain: &Chain) {
    let kept = LISTS.with(|list| {
        frame(chain.tail).next.store(list.head, Ordering::Relaxed);
        list.head = chain.head;
        list.count += chain.count;
        let batch = BATCH.load(Ordering::Relaxed);
        if list.count > batch * HIGH_BATCHES {
            list.drain(list.count - batch * (HIGH_BATCHES - 1));
        }
    });
    if kept.is_none() {
        let mut list = List { head: chain.head, count: chain.count };
        list.drain(u32::MAX);
    }
}

fn free_to_zone(pfn: Pfn, order: u8) {
    // The ranges are fixed after boot and do not overlap: the second zone begins where the first ends.
    for zone in ZONES.iter().rev() {
        let mut zone = zone.lock();
        if zone.buddy().contains(pfn) {
            zone.free(&mut Metadata, pfn, order);
            return;
        }
    }
}

/// Gives frames back that need not be a block: `start..end` in the largest aligned pieces.
pub(crate) fn free_range(start: Pfn, end: Pfn) {
    let mut at = start;
    while at < end {
        let order = (at.trailing_zeros() as u8).min((end - at).ilog2() as u8).min(MAX_ORDER);
        free(at, order);
        at += 1 << order;
    }
}

/// Empties this CPU's list into the zones, so that blocks can merge.
pub(crate) fn drain_local() {
    LISTS.with(|list| list.drain(u32::MAX));
}

/// Free frames in zones and per-CPU lists.
pub(crate) fn free_frames() -> usize {
    let zones: usize = ZONES.iter().map(|zone| zone.lock().buddy().free_frames() as usize).sum();
    zones + listed_frames()
}

/// Frames in the per-CPU lists.
pub(crate) fn listed_frames() -> usize {
    let count = |cpu| {
        // SAFETY: 1. one aligned word is read; a stale count is only a statistic.
        unsafe { LISTS.peek(cpu, |list| (&raw const (*list).count).read_volatile() as usize) }
    };
    (0..arch::cpu::count()).map(count).sum()
}
