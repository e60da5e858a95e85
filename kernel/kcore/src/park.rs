//! Parking: a thread is taken off the CPU by hand and put back by hand (the lab's second experiment).
//!
//! **Problem.** To see what a program does without one of its threads, that thread must stand still, without
//! the side effects of a stop signal: nobody is told, the other threads run on, its own signals wait.
//!
//! **Interface.** [`park`] and [`unpark`]; [`parked`] lists who stands. `/proc/lab/parked` shows the number of
//! parked threads, then one line each: number, process, name.
//!
//! **Idea.** A parked thread sleeps in the kernel on a wait queue of its own, on its way to user mode: there it
//! holds no lock and its registers are saved, so it can also be killed there.
//!
//! ```text
//!   park:    work PARK, sleep or user mode interrupted
//!   thread:  on its way to user mode, before it looks at signals: sleeps (state D, wchan lab_park)
//!   unpark:  work PARK cleared, woken                 SIGKILL, exec or exit of another thread: woken, ends
//! ```
//!
//! A thread in an uninterruptible sleep, or stopped, parks when that ends. A sleeping system call is made again
//! after parking; the few that never restart (signal(7)) return EINTR, as after SIGSTOP and SIGCONT.

use crate::thread::{Thread, work};
use crate::{Pid, Result, pid};
use abi::Errno;
use alloc::string::String;
use alloc::sync::Arc;
use core::fmt::Write;
use core::sync::atomic::AtomicUsize;
use core::sync::atomic::Ordering::SeqCst;
use kernfs::{PROC, text};
use task::WaitMode;

/// Threads that stand parked.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// Counts a parked thread for as long as it lives.
struct Counted<'a>(&'a Thread);

impl<'a> Counted<'a> {
    fn new(thread: &'a Thread) -> Counted<'a> {
        thread.parked.store(true, SeqCst);
        COUNT.fetch_add(1, SeqCst);
        Counted(thread)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.parked.store(false, SeqCst);
        COUNT.fetch_sub(1, SeqCst);
    }
}

/// Registers the file. Boot.
pub fn init() {
    PROC.add("lab/parked", text(|out| show(out)));
}

/// Has the thread park as soon as it is about to return to user mode; one that is asked already is left as it
/// is. May be the caller's own. EINVAL for kernel threads.
pub fn park(thread: &Arc<Thread>) -> Result<()> {
    if thread.process().is_kernel {
        return Err(Errno::EINVAL);
    }
    thread.interrupt(work::PARK, false);
    Ok(())
}

/// Lets the thread run again. EINVAL when nobody had it parked.
pub fn unpark(thread: &Arc<Thread>) -> Result<()> {
    if !thread.take_work(work::PARK) {
        return Err(Errno::EINVAL);
    }
    thread.parking.wake_all();
    Ok(())
}

/// Stands until unparked or killed. Called by the thread itself, asked by work PARK.
pub(crate) fn stand(thread: &Thread) {
    let _counted = Counted::new(thread);
    let unparked = || (thread.work() & work::PARK == 0).then_some(());
    // A fatal signal ends it too; the caller looks at its work again.
    let _ = thread.parking.wait_until(WaitMode::Killable, None, unparked);
}

/// Calls `each` with the numbers of the parked threads and of their processes; how many there are. One on its way
/// to sleep does not count yet: who finds a thread here finds it in state D and its CPU time at rest.
pub fn parked(mut each: impl FnMut(Pid, Pid, &Thread)) -> usize {
    if COUNT.load(SeqCst) == 0 {
        return 0;
    }
    let mut count = 0;
    pid::for_each_process(|process| {
        for thread in
            process.threads().iter().filter(|thread| thread.parked.load(SeqCst) && thread.is_off_cpu())
        {
            count += 1;
            each(thread.tid(), process.pid(), thread);
        }
    });
    count
}

fn show(out: &mut dyn Write) -> core::fmt::Result {
    let mut lines = String::new();
    let count = parked(|tid, pid, thread| {
        let _ = writeln!(lines, "{tid} {pid} {}", thread.comm()); // writing to a String does not fail
    });
    write!(out, "{count}\n{lines}")
}
