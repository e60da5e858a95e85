//! New threads and processes: fork(2), vfork(2), clone(2), clone3(2).

use crate::ctx::{Ctx, Local};
use crate::jobs;
use crate::pid::{self, Reserved};
use crate::process::{Membership, NewProcess, Process};
use crate::rlimit::Charges;
use crate::signal::{Handlers, ProcessSignals, SigSet};
use crate::thread::{NewThread, Thread, work};
use crate::{Pid, Result, exit, ptrace, rlimit, user, usermem};
use abi::Errno;
use abi::cap::{CAP_SYS_ADMIN, CAP_SYS_RESOURCE};
use abi::process::*;
use abi::ptrace::PTRACE_EVENT_VFORK_DONE;
use abi::resource::{RLIMIT_NOFILE, RLIMIT_NPROC};
use abi::signal::{SI_USER, SIGCHLD, SIGNAL_MAX, SigInfo};
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::AtomicBool;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use sync::Once;
use task::{NewTask, WaitMode, WaitQueue};
use vfs::{FileTable, FsContext};
use vm::AddressSpace;

/// A checked request. What clone, clone3, fork and vfork have in common.
#[derive(Clone, Copy, Debug, Default)]
pub struct CloneRequest {
    /// `CLONE_*`, without the signal in the low byte.
    pub flags: u64,
    /// The signal to the parent at the end; 0: none.
    pub exit_signal: u32,
    /// The child's stack pointer; 0: the parent's.
    pub stack: usize,
    pub tls: usize,
    pub parent_tid: usize,
    pub child_tid: usize,
    /// Where the pidfd goes.
    pub pidfd: usize,
}

impl CloneRequest {
    fn has(&self, flags: u64) -> bool {
        self.flags & flags == flags
    }

    /// EINVAL for combinations that make no sense, as clone(2) lists them.
    fn check(&self) -> Result<()> {
        let threads = self.has(CLONE_THREAD) && !self.has(CLONE_SIGHAND);
        let handlers = self.has(CLONE_SIGHAND) && !self.has(CLONE_VM);
        let clear = self.has(CLONE_SIGHAND | CLONE_CLEAR_SIGHAND);
        let namespaces = self.has(CLONE_FS | CLONE_NEWNS) || self.has(CLONE_FS | CLONE_NEWUSER);
        let signal = self.exit_signal > SIGNAL_MAX;
        // One word cannot take both the pidfd and the child's number (clone(2), not clone3).
        let both = self.has(CLONE_PIDFD | CLONE_PARENT_SETTID) && self.pidfd == self.parent_tid;
        let pidfd = self.has(CLONE_PIDFD) && (self.flags & CLONE_DETACHED != 0 || both);
        if threads || handlers || clear || namespaces || signal || pidfd {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }
}

/// Where a parent waits until its vfork(2) child runs exec or ends.
pub(crate) struct Vfork {
    done: AtomicBool,
    queue: WaitQueue,
}

impl Vfork {
    fn new() -> Arc<Vfork> {
        Arc::new(Vfork { done: AtomicBool::new(false), queue: WaitQueue::new(&"wait_for_vfork_done") })
    }

    pub fn complete(&self) {
        self.done.store(true, SeqCst);
        self.queue.wake_all();
    }

