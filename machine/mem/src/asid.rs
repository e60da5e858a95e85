//! Address-space identifiers: which of the processor's few tags a user table has.
//!
//! Tags are handed out in order; when they run out a new *generation* begins, every CPU flushes its whole
//! TLB before it next runs a table, and tables get new tags as they are activated (the scheme of Linux's
//! arm64). A table's context word is generation and tag together; generation 0 means "none yet".

use arch::{MAX_CPUS, cpu, mmu};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use sync::{SpinLock, levels};

const TAG_BITS: u32 = 16;
const TAG_MASK: u64 = (1 << TAG_BITS) - 1;

static GENERATION: AtomicU64 = AtomicU64::new(1 << TAG_BITS);
/// The context each CPU runs; 0 after a new generation took it away.
static ACTIVE: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

struct Tags {
    next: u64,
    /// The contexts that CPUs ran when the generation began: their tags stay theirs.
    reserved: [u64; MAX_CPUS],
    /// CPUs that have to flush everything before they run another table.
    flush: u64,
}

static TAGS: SpinLock<Tags, levels::Vmalloc> =
    SpinLock::new(Tags { next: 1, reserved: [0; MAX_CPUS], flush: 0 });

static IN_USE: AtomicBool = AtomicBool::new(false);

/// Decides whether tables get tags at all: with fewer tags than two per CPU they would only change hands.
pub(crate) fn init() {
    let enough = mmu::asid_bits() > 0 && (1usize << mmu::asid_bits().min(TAG_BITS)) > 2 * cpu::count();
    IN_USE.store(enough, Ordering::Relaxed);
}

#[inline]
pub(crate) fn in_use() -> bool {
    IN_USE.load(Ordering::Relaxed)
}

/// The tag for running a table with context word `context` on this CPU; interrupts off.
pub(crate) fn activate(context: &AtomicU64) -> u16 {
    if !in_use() {
        return 0;
    }
    let cpu = cpu::id();
    let current = context.load(Ordering::Relaxed);
    let same_generation = current >> TAG_BITS == GENERATION.load(Ordering::Acquire) >> TAG_BITS;
    if same_generation && ACTIVE[cpu].swap(current, Ordering::AcqRel) != 0 {
        return (current & TAG_MASK) as u16;
    }
    activate_slowly(context, cpu)
}

#[cold]
fn activate_slowly(context: &AtomicU64, cpu: usize) -> u16 {
    let mut tags = TAGS.lock();
    let mut current = context.load(Ordering::Relaxed);
    if current >> TAG_BITS != GENERATION.load(Ordering::Relaxed) >> TAG_BITS {
        current = tags.renew(current);
        context.store(current, Ordering::Relaxed);
    }
    if tags.flush & (1 << cpu) != 0 {
        tags.flush &= !(1 << cpu);
        mmu::flush_all();
    }
    ACTIVE[cpu].store(current, Ordering::Release);
    (current & TAG_MASK) as u16
}

impl Tags {
    fn renew(&mut self, old: u64) -> u64 {
        let generation = GENERATION.load(Ordering::Relaxed);
        if old != 0
            && let Some(kept) = self.reserved.iter_mut().find(|kept| **kept == old)
        {
            *kept = generation | old & TAG_MASK;
            return *kept;
        }
        loop {
            let limit = 1 << mmu::asid_bits().min(TAG_BITS);
            while self.next < limit {
                let tag = self.next;
                self.next += 1;
                if !self.reserved.iter().any(|&kept| kept != 0 && kept & TAG_MASK == tag) {
                    return GENERATION.load(Ordering::Relaxed) | tag;
                }
            }
            self.new_generation();
        }
    }

    fn new_generation(&mut self) {
        GENERATION.fetch_add(1 << TAG_BITS, Ordering::AcqRel);
        for (reserved, active) in self.reserved.iter_mut().zip(&ACTIVE) {
            match active.swap(0, Ordering::AcqRel) {
                0 => {} // it has not run since the last generation: what was reserved then stays so
                context => *reserved = context,
            }
        }
        self.next = 1;
        self.flush = u64::MAX;
    }
}

/// The tag to flush by; 0 when the table has none (or none of this generation: nothing is cached then
/// that survives).
pub(crate) fn tag_of(context: &AtomicU64) -> u16 {
    if in_use() { (context.load(Ordering::Relaxed) & TAG_MASK) as u16 } else { 0 }
}
