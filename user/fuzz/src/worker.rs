//! A worker: makes random calls until somebody ends it.
//!
//! It sets up a directory and descriptors of every kind, and goes on from there. A timer's signal ends calls that
//! block. Every few dozen calls it repairs what it needs to go on: the timer, the signal mask, its hold on children.

use crate::arena::Arena;
use crate::board::{Board, Lane};
use crate::calls::{self, Call, Effect};
use crate::kinds::Source;
use crate::rng::Rng;
use alloc::format;
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use rt::nr::*;
use rt::signal::{self, Action};
use rt::{fs, io, process, syscall, thread};

/// How a worker behaves.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub threads: usize,
    /// Stays root.
    pub root: bool,
    /// Its own index, and that of its first lane.
    pub lane: usize,
    pub print: bool,
}

/// Calls between two repairs.
const ROUND: usize = 32;
const TICK_US: u64 = 3000;
/// Calls that a child makes.
const CHILD_CALLS: usize = 24;
const MAX_CHILDREN: usize = 6;
/// Who everybody is who is not root.
const NOBODY: u32 = 65534;
const MIB: u64 = 1 << 20;
/// Where `--print` writes: what stderr was, the last descriptor that there may be.
const PRINT_FD: io::Fd = MAX_FILES as io::Fd - 1;
const MAX_FILES: u64 = 256;

extern "C" fn interrupt(_signal: i32) {}

/// Becomes a worker; does not return. The working directory is its own already.
pub fn run(board: &'static Board, plan: Plan, seed: u64) -> ! {
    let mut rng = Rng::new(seed);
    let Ok(arena) = Arena::new() else { process::exit(100) };
    set_up(plan);
    for lane in 1..plan.threads {
        let rng = rng.split();
        let started = thread::spawn(move || {
            work(board, &board.lanes[plan.lane + lane], arena, rng, plan);
        });
        // The handle's drop would wait for the end.
        let _ = started.map(core::mem::forget);
    }
    work(board, &board.lanes[plan.lane], arena, rng, plan)
}

fn set_limit(resource: u32, value: u64) {
    let limit = [value, value];
    // SAFETY: 1. the kernel reads two words.
    let _ = unsafe { syscall!(__NR_prlimit64, 0, resource, limit.as_ptr(), 0) };
}

fn set_up(plan: Plan) {
    let _ = process::setpgid(0, 0);
    // What the supervisor ignores, a worker does not.
    for signal in 1..=64 {
        let _ = signal::set_action(signal, Action::Default, 0, 0);
    }
    set_limit(RLIMIT_AS, 256 * MIB);
    set_limit(RLIMIT_FSIZE, MIB);
    set_limit(RLIMIT_NOFILE, MAX_FILES);
    set_limit(RLIMIT_CORE, 0);
    set_limit(RLIMIT_MEMLOCK, 4 * MIB);
    files();
    if !plan.root {
        // SAFETY: 1. no memory is named.
        let _ = unsafe { syscall!(__NR_setgroups, 0, 0) };
        // SAFETY: 1. no memory is named.
        let _ = unsafe { syscall!(__NR_setresgid, NOBODY, NOBODY, NOBODY) };
        // SAFETY: 1. no memory is named.
        let _ = unsafe { syscall!(__NR_setresuid, NOBODY, NOBODY, NOBODY) };
    }
    descriptors(plan.print);
}

/// The names that paths mean. Errors leave a name out: the next incarnation finds them there already.
fn files() {
    let _ = fs::mkdir(c"d", 0o777);
    let _ = fs::mkdir(c"d/e", 0o777);
    let _ = fs::write_file(c"a", b"contents of a\n");
    let _ = fs::write_file(c"b", &[7; 5000]);
    let _ = fs::symlink(c"a", c"link");
    let _ = fs::symlink(c"loop", c"loop");
    let _ = fs::symlink(c"nowhere", c"dangling");
    let _ = fs::mknod(c"fifo", S_IFIFO | 0o666, 0);
    let _ = fs::symlink(c"/proc/self/exe", c"program");
    let _ = fs::write_file(c"script", b"#!script script\n");
    for path in [c"d", c"d/e", c"a", c"b", c"script"] {
        let _ = fs::chmod(path, 0o777);
    }
}

/// Descriptors from 3 on, of every kind that there is; 0 to 2 are silent.
fn descriptors(print: bool) {
    if print {
        // A call may close this; until then it tells.
        let _ = io::dup2(2, PRINT_FD);
    }
    if let Ok(null) = fs::open(c"/dev/null", O_RDWR, 0) {
        for fd in 0..3 {
            let _ = io::dup2(null, fd);
        }
    }
    for path in [c"a", c"b", c"fifo", c"/dev/zero", c"/dev/full", c"/dev/random", c"/dev/ptmx", c"/dev/tty"] {
        let _ = fs::open(path, O_RDWR | O_NONBLOCK, 0);
    }
    for path in [c".", c"d", c"/proc/self", c"/proc/self/maps", c"/sys"] {
        let _ = fs::open(path, O_RDONLY | O_NONBLOCK, 0);
    }
    let _ = io::pipe(O_NONBLOCK);
    let _ = io::pipe(0);
    let mask = u64::MAX;
    let mut pair = [0i32; 2];
    // SAFETY: 1. none of these names memory but the set, the name and the pair, of the lengths that the calls want.
    unsafe {
        let _ = syscall!(__NR_epoll_create1, 0);
        let _ = syscall!(__NR_eventfd2, 1, O_NONBLOCK);
        let _ = syscall!(__NR_eventfd2, 0, 0);
        let _ = syscall!(__NR_timerfd_create, CLOCK_MONOTONIC, O_NONBLOCK);
        let _ = syscall!(__NR_signalfd4, u32::MAX, &raw const mask, 8, O_NONBLOCK);
        let _ = syscall!(__NR_memfd_create, c"fuzz".as_ptr(), 2);
        let _ = syscall!(__NR_inotify_init1, O_NONBLOCK);
        let _ = syscall!(__NR_socketpair, 1, 1 | O_NONBLOCK, 0, pair.as_mut_ptr());
        let _ = syscall!(__NR_socketpair, 1, 2, 0, pair.as_mut_ptr());
        let _ = syscall!(__NR_pidfd_open, process::getpid(), 0);
    }
}