    fn wait(&self) {
        // Only death ends the wait: the child runs on this thread's stack.
        let _ = self.queue.wait_until(WaitMode::Killable, None, || self.done.load(SeqCst).then_some(()));
    }
}

/// Makes a thread or process; returns its number as the parent sees it. EAGAIN, ENOMEM, EINVAL, EPERM.
pub fn clone(ctx: &mut Ctx, request: &CloneRequest) -> Result<Pid> {
    request.check()?;
    if request.flags & CLONE_NAMESPACES != 0 {
        // There is one namespace of each kind: whoever may make another is told that it cannot be done.
        return Err(if ctx.capable(CAP_SYS_ADMIN) { Errno::EINVAL } else { Errno::EPERM });
    }
    let _forking = (!request.has(CLONE_THREAD)).then(|| Forking::begin(ctx.thread));
    // A process that gets a signal while it forks gets it before the child exists, not after.
    if ctx.signal_pending() && !request.has(CLONE_THREAD) {
        return Err(Errno::ERESTARTNOINTR);
    }
    let charge = charge(ctx)?;
    let files = ctx.files_arc().clone();
    let pidfd = reserve_pidfd(ctx, &files, request)?;
    let child = Child::prepare(ctx, request, charge)?;
    if let Some(reserved) = pidfd {
        reserved.fill(crate::pidfd::create(child.thread.process().clone(), false));
    }
    let tid = child.thread.tid();
    if request.has(CLONE_PARENT_SETTID) {
        // As in Linux, a bad pointer does not stop the child.
        let _ = usermem::write(request.parent_tid, &tid);
    }
    let event = ptrace::forked(ctx.thread, request.has(CLONE_VFORK), request.exit_signal == SIGCHLD);
    if event.is_some() && !request.has(CLONE_UNTRACED) {
        ptrace::auto_attach(ctx.thread, &child.thread);
    }
    let vfork = child.vfork.clone();
    child.start();
    if let Some(event) = event {
        ptrace::event(ctx, event, tid.into());
    }
    if let Some(vfork) = vfork {
        vfork.wait();
        ptrace::event(ctx, PTRACE_EVENT_VFORK_DONE, tid.into());
    }
    Ok(tid)
}

/// While it lives, signals to the group are gathered for the child.
struct Forking(Arc<Thread>);

impl Forking {
    fn begin(thread: &Arc<Thread>) -> Forking {
        let _whole = thread.process().signals.lock();
        thread.unborn_signals.store(0, SeqCst);
        thread.forking.store(true, SeqCst);
        Forking(thread.clone())
    }
}

impl Drop for Forking {
    fn drop(&mut self) {
        self.0.forking.store(false, SeqCst);
    }
}

/// CLONE_PIDFD: a descriptor number for the child, written to user memory before there is a child that a bad
/// pointer would have to undo.
fn reserve_pidfd<'a>(
    ctx: &Ctx,
    files: &'a FileTable,
    request: &CloneRequest,
) -> Result<Option<vfs::Reserved<'a>>> {
    if !request.has(CLONE_PIDFD) {
        return Ok(None);
    }
    let reserved = files.reserve(true, ctx.limit(RLIMIT_NOFILE))?;
    usermem::write(request.pidfd, &reserved.number())?;
    Ok(Some(reserved))
}

/// A thread more for its user and for the system; given back when dropped. EAGAIN beyond RLIMIT_NPROC and beyond
/// threads-max.
fn charge(ctx: &Ctx) -> Result<Charges> {
    let charge = Charges::one(ctx.process.user_counts());
    if rlimit::too_many_threads() {
        return Err(Errno::EAGAIN);
    }
    let user = charge.user();
    let over = user.threads() > rlimit::soft(ctx.process, RLIMIT_NPROC) && user.uid != 0;
    if over && !ctx.capable(CAP_SYS_RESOURCE) && !ctx.capable(CAP_SYS_ADMIN) {
        return Err(Errno::EAGAIN);
    }
    Ok(charge)
}

/// A child that is complete and known but has not run.
struct Child {
    thread: Arc<Thread>,
    task: Arc<task::Task>,
    vfork: Option<Arc<Vfork>>,
}

impl Child {
    fn prepare(ctx: &mut Ctx, request: &CloneRequest, charge: Charges) -> Result<Child> {
        let number = Reserved::take()?;
        let mm = if request.has(CLONE_VM) { ctx.mm().clone() } else { ctx.mm().fork()? };
        let files = share_files(ctx, request)?;
        let fs = share_fs(ctx, request);
        let (process, charge) = if request.has(CLONE_THREAD) {
            (ctx.process.clone(), Some(charge))
        } else {
            (new_process(ctx, request, number.number(), &mm, charge), None)
        };
        let thread = Thread::new(NewThread {
            tid: number.number(),
            process,
            cred: ctx.cred().clone(),
            files: Some(files.clone()),
            fs: Some(fs.clone()),
            blocked: ctx.thread.blocked(),
            comm: ctx.thread.comm_bytes(),
        });
        thread.timer_slack_ns.store(ctx.thread.timer_slack_ns.load(Relaxed), Relaxed);
        let vfork = request.has(CLONE_VFORK).then(Vfork::new);
        let local = new_local(ctx, request, (mm, files, fs), vfork.clone());
        let task = new_task(ctx, request, &thread, local)?;
        if let Err(errno) = link(ctx, request, &thread) {
            // The scheduler knows the task already: it runs to its end at once.
            thread.exiting.store(true, SeqCst);
            task.wake();
            return Err(errno);
        }
        if let Some(charge) = charge {
            ctx.process.charge_thread(charge);
        }
        Ok(Child { thread, task, vfork })
    }

    fn start(self) {
        self.task.wake();
    }
}

fn share_files(ctx: &Ctx, request: &CloneRequest) -> Result<Arc<FileTable>> {
    if request.has(CLONE_FILES) { Ok(ctx.files_arc().clone()) } else { ctx.files().duplicate() }
}

