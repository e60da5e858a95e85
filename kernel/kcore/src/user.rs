//! The loop in which a user thread lives.
//!
//! ```text
//!  loop { run in user mode
//!         system call -> table[number](ctx)        fault -> memory or a signal      interrupt -> maybe switch
//!         anything to do? (one word) -> signals, stops, the end
//!       }
//! ```
//!
//! This is the hottest path of the kernel. A system call costs here: one store of its number, a bounds check,
//! an indirect call, the store of the result, a comparison for restart codes, and the look at the word
//! of work and the count of switches with interrupts off (a signal sent after that look interrupts user mode at once).

use crate::ctx::{Ctx, Local};
use crate::process::Process;
use crate::signal::{self, Outcome, SigInfo};
use crate::thread::{Thread, work};
use crate::{exit, oom, rseq, timers};
use abi::Errno;
use abi::signal::{BUS_ADRERR, SEGV_ACCERR, SEGV_MAPERR, SIGBUS, SIGSEGV};
use alloc::sync::Arc;
use arch::user::UserContext;
use arch::{Access, Exception, Trap, cpu, irq};
use core::sync::atomic::AtomicU64;
use core::sync::atomic::Ordering::Relaxed;
use sync::Once;
use vm::{Fault, FaultError};

/// A system call: arguments in the context's registers, the result as the program will see it.
pub type Call = fn(&mut Ctx) -> isize;

/// The system calls by number.
#[derive(Clone, Copy)]
pub struct Calls {
    pub plain: &'static [Call],
    /// Used by threads whose calls are logged or shown to a tracer: tracing costs nothing while it is off.
    pub traced: &'static [Call],
    /// For numbers beyond the table, traced or not: the lab's calls, and what does not exist.
    pub beyond: Call,
}

static CALLS: Once<Calls> = Once::new();

/// Installs the system calls. Once, at boot, before the first process.
pub fn install_calls(calls: Calls) {
    let _ = CALLS.set(calls);
}

/// What a user thread consists of while it runs.
struct Life {
    thread: Arc<Thread>,
    process: Arc<Process>,
    /// Taken by whoever ends the thread.
    local: Option<Local>,
}

/// Runs the calling task as a user thread until it ends; the body of every user task. An oops ends the thread too.
pub(crate) fn run(thread: Arc<Thread>, mut user: UserContext, local: Local, start: impl FnOnce(&mut Ctx)) {
    let process = thread.process().clone();
    let mut life = Life { thread, process, local: Some(local) };
    let status = task::with_user(&mut user, |user| {
        let whole = |life: &mut Life| {
            let Life { thread, process, local: Some(local) } = life else { return 0 };
            let mut ctx = Ctx { thread, process, user, local };
            start(&mut ctx);
            live(&mut ctx)
        };
        task::with_rescue(&mut life, whole, |life| end(life, SIGSEGV as i32))
    });
    end(&mut life, status);
}

fn end(life: &mut Life, status: i32) {
    if let Some(local) = life.local.take() {
        exit::end(life.thread.clone(), local, status);
    }
}

fn live(ctx: &mut Ctx) -> i32 {
    let calls = CALLS.get_expect();
    let mut table = choose(calls, ctx.thread);
    let mut restart = None;
    loop {
        while leave_undisturbed(ctx, restart.is_some()) {
            if ctx.thread.take_work(work::TRACE) {
                table = choose(calls, ctx.thread);
            }
            let asked = ctx.thread.take_work(work::RSEQ) && ctx.local.rseq.is_registered();
            if asked || ctx.local.rseq.is_stale() {
                rseq::refresh(ctx);
            }
            if ctx.thread.take_work(work::CPU_TIMER) {
                timers::check_cpu(ctx.thread);
            }
            if let Outcome::Exit(status) = signal::deliver(ctx, restart.take()) {
                return status;
            }
        }
        task::assert_nothing_held();
        match ctx.user.run() {
            Trap::Syscall => {
                let number = ctx.user.syscall_nr();
                ctx.thread.set_call(number);
                let call = table.get(number).copied().unwrap_or(calls.beyond);
                let value = call(ctx);
                ctx.user.set_return(value);
                if is_restart_code(value) {
                    restart = restart_of(ctx, number, value);
                }
            }
            Trap::PageFault { addr, access } => page_fault(ctx, addr, access),
            Trap::Interrupt => {
                if cpu::need_resched() {
                    task::schedule();
                }
            }
            Trap::Exception(exception) => raise(ctx, exception),
        }
    }
}

