//! What is done when memory is short, in which order, by whom; and the knobs of it.
//!
//! **Problem.** Memory should be used up, by caches, and yet be there when a program wants some.
//!
//! **Interface.** [`init`] takes the replacement policies, starts `kswapd0` and the common flusher, and registers
//! `/proc/sys/vm/*` and `/sys/kernel/mm/reclaim/*`. [`direct`] is what an allocation calls that would fail.
//!
//! **Idea.** As in Linux, three marks on the free memory of each zone:
//!
//! ```text
//!   high   kswapd0 sleeps above it
//!   low    allocations for programs and caches below it reclaim themselves (direct)
//!   min    the kernel's own
//! ```
//!
//! An allocation that sees a zone below `high` wakes `kswapd0`. Both take file pages through the policy and, in
//! proportion, names from the dentry cache; kswapd0 alone swaps private pages and memory objects out, because it
//! alone holds no lock that the device might need. Where all that is left is dirty, they wait for the flushers; when
//! nothing can be had however long one waits, the caller's last resort (the OOM killer) has its turn.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod knobs;

use abi::errno::Result;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use reclaim_api::PolicyInfo;
use sync::Once;
use task::{NewTask, WaitMode, WaitQueue};
use vm::AddressSpace;

/// Pages that a reclaiming allocation frees at least (Linux's SWAP_CLUSTER_MAX).
const CLUSTER: usize = 32;
/// Rounds without a page before reclaim counts as hopeless (Linux's MAX_RECLAIM_RETRIES).
const TRIES: usize = 16;
/// Waits of [`STEP_NS`] for devices at most before reclaim counts as hopeless all the same.
const LONGEST: usize = 1500;
/// How long to wait for the flushers each time.
const STEP_NS: u64 = 20_000_000;
/// Page-table entries looked at in one round of swapping out.
const BUDGET: usize = 65_536;

static KSWAPD: WaitQueue = WaitQueue::new(&"kswapd");
/// Allocations that wait for kswapd0.
static FREED: WaitQueue = WaitQueue::new(&"reclaim_throttle");
/// kswapd0 is at work; and how often it has tried each way to free pages.
static AWAKE: AtomicBool = AtomicBool::new(false);
static ROUNDS: AtomicU64 = AtomicU64::new(0);
static WANTED: AtomicBool = AtomicBool::new(false);
/// Times that an allocation had to reclaim itself, and that kswapd0 woke (allocstall, pageoutrun).
static STALLS: AtomicU64 = AtomicU64::new(0);
static RUNS: AtomicU64 = AtomicU64::new(0);

/// Finds the address space of the process with the lowest number from `from` on, and the number to go on with;
/// a process may have none.
pub type NextSpace = fn(from: u32) -> Option<(u32, Option<Arc<AddressSpace>>)>;

static SPACES: Once<NextSpace> = Once::new();

/// Says how address spaces are found, for swapping out. Boot, once.
pub fn set_spaces(next: NextSpace) {
    let _ = SPACES.set(next);
}

/// Sets everything up. Boot, once, when threads can run and before files are read. ENOMEM.
pub fn init(policies: &'static [PolicyInfo]) -> Result<()> {
    vm::reclaim::init(policies, mem::stats().total_pages)?;
    vm::writeback::start()?;
    knobs::register();
    NewTask::kernel("kswapd0", Box::new(kswapd)).spawn()?;
    mem::set_pressure_hook(wake);
    Ok(())
}

/// A zone is below its high mark. Any task that may sleep, without spin locks.
fn wake() {
    if !WANTED.swap(true, Ordering::AcqRel) {
        KSWAPD.wake_all();
    }
}

fn kswapd() {
    loop {
        let wanted = || WANTED.swap(false, Ordering::AcqRel).then_some(());
        if KSWAPD.wait_until(WaitMode::Idle, None, wanted).is_err() {
            continue;
        }
        RUNS.fetch_add(1, Ordering::Relaxed);
        AWAKE.store(true, Ordering::Release);
        balance();
        AWAKE.store(false, Ordering::Release);
    }
}

/// Reclaims until every zone is above its high mark, or it does not help.
fn balance() {
    let mut failures = 0;
    while failures < TRIES {
        let short = mem::short_pages();
        if short == 0 {
            return;
        }
        let wanted = short.max(CLUSTER);
        let freed = take(wanted);
        // What files do not give, private pages give: all of it, or the share that swappiness says, of
        // what is not cache anyway.
        let share = if freed == 0 { wanted } else { private_share(wanted) };
        let swapped = take_private(share);
        ROUNDS.fetch_add(1, Ordering::AcqRel);
        if freed + swapped > 0 {
            failures = 0;
            FREED.wake_all();
            continue;
        }
        failures += 1;
        if !writing() {
            return;
        }
        let deadline = arch::timer::now_ns().saturating_add(STEP_NS);
        let _ = task::wait_alone(&"reclaim_throttle", WaitMode::Idle, Some(deadline), || None::<()>);
    }
}