fn share_fs(ctx: &Ctx, request: &CloneRequest) -> Arc<FsContext> {
    if request.has(CLONE_FS) { ctx.fs_arc().clone() } else { ctx.fs().duplicate() }
}

fn new_process(
    ctx: &Ctx,
    request: &CloneRequest,
    pid: Pid,
    mm: &Arc<AddressSpace>,
    charges: Charges,
) -> Arc<Process> {
    let parent = ctx.process;
    let handlers = parent.signals.lock().handlers.clone();
    let handlers = if request.has(CLONE_SIGHAND) { handlers } else { Handlers::fork(&handlers) };
    if request.has(CLONE_CLEAR_SIGHAND) {
        handlers.reset_caught();
    }
    let child = Process::new(NewProcess {
        pid,
        maker: if request.has(CLONE_PARENT) { parent.maker.clone() } else { Arc::downgrade(ctx.thread) },
        is_kernel: false,
        membership: Membership { group: parent.group(), session: parent.session() },
        signals: ProcessSignals::new(handlers),
        exit_signal: if request.has(CLONE_PARENT) {
            parent.exit_signal.load(Relaxed)
        } else {
            request.exit_signal
        },
        mm: Some(mm.clone()),
        limits: parent.limits.fork(),
        charges,
    });
    child.sigreturn.store(parent.sigreturn(), Relaxed);
    child.personality.store(parent.personality.load(Relaxed), Relaxed);
    child.dumpable.store(parent.dumpable.load(Relaxed), Relaxed);
    child.oom_score_adj.store(parent.oom_score_adj.load(Relaxed), Relaxed);
    child.oom_score_adj_min.store(parent.oom_score_adj_min.load(Relaxed), Relaxed);
    child.traced.store(parent.is_traced(), Relaxed);
    if rlimit::soft(&child, abi::resource::RLIMIT_CPU) != u64::MAX {
        child.timers.watch_cpu();
    }
    child
}

fn new_local(
    ctx: &Ctx,
    request: &CloneRequest,
    (mm, files, fs): (Arc<AddressSpace>, Arc<FileTable>, Arc<FsContext>),
    vfork: Option<Arc<Vfork>>,
) -> Local {
    // A thread on a stack of its own starts without an alternate one; so does a child in shared memory.
    let keeps_alt = !request.has(CLONE_VM) || request.has(CLONE_VFORK);
    Local {
        mm,
        files,
        fs,
        cred: ctx.cred().clone(),
        alt_stack: if keeps_alt { ctx.local.alt_stack } else { Default::default() },
        clear_child_tid: if request.has(CLONE_CHILD_CLEARTID) { request.child_tid } else { 0 },
        rseq: if request.has(CLONE_VM) { Default::default() } else { ctx.local.rseq.fork() },
        vfork,
        restart: None,
        saved_mask: None,
        keep_result: false,
        exit: None,
    }
}

fn new_task(
    ctx: &Ctx,
    request: &CloneRequest,
    thread: &Arc<Thread>,
    local: Local,
) -> Result<Arc<task::Task>> {
    let mut registers = ctx.user.clone();
    registers.set_return(0);
    if request.stack != 0 {
        registers.set_sp(request.stack);
    }
    if request.has(CLONE_SETTLS) {
        registers.set_tls(request.tls);
    }
    let child_tid = if request.has(CLONE_CHILD_SETTID) { request.child_tid } else { 0 };
    let table = local.mm.table().clone();
    let body = thread.clone();
    let task = NewTask {
        name: thread.comm(),
        body: Box::new(move || {
            if body.exiting.load(SeqCst) {
                return exit::abandon(&body, local);
            }
            user::run(body, registers, local, move |ctx| {
                let _ = usermem::write_opt(child_tid, &ctx.thread.tid());
            });
        }),
        payload: Some(thread.clone()),
        table: Some(table),
        fork_registers: true,
    }
    .create()?;
    thread.set_task(&task);
    Ok(task)
}

/// Makes the child known to everybody: from here on it gets signals. Fails when the process is ending.
fn link(ctx: &Ctx, request: &CloneRequest, thread: &Arc<Thread>) -> Result<()> {
    let process = thread.process();
    let mut table = pid::write();
    {
        let mut signals = process.signals.lock();
        let ending = signals.exit.is_some() || signals.exec_by.is_some();
        // A signal to the group (Ctrl-C) that came since the call began did not reach a child that was not yet in it. It
        // is sent under the table's lock: from here on it does. What the parent blocks was gathered.
        let interrupted = match request.has(CLONE_THREAD) {
            true => task::current().fatal_pending(),
            false => ctx.signal_pending(),
        };
        if ending || interrupted {
            return Err(Errno::ERESTARTNOINTR);
        }
        signals.threads.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        signals.threads.push(thread.clone());
        process.thread_count.store(signals.threads.len(), SeqCst);
        match request.has(CLONE_THREAD) {
            true => signals.join_stop(thread),
            false => signals.begin_with(process, thread, ctx.thread),
        }
    }
    table.insert_thread(thread);
    if !request.has(CLONE_THREAD) {
        let parent = if request.has(CLONE_PARENT) { ctx.process.parent_pid() } else { ctx.process.pid() };
        table.insert_process(process, parent);
    }
    Ok(())
}

