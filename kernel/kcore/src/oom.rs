//! Out of memory: choosing a process to kill, and the report that Linux writes.

use crate::Result;
use crate::process::{Process, ProcessState};
use crate::signal::{self, SigInfo};
use crate::{Thread, pid, work};
use abi::Errno;
use abi::signal::SIGKILL;
use alloc::sync::Arc;
use core::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use klog::{pr_err, pr_warn};
use sync::SpinLock;
use sync::levels::Leaf;
use task::WaitMode;

/// A process with this `oom_score_adj` is never chosen.
pub const SCORE_ADJ_MIN: i32 = -1000;
pub const SCORE_ADJ_MAX: i32 = 1000;

/// How long a victim may take to end before another is chosen.
const PATIENCE_NS: u64 = 5_000_000_000;
const STEP_NS: u64 = 5_000_000;

static KILLS: AtomicU64 = AtomicU64::new(0);
static VICTIM: SpinLock<Option<Victim>, Leaf> = SpinLock::new(None);
/// The task that is choosing, or none. Writing the report takes long: who chose meanwhile took the next one, and so on
/// down to the shell.
static CHOOSER: AtomicU32 = AtomicU32::new(NOBODY);
const NOBODY: u32 = u32::MAX;
/// How long an allocation that fails beside free memory does not cost a process; since when and when last that was so.
const SPARE_NS: u64 = 2_000_000_000;
const PAUSE_NS: u64 = 200_000_000;
static SPARED_SINCE_NS: AtomicU64 = AtomicU64::new(0);
static SPARED_LAST_NS: AtomicU64 = AtomicU64::new(0);
/// The last victim did not end in time.
static LAST_WAS_LATE: AtomicBool = AtomicBool::new(false);

struct Victim {
    process: Arc<Process>,
    since_ns: u64,
}

/// Processes killed since boot (oom_kill in /proc/vmstat).
pub fn kill_total() -> u64 {
    KILLS.load(Relaxed)
}

/// The reclaimer of last resort (`mem::set_reclaimer`): kills, lets the victim end, and says that trying
/// again is worthwhile. 0: nothing can be done, the allocation fails. May sleep.
pub fn reclaim(pages_wanted: usize) -> usize {
    if task::current().fatal_pending() {
        return 0;
    }
    let free_before = mem::free_pages();
    if !out_of_memory(0) {
        return 0;
    }
    let free_now = mem::free_pages();
    free_now.saturating_sub(free_before).max(usize::from(free_now > pages_wanted))
}

/// There is no memory for an allocation of `order`: kills the largest process, or gives the one that is
/// being killed time to end. False when there is nobody to kill. May sleep.
pub fn out_of_memory(order: usize) -> bool {
    if let Some(victim) = current_victim() {
        wait_for(&victim);
        return true;
    }
    let Some(turn) = Turn::take() else {
        pause();
        return true;
    };
    // Choosing may take long, and everybody who was large at its beginning may be ending by now: look around after it.
    let candidate = choose();
    if enough_by_now() {
        return true;
    }
    let victim = current_victim().or_else(leaving).or_else(|| kill(candidate, order));
    drop(turn);
    if let Some(victim) = &victim {
        wait_for(victim);
    }
    victim.is_some()
}

/// Kills the largest process, short of memory or not (SysRq-f). False when there is nobody to kill. May sleep.
pub fn kill_largest() -> bool {
    let victim = kill(choose(), 0);
    if let Some(victim) = &victim {
        wait_for(victim);
    }
    victim.is_some()
}

/// Whether others have freed enough since the allocation failed: then nobody needs to die. But not for longer than
/// [`SPARE_NS`] without a pause: what fails then is an allocation of more pages together than there are.
fn enough_by_now() -> bool {
    if mem::short_pages() > 0 {
        return false;
    }
    let now_ns = time::monotonic_ns();
    let last_ns = SPARED_LAST_NS.swap(now_ns, Relaxed);
    if now_ns.saturating_sub(last_ns) > PAUSE_NS {
        SPARED_SINCE_NS.store(now_ns, Relaxed);
    }
    if now_ns.saturating_sub(SPARED_SINCE_NS.load(Relaxed)) < SPARE_NS {
        return true;
    }
    SPARED_LAST_NS.store(0, Relaxed);
    false
}