/// Restores what the worker needs. A thread cannot lose it for long.
fn repair(children: &mut Vec<process::Pid>) {
    let _ = signal::mask(SIG_SETMASK, 0);
    let _ = signal::set_action(SIGALRM, Action::Handle(interrupt), 0, 0);
    for ignored in [SIGXFSZ, SIGPIPE, SIGUSR1, SIGUSR2, SIGHUP, SIGTTOU, SIGTTIN, SIGIO] {
        let _ = signal::set_action(ignored, Action::Handle(interrupt), 0, 0);
    }
    for realtime in 32..=64 {
        let _ = signal::set_action(realtime, Action::Ignore, 0, 0);
    }
    let timer = [0, TICK_US, 0, TICK_US];
    // SAFETY: 1. the kernel reads one itimerval; 2. death of the parent sends SIGKILL.
    unsafe {
        let _ = syscall!(__NR_setitimer, 0, timer.as_ptr(), 0);
        let _ = syscall!(__NR_prctl, 1, SIGKILL, 0, 0, 0);
    }
    children.retain(|&pid| matches!(process::wait(pid, WNOHANG), Ok(None)));
    if children.len() >= MAX_CHILDREN {
        for pid in children.drain(..) {
            let _ = process::kill(pid, SIGKILL);
            let _ = process::wait_exit(pid);
        }
    }
}

fn work(board: &'static Board, lane: &'static Lane, arena: Arena, mut rng: Rng, plan: Plan) -> ! {
    let mut children = Vec::new();
    loop {
        repair(&mut children);
        for _ in 0..ROUND {
            let index = rng.below(calls::COUNT);
            if calls::get(index).effect != Effect::Ends {
                lane.begun.fetch_add(1, Relaxed);
                let made = one(board, Some(lane), index, arena, &mut rng, &children, plan);
                children.extend(made);
            }
        }
    }
}

/// Makes one call. Answers the child that it made; the child itself does not come back from here.
fn one(
    board: &'static Board,
    lane: Option<&Lane>,
    index: usize,
    arena: Arena,
    rng: &mut Rng,
    children: &[process::Pid],
    plan: Plan,
) -> Option<process::Pid> {
    let call = calls::get(index);
    let mut args = [0usize; 6];
    let mut source = Source { rng, arena, children };
    for (arg, kind) in args.iter_mut().zip(call.kinds) {
        *arg = source.argument(*kind);
    }
    keep_alive(call, &mut args);
    if let Some(lane) = lane {
        lane.call.store(index as u64, Relaxed);
        for (slot, arg) in lane.args.iter().zip(args) {
            slot.store(arg as u64, Relaxed);
        }
    }
    if plan.print {
        let line = format!("{} {} {:x?}\n", process::gettid(), calls::short(call), args);
        let _ = io::write(PRINT_FD, line.as_bytes());
    }
    let child_rng = rng.split();
    // SAFETY: 1. the calls are meant to be wrong. What they break of this process, the supervisor replaces.
    let value = unsafe { rt::syscall6(call.number as usize, args) };
    board.made[index].fetch_add(1, Relaxed);
    if !(-4095..0).contains(&value) {
        board.succeeded[index].fetch_add(1, Relaxed);
    }
    match (call.effect, value) {
        (Effect::Forks, 0) => child(board, arena, child_rng, plan),
        (Effect::Forks, 1..) => Some(value as process::Pid),
        _ => None,
    }
}

/// Keeps a call from ending the run: signals go to the worker's family only, kernels are not replaced.
fn keep_alive(call: &Call, args: &mut [usize; 6]) {
    let target = args[0] as i32;
    let is_stranger = target == -1 || target == 1 || target == process::getppid();
    if call.effect == Effect::Kills && is_stranger {
        args[0] = 0;
    }
    let is_clone = call.effect == Effect::Forks && call.number == __NR_clone;
    if is_clone {
        args[0] &= !((CLONE_VM | CLONE_THREAD | CLONE_SIGHAND) as usize);
        args[1] = 0;
    }
}

/// A child's life: some calls, those that end a process among them, and the end.
fn child(board: &'static Board, arena: Arena, mut rng: Rng, plan: Plan) -> ! {
    let mut children = Vec::new();
    repair(&mut children);
    for _ in 0..CHILD_CALLS {
        let index = rng.below(calls::COUNT);
        if calls::get(index).effect != Effect::Forks || rng.one_in(8) {
            board.children.fetch_add(1, Relaxed);
            children.extend(one(board, None, index, arena, &mut rng, &children, plan));
        }
    }
    if rng.one_in(4) {
        let ends: Vec<usize> = (0..calls::COUNT).filter(|&i| calls::get(i).effect == Effect::Ends).collect();
        let index = rng.pick(&ends);
        one(board, None, index, arena, &mut rng, &children, plan);
    }
    process::exit(rng.below(256) as i32)
}