/// How much of `wanted` should come from swap while files still give: by swappiness, and by how much of memory is no
/// file's cache.
fn private_share(wanted: usize) -> usize {
    let total = mem::total_bytes() / arch::PAGE_SIZE;
    let cache = vm::stats::snapshot();
    let files = cache.cached.saturating_sub(cache.shmem) as usize;
    reclaim_api::private_share(wanted, knobs::swappiness(), total, files)
}

/// Frees pages from all that can be given back; says about how many.
fn take(wanted: usize) -> usize {
    // Twice round is enough: the first round may only find out what is used.
    let budget = vm::stats::snapshot().cached as usize * 2 + CLUSTER;
    let freed = vm::reclaim::shrink(wanted, budget);
    // Names, and blocks of metadata, go in proportion to what files gave, by vfs_cache_pressure; all of them when files
    // gave nothing.
    let share = if freed == 0 { wanted } else { freed.min(wanted) / 8 };
    let share = share * knobs::cache_pressure() / 100;
    freed + vfs::shrink(share) + vm::reclaim::shrink_caches(share)
}

/// Swaps out `wanted` pages that no file on a device holds. Memory objects give their share of those, programs'
/// private pages the rest; what one kind lacks the other gives. kswapd0 only: it waits for the device and holds
/// nothing.
fn take_private(wanted: usize) -> usize {
    if wanted == 0 || !vm::swap::is_on() {
        return 0;
    }
    let shmem = vm::stats::snapshot().shmem as usize;
    let share = (wanted * shmem / (shmem + private_pages()).max(1)).min(wanted);
    let mut gone = vm::swap::swap_out_objects(share, &mut { BUDGET });
    gone += take_from_programs(wanted - gone.min(wanted));
    gone + vm::swap::swap_out_objects(wanted - gone.min(wanted), &mut { BUDGET })
}

/// Pages that are neither free nor cache: about what programs have for themselves.
fn private_pages() -> usize {
    let used = (mem::total_bytes() / arch::PAGE_SIZE).saturating_sub(mem::free_pages());
    used.saturating_sub(vm::stats::snapshot().cached as usize)
}

/// Swaps private pages out, process after process from where the last call stopped.
fn take_from_programs(wanted: usize) -> usize {
    static CURSOR: AtomicU32 = AtomicU32::new(1);
    let Some(next) = SPACES.get() else { return 0 };
    let (mut gone, mut budget, mut wraps) = (0, BUDGET, 0);
    while gone < wanted && budget > 0 && wraps < 2 {
        let from = CURSOR.load(Ordering::Relaxed);
        let Some((after, space)) = next(from) else {
            CURSOR.store(1, Ordering::Relaxed);
            wraps += 1;
            continue;
        };
        // The same process again while it gives enough.
        let before = gone;
        if let Some(space) = space {
            gone += vm::swap::swap_out(&space, wanted - gone, &mut budget);
        }
        if gone == before || gone < wanted {
            CURSOR.store(after, Ordering::Relaxed);
        }
    }
    gone
}

/// Whether waiting may help.
fn writing() -> bool {
    vm::stats::dirty_pages() + vm::stats::writeback_pages() > 0
}

/// Waits until somebody has freed pages since `before`, a moment at most: the flushers tell nobody.
fn wait_for_progress(before: u64) {
    let deadline = arch::timer::now_ns().saturating_add(STEP_NS);
    let changed = || (vm::reclaim::progress() != before).then_some(());
    let _ = FREED.wait_until(WaitMode::Killable, Some(deadline), changed);
}

/// Direct reclaim: an allocation of `pages` pages would fail. Returns how many were freed; 0: nothing can be
/// had by waiting. Takes no sleeping lock, as the allocating task may hold any.
///
/// Hopeless is what failed [`TRIES`] times with nothing under way: how long a device or kswapd0 takes for what they
/// are at says nothing.
pub fn direct(pages: usize) -> usize {
    STALLS.fetch_add(1, Ordering::Relaxed);
    wake();
    let (mut tries, mut waits) = (0, 0);
    while tries < TRIES && waits < LONGEST {
        let (before, rounds) = (vm::reclaim::progress(), ROUNDS.load(Ordering::Acquire));
        let freed = take(pages.max(CLUSTER));
        if freed > 0 {
            return freed;
        }
        let swapping = vm::swap::is_on() && vm::swap::has_room();
        if task::current().fatal_pending() || !(writing() || swapping) {
            return 0;
        }
        wait_for_progress(before);
        if vm::reclaim::progress() != before {
            return CLUSTER;
        }
        // kswapd0 or a program that ended may have been faster.
        if mem::short_pages() == 0 {
            return CLUSTER;
        }
        waits += 1;
        if !under_way(rounds) {
            tries += 1;
        }
        wake();
    }
    0
}

/// Whether pages are on their way to a device, or kswapd0 is still in the round that it was in.
fn under_way(rounds: u64) -> bool {
    vm::stats::writeback_pages() + vm::stats::swap_cached_pages() > 0
        || AWAKE.load(Ordering::Acquire) && ROUNDS.load(Ordering::Acquire) == rounds
}

/// Allocations that had to reclaim themselves, and rounds of kswapd0.
pub fn runs() -> (u64, u64) {
    (STALLS.load(Ordering::Relaxed), RUNS.load(Ordering::Relaxed))
}
