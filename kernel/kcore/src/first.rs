//! The first process: init, number 1.
//!
//! Made of nothing: no parent to copy from. It starts as a user thread without memory worth the name and
//! runs exec(2) on the first program of a list that can be run, as Linux's `kernel_init` does.

use crate::clone::first_membership;
use crate::ctx::{Ctx, Local};
use crate::exec::{self, Request, Strings};
use crate::pid::{self, Reserved};
use crate::process::{NewProcess, Process};
use crate::rlimit::{self, Charges, Limits, UserCounts};
use crate::signal::{Handlers, ProcessSignals};
use crate::thread::{NewThread, Thread, comm_from};
use crate::{Result, SigSet, user};
use abi::Errno;
use abi::fcntl::O_RDWR;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Weak;
use alloc::vec::Vec;
use arch::user::UserContext;
use core::sync::atomic::Ordering::SeqCst;
use klog::{pr_err, pr_warn};
use task::NewTask;
use vfs::{Caller, Cred, FileTable, FsContext, Look, OpenHow, Path, Start};
use vm::AddressSpace;

/// What the first process runs.
pub struct First {
    pub root: Path,
    /// Tried in order; the first argument of each is its own path.
    pub programs: Vec<String>,
    /// `init=`: tried after the first of `programs`, and must then work.
    pub requested: Option<String>,
    pub args: Vec<String>,
    pub env: Vec<String>,
    /// Begin with the system-call trace switched on; children inherit it.
    pub traced: bool,
    /// Bytes of memory, for the limits that depend on it.
    pub memory_bytes: u64,
}

/// Makes the first process and starts it. Process context, once, when the root file system is there.
/// A machine without a program to run panics, as Linux does.
pub fn start(first: First) -> Result<()> {
    let traced = first.traced;
    let number = Reserved::take()?;
    let mm = AddressSpace::new()?;
    let (files, fs) = (FileTable::new(), FsContext::new(first.root.clone()));
    let cred = Cred::root();
    let process = Process::new(NewProcess {
        pid: number.number(),
        maker: Weak::new(),
        is_kernel: false,
        membership: first_membership(),
        signals: ProcessSignals::new(Handlers::new()),
        exit_signal: 0,
        mm: Some(mm.clone()),
        limits: sized_limits(first.memory_bytes),
        charges: Charges::one(UserCounts::of(0)),
    });
    let thread = Thread::new(NewThread {
        tid: number.number(),
        process: process.clone(),
        cred: cred.clone(),
        files: Some(files.clone()),
        fs: Some(fs.clone()),
        blocked: SigSet::EMPTY,
        comm: comm_from(b"init"),
    });
    let table = mm.table().clone();
    let local = Local {
        mm,
        files,
        fs,
        cred,
        restart: None,
        saved_mask: None,
        alt_stack: Default::default(),
        clear_child_tid: 0,
        rseq: Default::default(),
        vfork: None,
        keep_result: false,
        exit: None,
    };
    let body = thread.clone();
    let task = NewTask {
        name: thread.comm(),
        body: Box::new(move || user::run(body, UserContext::new(0, 0), local, move |ctx| begin(ctx, &first))),
        payload: Some(thread.clone()),
        table: Some(table),
        fork_registers: false,
    }
    .create()?;
    thread.set_task(&task);
    process.signals.lock().threads.push(thread.clone());
    process.thread_count.store(1, SeqCst);
    {
        let mut table = pid::write();
        table.insert_thread(&thread);
        table.insert_process(&process, 0);
    }
    if traced {
        process.set_traced(true);
    }
    task.wake();
    Ok(())
}

/// The first steps of process 1: its descriptors, then its program.
fn begin(ctx: &mut Ctx, first: &First) {
    open_console(ctx);
    for (at, program) in first.programs.iter().enumerate() {
        if at == 1
            && let Some(requested) = &first.requested
        {
            match run(ctx, first, requested) {
                Ok(()) => return,
                Err(errno) => panic!("Requested init {requested} failed (error {}).", -errno.number()),
            }
        }
        match run(ctx, first, program) {
            Ok(()) => return,
            Err(Errno::ENOENT) if at == 0 && program != "/init" => {
                pr_err!("check access for rdinit={program} failed: {}, ignoring", -Errno::ENOENT.number())
            }
            Err(Errno::ENOENT) => {}
            Err(errno) => pr_err!("{program} exists but couldn't be executed (error {})", -errno.number()),
        }
    }
    panic!("No working init found. Try passing init= option to kernel.");
}

fn sized_limits(memory_bytes: u64) -> Limits {
    rlimit::size_threads(memory_bytes);
    crate::inotify::size_watches(memory_bytes);
    Limits::initial(memory_bytes)
}

fn run(ctx: &mut Ctx, first: &First, program: &str) -> Result<()> {
    let caller = Caller::thread(ctx.cred(), ctx.fs(), ctx.thread.tid());
    let file = vfs::open::open_exec(&caller, Start::Cwd, program.as_bytes(), Look::FOLLOW)?;
    let mut argv = Strings::from_slices(&[program.as_bytes()]);
    first.args.iter().for_each(|arg| argv.push(arg.as_bytes()));
    let mut envp = Strings::default();
    first.env.iter().for_each(|var| envp.push(var.as_bytes()));
    exec::exec(ctx, Request { file, name: program.as_bytes().to_vec(), unreachable: false, argv, envp })
}

/// Descriptors 0, 1 and 2 on the console, where there is one.
fn open_console(ctx: &Ctx) {
    let caller = Caller::thread(ctx.cred(), ctx.fs(), ctx.thread.tid());
    let opened = OpenHow::lenient(O_RDWR, 0)
        .and_then(|how| vfs::open::open(&caller, Start::Cwd, b"/dev/console", how));
    let Ok(file) = opened else {
        pr_warn!("Warning: unable to open an initial console.");
        return;
    };
    for _ in 0..3 {
        // A fresh table has room.
        let _ = ctx.files().insert(file.clone(), false, u64::MAX);
    }
}