/// Turns interrupts off and says whether there is something to do before user mode; if so, turns them on.
#[inline]
fn leave_undisturbed(ctx: &Ctx, restart: bool) -> bool {
    let _ = irq::disable();
    if ctx.thread.work() == 0 && !restart && !ctx.local.rseq.is_stale() {
        return false;
    }
    irq::enable();
    true
}

fn choose(calls: &Calls, thread: &Thread) -> &'static [Call] {
    if thread.process().is_traced() || thread.shows_calls() { calls.traced } else { calls.plain }
}

/// -512 to -516.
#[inline]
pub(crate) fn is_restart_code(value: isize) -> bool {
    (-516..=-512).contains(&value)
}

#[cold]
fn restart_of(ctx: &mut Ctx, number: usize, value: isize) -> Option<(usize, Errno)> {
    if core::mem::take(&mut ctx.local.keep_result) {
        return None;
    }
    Some((number, Errno::from_number(-value as i32)?))
}

/// Serves a page fault, or makes a signal of it.
fn page_fault(ctx: &mut Ctx, addr: usize, access: Access) {
    ctx.thread.set_call(usize::MAX);
    loop {
        let error = match ctx.local.mm.handle_fault(addr, access, ctx) {
            Ok(Fault::Minor) => return count(&ctx.thread.minor_faults),
            Ok(Fault::Major) => return count(&ctx.thread.major_faults),
            Err(error) => error,
        };
        let (signal, code) = match error {
            FaultError::MapErr => (SIGSEGV, SEGV_MAPERR),
            FaultError::AccErr => (SIGSEGV, SEGV_ACCERR),
            FaultError::BusErr | FaultError::Moving => (SIGBUS, BUS_ADRERR),
            FaultError::Oom => {
                // Somebody is killed, perhaps this process; otherwise the access is tried again.
                oom::out_of_memory(0);
                if ctx.thread.work() & work::EXIT != 0 {
                    return;
                }
                continue;
            }
        };
        return signal::force(ctx.thread, SigInfo::fault(signal, code, addr as u64));
    }
}

/// Only the thread itself counts: no read-modify-write is needed.
fn count(counter: &AtomicU64) {
    counter.store(counter.load(Relaxed) + 1, Relaxed);
}

#[cold]
fn raise(ctx: &mut Ctx, exception: Exception) {
    let info = SigInfo::fault(exception.signal, exception.code, exception.addr as u64);
    signal::force(ctx.thread, info);
}

/// The limits that count when the kernel touches user memory for a thread: the stack may grow.
struct FaultLimits<'a>(&'a Thread);

impl FaultLimits<'_> {
    fn limit(&self, resource: usize) -> u64 {
        crate::rlimit::soft(self.0.process(), resource)
    }
}

impl vm::Limits for FaultLimits<'_> {
    fn address_space(&self) -> u64 {
        self.limit(abi::resource::RLIMIT_AS)
    }

    fn data(&self) -> u64 {
        self.limit(abi::resource::RLIMIT_DATA)
    }

    fn stack(&self) -> u64 {
        self.limit(abi::resource::RLIMIT_STACK)
    }

    fn memlock(&self) -> u64 {
        self.limit(abi::resource::RLIMIT_MEMLOCK)
    }

    fn may_map_low(&self) -> bool {
        false
    }
}

/// The hook for faults in the kernel's accesses to user memory: brings the page in. Says whether to retry.
pub fn uaccess_fault(addr: usize, access: Access) -> bool {
    let Some(thread) = Thread::current() else { return false };
    let Some(mm) = thread.process().mm() else { return false };
    let (counter, served): (fn(&Thread) -> &AtomicU64, bool) =
        match mm.handle_fault(addr, access, &FaultLimits(&thread)) {
            Ok(Fault::Minor) => (|t| &t.minor_faults, true),
            Ok(Fault::Major) => (|t| &t.major_faults, true),
            Err(FaultError::Oom) => {
                oom::out_of_memory(0);
                return !task::current().fatal_pending();
            }
            Err(_) => return false,
        };
    Thread::with_current(|t| count(counter(t)));
    served
}