impl ProcessSignals {
    /// What was sent to the group while `parent` made this process waits for it.
    fn begin_with(&mut self, process: &Process, thread: &Thread, parent: &Thread) {
        let mut gathered = SigSet::from_bits(parent.unborn_signals.load(SeqCst));
        while let Some(signal) = gathered.first() {
            gathered = gathered.without(signal);
            let _ = self.shared.add(SigInfo::user(signal, SI_USER, 0, 0), None);
            process.shared_pending.store(self.shared.mask().bits(), SeqCst);
            thread.add_work(work::SIGNAL);
        }
    }
}

/// The old clone(2): flags with the exit signal in the low byte.
pub fn request_from_flags(flags: u64) -> CloneRequest {
    CloneRequest { flags: flags & !CSIGNAL, exit_signal: (flags & CSIGNAL) as u32, ..CloneRequest::default() }
}

/// fork(2).
pub fn fork_request() -> CloneRequest {
    CloneRequest { exit_signal: SIGCHLD, ..CloneRequest::default() }
}

/// vfork(2).
pub fn vfork_request() -> CloneRequest {
    CloneRequest { flags: CLONE_VFORK | CLONE_VM, exit_signal: SIGCHLD, ..CloneRequest::default() }
}

/// clone3(2): EINVAL for unknown flags, signals and half a stack.
pub fn request_from_args(args: &CloneArgs) -> Result<CloneRequest> {
    let known = 0xffff_ffff | CLONE_CLEAR_SIGHAND | CLONE_INTO_CGROUP;
    let bad_flags = args.flags & !known != 0 || args.flags & (CLONE_DETACHED | CSIGNAL & !CLONE_NEWTIME) != 0;
    let bad_signal = args.exit_signal > u64::from(SIGNAL_MAX);
    let thread_signal = args.flags & (CLONE_THREAD | CLONE_PARENT) != 0 && args.exit_signal != 0;
    let bad_stack = (args.stack == 0) != (args.stack_size == 0);
    let unsupported = args.set_tid_size != 0 || args.flags & CLONE_INTO_CGROUP != 0;
    if bad_flags || bad_signal || thread_signal || bad_stack || unsupported {
        return Err(Errno::EINVAL);
    }
    let stack = args.stack.checked_add(args.stack_size).ok_or(Errno::EINVAL)?;
    Ok(CloneRequest {
        flags: args.flags,
        exit_signal: args.exit_signal as u32,
        stack: stack as usize,
        tls: args.tls as usize,
        parent_tid: args.parent_tid as usize,
        child_tid: args.child_tid as usize,
        pidfd: args.pidfd as usize,
    })
}

/// unshare(2) of what can be taken apart. EINVAL for more.
pub fn unshare(ctx: &mut Ctx, flags: u64) -> Result<()> {
    if flags & CLONE_NAMESPACES & !CLONE_NEWTIME != 0 {
        return Err(if ctx.capable(CAP_SYS_ADMIN) { Errno::EINVAL } else { Errno::EPERM });
    }
    let alone = CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
    if flags & !(CLONE_FS | CLONE_FILES | CLONE_SYSVSEM | alone) != 0 {
        return Err(Errno::EINVAL);
    }
    if flags & alone != 0 && ctx.is_multithreaded() {
        return Err(Errno::EINVAL);
    }
    if flags & CLONE_FILES != 0 && Arc::strong_count(ctx.files_arc()) > 2 {
        let files = ctx.files().duplicate()?;
        ctx.set_files(files);
    }
    if flags & CLONE_FS != 0 {
        let fs = ctx.fs().duplicate();
        ctx.set_fs(fs);
    }
    Ok(())
}

/// Init and kernel threads are in session and group 0, which no call can name, until init calls setsid.
pub(crate) fn first_membership() -> Membership {
    static FIRST: Once<Arc<jobs::Group>> = Once::new();
    if FIRST.get().is_none() {
        let _ = FIRST.set(jobs::Group::new(0, jobs::Session::new(0)));
    }
    let group = FIRST.get_expect().clone();
    Membership { session: group.session().clone(), group }
}