/// A process that is ending anyway and has not given back its memory, as the victim: nobody else needs to die for that.
/// None after one that took too long.
fn leaving() -> Option<Arc<Process>> {
    if LAST_WAS_LATE.swap(false, Relaxed) {
        return None;
    }
    let mut found = None;
    pid::for_each_process(|process| {
        let ends = process.exiting.load(SeqCst) && process.state() == ProcessState::Alive;
        if found.is_none() && ends && !process.is_kernel && process.mm().is_some() {
            found = Some(process.clone());
        }
    });
    let process = found?;
    *VICTIM.lock() = Some(Victim { process: process.clone(), since_ns: time::monotonic_ns() });
    Some(process)
}

/// The right to choose a victim.
struct Turn {
    nested: bool,
}

impl Turn {
    /// `None` while another task has it. Who has it may need memory for the report, and then chooses once more.
    fn take() -> Option<Turn> {
        let me = task::current().id().0;
        match CHOOSER.compare_exchange(NOBODY, me, Acquire, Relaxed) {
            Ok(_) => Some(Turn { nested: false }),
            Err(chooser) => (chooser == me).then_some(Turn { nested: true }),
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if !self.nested {
            CHOOSER.store(NOBODY, Release);
        }
    }
}

/// The process that is on its way out, unless it takes too long.
fn current_victim() -> Option<Arc<Process>> {
    let (process, since_ns) = {
        let slot = VICTIM.lock();
        let victim = slot.as_ref()?;
        (victim.process.clone(), victim.since_ns)
    };
    // A zombie: its memory and what its descriptors held are free. Without its address space alone it may not have
    // freed that yet.
    let gone = process.state() != ProcessState::Alive;
    let late = time::monotonic_ns().saturating_sub(since_ns) > PATIENCE_NS;
    if !gone && !late {
        return Some(process);
    }
    LAST_WAS_LATE.store(late && !gone, Relaxed);
    let old = VICTIM.lock().take_if(|victim| Arc::ptr_eq(&victim.process, &process));
    drop(old);
    None
}

/// Waits a moment for the victim's memory. The caller itself being the victim, it must go on to die.
fn wait_for(victim: &Arc<Process>) {
    for _ in 0..20 {
        if victim.state() != ProcessState::Alive || task::current().fatal_pending() {
            return;
        }
        pause();
    }
}

fn pause() {
    let deadline_ns = time::monotonic_ns() + STEP_NS;
    let _ = task::wait_alone::<()>(&"oom_kill", WaitMode::Killable, Some(deadline_ns), || None);
}

/// process_mrelease(2): takes the private memory of a process that is ending. ESRCH when it has none any more; EINVAL
/// for one that is to live, or whose memory somebody uses who is.
pub fn release_memory(process: &Arc<Process>) -> Result<()> {
    let mm = process.mm().ok_or(Errno::ESRCH)?;
    let mut lives = false;
    pid::for_each_process(|other| {
        lives |= other.has_mm(&mm) && !other.exiting.load(SeqCst) && other.signals.lock().exit.is_none();
    });
    if lives {
        return Err(Errno::EINVAL);
    }
    mm.reap();
    Ok(())
}

/// Points of a process: resident pages, pages in swap, page tables, and what its descriptors hold, moved by
/// `oom_score_adj` thousandths of memory and swap. But for the descriptors, Linux's oom_badness.
/// `None`: not to be killed.
pub fn points(process: &Process) -> Option<i64> {
    let adjust = process.oom_score_adj.load(Relaxed);
    if process.is_kernel || process.is_init() || adjust == SCORE_ADJ_MIN || process.exiting.load(SeqCst) {
        return None;
    }
    let mm = process.mm()?;
    let footprint = mm.footprint();
    let pages = footprint.pages() as i64 + held_pages(process) as i64;
    Some((pages + i64::from(adjust) * (total_pages() / 1000)).max(1))
}

/// Memory and swap together, in pages.
fn total_pages() -> i64 {
    mem::total_bytes() as i64 / arch::PAGE_SIZE as i64 + vm::swap::totals().0 as i64
}

/// Kernel memory that goes with the process, roughly: what its descriptors hold.
///
/// Linux leaves it out, and then kills everybody but the program that opens pipes for ever, or writes to a memory file.
fn held_pages(process: &Process) -> u64 {
    /// A file, its inode and its directory entry, in bytes.
    const FILE_BYTES: u64 = 800;
    let Some(files) = process.main_thread().and_then(|thread| thread.files()) else { return 0 };
    let mut bytes = 0;
    let mut from = 0;
    while let Some(fd) = files.next(from) {
        from = fd + 1;
        if let Ok(file) = files.get_any(fd as i32) {
            bytes += FILE_BYTES + file.ops().held_bytes(&file);
        }
    }
    bytes / arch::PAGE_SIZE as u64
}

/// `oom_score` of /proc, 0 to 1333 or so.
pub fn score(process: &Process) -> i64 {
    points(process).map_or(0, |points| (1000 + points * 1000 / total_pages().max(1)) * 2 / 3)
}

fn choose() -> Option<(Arc<Process>, i64)> {
    let mut best: Option<(Arc<Process>, i64)> = None;
    pid::for_each_process(|process| {
        if let Some(points) = points(process)
            // Of equals the youngest goes, as on Linux: a bomb rather than the shell that lit it.
            && best.as_ref().is_none_or(|(_, most)| points >= *most)
        {
            best = Some((process.clone(), points));
        }
    });
    best
}

/// Kills whom [`choose`] found, and says so.
fn kill(candidate: Option<(Arc<Process>, i64)>, order: usize) -> Option<Arc<Process>> {
    let Some((victim, points)) = candidate else {
        pr_err!("Out of memory and no killable processes...");
        return None;
    };
    if let Some(thread) = victim.main_thread() {
        report(&victim, &thread, points, order);
        KILLS.fetch_add(1, Relaxed);
        SPARED_LAST_NS.store(0, Relaxed);
        *VICTIM.lock() = Some(Victim { process: victim.clone(), since_ns: time::monotonic_ns() });
        let _ = signal::send_forced(&victim, SigInfo::kernel(SIGKILL));
        debug_assert!(thread.work() & work::EXIT != 0 || victim.state() != ProcessState::Alive);
    }
    Some(victim)
}

fn report(victim: &Process, thread: &Thread, points: i64, order: usize) {
    let invoker = Thread::current().map_or_else(|| task::current().name(), |t| t.comm());
    pr_warn!("{invoker} invoked oom-killer: gfp_mask=0x0, order={order}, oom_score_adj=0");
    report_memory();
    let kib = |pages: u64| pages * (arch::PAGE_SIZE as u64 / 1024);
    let usage = victim.mm().map(|mm| mm.footprint()).unwrap_or_default();
    pr_err!(
        "Out of memory: Killed process {} ({}) anon-rss:{}kB, file-rss:{}kB, shmem-rss:{}kB, swap:{}kB, UID:{} \
         pgtables:{}kB oom_score_adj:{} points:{points}",
        victim.pid(),
        thread.comm(),
        kib(usage.anon),
        kib(usage.file),
        kib(usage.shmem),
        kib(usage.swap),
        thread.cred().uid,
        kib(usage.tables),
        victim.oom_score_adj.load(Relaxed)
    );
}

/// The list of who uses what.
fn report_memory() {
    pr_warn!("free:{} pages of {}", mem::free_pages(), mem::total_bytes() / arch::PAGE_SIZE);
    pr_warn!("[  pid  ]   uid  tgid      rss   tables     swap oom_score_adj name");
    pid::for_each_process(|process| {
        let Some(mm) = process.mm() else { return };
        let Some(thread) = process.main_thread() else { return };
        let usage = mm.footprint();
        pr_warn!(
            "[{:>7}] {:>5} {:>5} {:>8} {:>8} {:>8} {:>13} {}",
            process.pid(),
            thread.cred().uid,
            process.pid(),
            usage.anon + usage.file + usage.shmem,
            usage.tables,
            usage.swap,
            process.oom_score_adj.load(Relaxed),
            thread.comm()
        );
    });
}
