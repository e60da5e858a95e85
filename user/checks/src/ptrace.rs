//! ptrace: stops, registers, memory, events.

use crate::{Check, Outcome, ensure, equal};
use alloc::ffi::CString;
use alloc::format;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use rt::nr::*;
use rt::{Errno, Result, fs, process, signal, syscall, thread, time};

pub const CHECKS: &[Check] = &[
    ("signal_stop", signal_stop),
    ("suppress_and_replace", suppress_and_replace),
    ("call_stops", call_stops),
    ("change_a_call", change_a_call),
    ("memory", memory),
    ("registers", registers),
    ("hardware_breakpoints", hardware_breakpoints),
    ("breakpoint_on_an_instruction", breakpoint_on_an_instruction),
    ("attach_and_detach", attach_and_detach),
    ("seize_and_interrupt", seize_and_interrupt),
    ("seize_a_stopped_process", seize_a_stopped_process),
    ("fork_event", fork_event),
    ("exec_stop", exec_stop),
    ("exit_kill", exit_kill),
    ("tracer_dies", tracer_dies),
    ("one_thread_traces", one_thread_traces),
    ("tracing_ends_with_the_thread", tracing_ends_with_the_thread),
    ("maker_of_a_tracee", maker_of_a_tracee),
    ("remote_memory", remote_memory),
    ("memory_taken_at_the_end", memory_taken_at_the_end),
    ("errors", errors),
];

const TRACEME: usize = 0;
const PEEKDATA: usize = 2;
const POKEDATA: usize = 5;
const CONT: usize = 7;
const ATTACH: usize = 16;
const DETACH: usize = 17;
const SYSCALL: usize = 24;
const SETOPTIONS: usize = 0x4200;
const GETEVENTMSG: usize = 0x4201;
const GETSIGINFO: usize = 0x4202;
const GETREGSET: usize = 0x4204;
const SETREGSET: usize = 0x4205;
const SEIZE: usize = 0x4206;
const INTERRUPT: usize = 0x4207;
const LISTEN: usize = 0x4208;
const CALL_INFO: usize = 0x420e;
const SYSGOOD: usize = 1;
const FORK: usize = 2;
const EXEC: usize = 16;
const EXITKILL: usize = 1 << 20;
const WALL: u32 = 0x4000_0000;
const WNOTHREAD: u32 = 0x2000_0000;
const EVENT_STOP: i32 = 128;

fn ptrace(request: usize, pid: i32, addr: usize, data: usize) -> Result<usize> {
    // SAFETY: 1. memory that is named is the caller's own and large enough.
    unsafe { syscall!(__NR_ptrace, request, pid, addr, data) }
}

/// Waits for a tracee or child; its status as wait4 encodes it.
fn wait(pid: i32) -> Result<i32> {
    let mut status = 0i32;
    // SAFETY: 1. the kernel writes one int.
    unsafe { syscall!(__NR_wait4, pid, &raw mut status, WALL, 0) }?;
    Ok(status)
}

fn stopped(signal: i32) -> i32 {
    signal << 8 | 0x7f
}

const TRAP: i32 = SIGTRAP as i32;

/// A child that is traced and stopped, and then runs `body`.
fn tracee(body: impl FnOnce() -> i32) -> Result<i32> {
    let Some(child) = process::fork()? else {
        let _ = ptrace(TRACEME, 0, 0, 0);
        let _ = process::kill(process::getpid(), SIGSTOP);
        process::exit(body());
    };
    let child = child as i32;
    let status = wait(child)?;
    if status != stopped(SIGSTOP as i32) {
        return Err(Errno::EINVAL);
    }
    Ok(child)
}

/// What PTRACE_GET_SYSCALL_INFO tells: kind, and the words behind the head.
fn call_info(pid: i32) -> Result<(u8, [u64; 8])> {
    let mut words = [0u64; 11];
    ptrace(CALL_INFO, pid, size_of_val(&words), words.as_mut_ptr() as usize)?;
    let mut rest = [0; 8];
    rest.copy_from_slice(&words[3..]);
    Ok((words[0] as u8, rest))
}

fn signal_stop() -> Outcome {
    let child = tracee(|| {
        let _ = process::kill(process::getpid(), SIGUSR1);
        5
    })?;
    ptrace(CONT, child, 0, 0)?;
    equal!(wait(child)?, stopped(SIGUSR1 as i32));
    let mut info = [0u32; 32];
    ptrace(GETSIGINFO, child, 0, info.as_mut_ptr() as usize)?;
    equal!((info[0], info[2], info[4]), (SIGUSR1, 0, child as u32));
    // Delivered, it kills.
    ptrace(CONT, child, 0, SIGUSR1 as usize)?;
    equal!(wait(child)?, SIGUSR1 as i32);
    Ok(())
}

fn suppress_and_replace() -> Outcome {
    let child = tracee(|| {
        let _ = process::kill(process::getpid(), SIGTERM);
        let _ = process::kill(process::getpid(), SIGTERM);
        5
    })?;
    ptrace(CONT, child, 0, 0)?;
    equal!(wait(child)?, stopped(SIGTERM as i32));
    ptrace(CONT, child, 0, 0)?;
    equal!(wait(child)?, stopped(SIGTERM as i32));
    ptrace(CONT, child, 0, SIGINT as usize)?;
    equal!(wait(child)?, SIGINT as i32);
    // An ignored signal is shown, too.
    let child = tracee(|| {
        let _ = signal::set_action(SIGUSR2, signal::Action::Ignore, 0, 0);
        let _ = process::kill(process::getpid(), SIGUSR2);
        5
    })?;
    ptrace(CONT, child, 0, 0)?;
    equal!(wait(child)?, stopped(SIGUSR2 as i32));
    ptrace(CONT, child, 0, SIGUSR2 as usize)?;
    equal!(wait(child)?, 5 << 8);
    Ok(())
}

fn getppid() -> i32 {
    process::getppid() as i32
}

fn call_stops() -> Outcome {
    let child = tracee(|| i32::from(getppid() != 0))?;
    ptrace(SETOPTIONS, child, 0, SYSGOOD)?;
    let mut seen = 0;
    loop {
        ptrace(SYSCALL, child, 0, 0)?;
        let status = wait(child)?;
        if status & 0xff != 0x7f {
            equal!(status, 1 << 8);
            break;
        }
        equal!(status, stopped(TRAP | 0x80));
        let (kind, words) = call_info(child)?;
        if kind == 1 && words[0] == u64::from(__NR_getppid) {
            ptrace(SYSCALL, child, 0, 0)?;
            equal!(wait(child)?, stopped(TRAP | 0x80));
            let (kind, words) = call_info(child)?;
            equal!((kind, words[0]), (2, process::getpid() as u64));
            seen += 1;
        }
    }
    equal!(seen, 1);
    Ok(())
}

/// The registers of the general set.
fn words(pid: i32) -> Result<([u64; 32], usize)> {
    let mut regs = [0u64; 32];
    let mut to = [regs.as_mut_ptr() as usize, size_of_val(&regs)];
    ptrace(GETREGSET, pid, 1, to.as_mut_ptr() as usize)?;
    Ok((regs, to[1]))
}

fn set_words(pid: i32, regs: &[u64; 32], len: usize) -> Result<()> {
    let mut from = [regs.as_ptr() as usize, len];
    ptrace(SETREGSET, pid, 1, from.as_mut_ptr() as usize).map(drop)
}

/// Where the result of a system call is in them, on both architectures.
const RESULT: usize = 10;

fn change_a_call() -> Outcome {
    let child = tracee(|| i32::from(getppid() != 4711))?;
    ptrace(SETOPTIONS, child, 0, SYSGOOD)?;
    loop {
        ptrace(SYSCALL, child, 0, 0)?;
        equal!(wait(child)?, stopped(TRAP | 0x80));
        let (kind, info) = call_info(child)?;
        if kind == 1 && info[0] == u64::from(__NR_getppid) {
            break;
        }
    }
    ptrace(SYSCALL, child, 0, 0)?;
    equal!(wait(child)?, stopped(TRAP | 0x80));
    let (mut regs, len) = words(child)?;
    equal!(regs[RESULT], process::getpid() as u64);
    regs[RESULT] = 4711;
    set_words(child, &regs, len)?;
    ptrace(CONT, child, 0, 0)?;
    equal!(wait(child)?, 0);
    Ok(())
}

static SHARED: AtomicU64 = AtomicU64::new(1);
static FIXED: u64 = 77;

fn memory() -> Outcome {
    let child = tracee(|| (SHARED.load(Ordering::Relaxed) != 99) as i32)?;
    let at = &raw const SHARED as usize;
    let mut word = 0u64;
    ptrace(PEEKDATA, child, at, &raw mut word as usize)?;
    equal!(word, 1);
    ptrace(POKEDATA, child, at, 99)?;
    equal!(SHARED.load(Ordering::Relaxed), 1);
    // What the program itself may not write, a debugger may, in a private copy.
    let fixed = &raw const FIXED as usize;
    ptrace(POKEDATA, child, fixed, 78)?;
    ptrace(PEEKDATA, child, fixed, &raw mut word as usize)?;
    equal!((word, FIXED), (78, 77));
    equal!(ptrace(PEEKDATA, child, 8, &raw mut word as usize), Err(Errno::EIO));
    equal!(ptrace(POKEDATA, child, 8, 0), Err(Errno::EIO));
    ptrace(CONT, child, 0, 0)?;
    equal!(wait(child)?, 0);
    Ok(())
}

fn registers() -> Outcome {
    let child = tracee(|| 0)?;
    let (regs, len) = words(child)?;
    equal!(len, if cfg!(target_arch = "x86_64") { 27 * 8 } else { 32 * 8 });
    let pc = regs[if cfg!(target_arch = "x86_64") { 16 } else { 0 }];
    ensure!(pc > 4096, "pc {pc:#x}");
    set_words(child, &regs, len)?;
    equal!(words(child)?.0, regs);
    let mut float = [0u64; 128];
    let mut to = [float.as_mut_ptr() as usize, size_of_val(&float)];
    ptrace(GETREGSET, child, 2, to.as_mut_ptr() as usize)?;
    equal!(to[1], if cfg!(target_arch = "x86_64") { 512 } else { 264 });
    equal!(ptrace(GETREGSET, child, 0x7777, to.as_mut_ptr() as usize), Err(Errno::EINVAL));
    // No part of a register: by that gdb finds out how long they are.
    to[1] = 132;
    equal!(ptrace(GETREGSET, child, 2, to.as_mut_ptr() as usize), Err(Errno::EINVAL));
    ptrace(CONT, child, 0, 0)?;
    equal!(wait(child)?, 0);
    Ok(())
}

fn sleeper() -> Result<i32> {
    match process::fork()? {
        Some(child) => Ok(child as i32),
        None => loop {
            time::sleep_ns(10_000_000);
        },
    }
}

/// Where `u_debugreg` is in x86-64's `struct user`.
const DEBUG_REGISTERS: usize = 848;
const PEEKUSER: usize = 3;
const POKEUSER: usize = 6;

fn set_debug(pid: i32, number: usize, value: usize) -> Result<()> {
    ptrace(POKEUSER, pid, DEBUG_REGISTERS + number * 8, value).map(drop)
}

fn debug(pid: i32, number: usize) -> Result<u64> {
    let mut value = 0u64;
    ptrace(PEEKUSER, pid, DEBUG_REGISTERS + number * 8, &raw mut value as usize)?;
    Ok(value)
}

static WATCHED: AtomicU64 = AtomicU64::new(0);

/// si_signo and si_code of the stop.
fn trap_code(pid: i32) -> Result<(u32, u32)> {
    let mut info = [0u32; 32];
    ptrace(GETSIGINFO, pid, 0, info.as_mut_ptr() as usize)?;
    Ok((info[0], info[2]))
}

fn hardware_breakpoints() -> Outcome {
    let child = tracee(|| {
        WATCHED.store(1, Ordering::SeqCst);
        let seen = WATCHED.load(Ordering::SeqCst) as i32;
        // The kernel writes there, too: that is no business of the tracer's.
        // SAFETY: 1. the kernel writes one word of eight.
        let _ = unsafe { syscall!(__NR_getcpu, WATCHED.as_ptr(), 0, 0) };
        WATCHED.store(2, Ordering::SeqCst);
        seen
    })?;
    let address = WATCHED.as_ptr() as usize;
    if cfg!(not(target_arch = "x86_64")) {
        equal!(set_debug(child, 0, address), Err(Errno::EIO));
        let _ = process::kill(child as _, SIGKILL);
        wait(child)?;
        return Ok(());
    }
    // Breakpoint 0, eight bytes, on writing.
    const WRITES: usize = 0x0009_0001;
    equal!(set_debug(child, 0, 1 << 63), Err(Errno::EINVAL));
    equal!(set_debug(child, 4, 0), Err(Errno::EIO));
    set_debug(child, 0, address)?;
    set_debug(child, 7, WRITES)?;
    equal!((debug(child, 0)?, debug(child, 7)? & 0xffff_00ff), (address as u64, WRITES as u64));
    // On a port; eight bytes that are not aligned.
    equal!(set_debug(child, 7, 0x0002_0001), Err(Errno::EINVAL));
    ptrace(CONT, child, 0, 0)?;
    equal!(wait(child)?, stopped(TRAP));
    equal!(trap_code(child)?, (SIGTRAP, 4));
    equal!(debug(child, 6)? & 0xf, 1);
    let mut word = 0u64;
    ptrace(PEEKDATA, child, address, &raw mut word as usize)?;
    equal!(word, 1);
    ptrace(CONT, child, 0, 0)?;
    equal!(wait(child)?, stopped(TRAP));
    ptrace(PEEKDATA, child, address, &raw mut word as usize)?;
    equal!(word, 2);
    // Taken off, nothing stops it.
    set_debug(child, 7, 0)?;
    ptrace(CONT, child, 0, 0)?;
    equal!(wait(child)?, 1 << 8);
    Ok(())
}

#[inline(never)]
extern "C" fn landmark() {
    WATCHED.fetch_add(1, Ordering::SeqCst);
}

fn breakpoint_on_an_instruction() -> Outcome {
    if cfg!(not(target_arch = "x86_64")) {
        return Ok(());
    }
    let child = tracee(|| {
        let call: extern "C" fn() = core::hint::black_box(landmark);
        call();
        // A child of the tracee has no breakpoints.
        let clean = process::in_child(|| {
            call();
            0
        });
        call();
        i32::from(clean.ok().and_then(|status| status.exit_code()) != Some(0))
    })?;
    set_debug(child, 1, landmark as *const () as usize)?;
    set_debug(child, 7, 1 << 2)?;
    for _ in 0..2 {
        ptrace(CONT, child, 0, 0)?;
        let mut status = wait(child)?;
        // The end of its child is told, too.
        while status == stopped(SIGCHLD as i32) {
            ptrace(CONT, child, 0, 0)?;
            status = wait(child)?;
        }
        equal!(status, stopped(TRAP));
        equal!((trap_code(child)?, debug(child, 6)? & 0xf), ((SIGTRAP, 4), 2));
    }
    ptrace(CONT, child, 0, 0)?;
    equal!(wait(child)?, 0);
    Ok(())
}

fn attach_and_detach() -> Outcome {
    let child = sleeper()?;
    ptrace(ATTACH, child, 0, 0)?;
    equal!(wait(child)?, stopped(SIGSTOP as i32));
    equal!(ptrace(ATTACH, child, 0, 0), Err(Errno::EPERM));
    ptrace(DETACH, child, 0, 0)?;
    equal!(ptrace(CONT, child, 0, 0), Err(Errno::ESRCH));
    ptrace(ATTACH, child, 0, 0)?;
    equal!(wait(child)?, stopped(SIGSTOP as i32));
    ptrace(DETACH, child, 0, SIGTERM as usize)?;
    equal!(wait(child)?, SIGTERM as i32);
    Ok(())
}

fn seize_and_interrupt() -> Outcome {
    let child = sleeper()?;
    ptrace(SEIZE, child, 0, SYSGOOD)?;
    equal!(ptrace(CONT, child, 0, 0), Err(Errno::ESRCH));
    for _ in 0..20 {
        ptrace(INTERRUPT, child, 0, 0)?;
        equal!(wait(child)?, stopped(TRAP | EVENT_STOP << 8));
        ptrace(CONT, child, 0, 0)?;
    }
    process::kill(child as _, SIGKILL)?;
    equal!(wait(child)?, SIGKILL as i32);
    Ok(())
}

/// How strace starts a program: SIGCONT may come before, while and after the tracer looks at the stop.
fn seize_a_stopped_process() -> Outcome {
    for round in 0..30 {
        let Some(child) = process::fork()? else {
            let _ = process::kill(process::getpid(), SIGSTOP);
            process::exit(7);
        };
        let child = child as i32;
        let mut status = 0i32;
        // SAFETY: 1. the kernel writes one int.
        unsafe { syscall!(__NR_wait4, child, &raw mut status, WUNTRACED, 0) }?;
        equal!(status, stopped(SIGSTOP as i32));
        ptrace(SEIZE, child, 0, 0)?;
        process::kill(child as _, SIGCONT)?;
        loop {
            let status = wait(child)?;
            if status & 0x7f != 0x7f {
                equal!(status, 7 << 8);
                break;
            }
            let (signal, event) = (status >> 8 & 0xff, status >> 16);
            if event == EVENT_STOP && signal == SIGSTOP as i32 {
                ptrace(LISTEN, child, 0, 0)?;
            } else {
                ensure!(event == EVENT_STOP || signal == SIGCONT as i32, "round {round}: {status:#x}");
                let deliver = if event == 0 { signal as usize } else { 0 };
                ptrace(CONT, child, 0, deliver)?;
            }
        }
    }
    Ok(())
}

fn fork_event() -> Outcome {
    let child = tracee(|| {
        let status = process::in_child(|| 9);
        status.ok().and_then(|s| s.exit_code()).unwrap_or(1)
    })?;
    ptrace(SETOPTIONS, child, 0, FORK | SYSGOOD)?;
    ptrace(CONT, child, 0, 0)?;
    equal!(wait(child)?, stopped(TRAP | 1 << 8));
    let mut message = 0u64;
    ptrace(GETEVENTMSG, child, 0, &raw mut message as usize)?;
    let grandchild = message as i32;
    equal!(wait(grandchild)?, stopped(SIGSTOP as i32));
    ptrace(CONT, child, 0, 0)?;
    ptrace(CONT, grandchild, 0, 0)?;
    equal!(wait(grandchild)?, 9 << 8);
    equal!(wait(child)?, stopped(SIGCHLD as i32));
    ptrace(CONT, child, 0, 0)?;
    equal!(wait(child)?, 9 << 8);
    Ok(())
}

fn run_self() -> i32 {
    let argv = process::Strings::new([c"checks", c"--list"]);
    let envp = process::Strings::new([]);
    let _ = process::execve(c"/proc/self/exe", &argv, &envp);
    1
}

fn exec_stop() -> Outcome {
    let quiet = || {
        for fd in 0..3 {
            let _ = rt::io::close(fd);
        }
        run_self()
    };
    // Of old, a SIGTRAP; with the option, an event.
    for option in [0, EXEC] {
        let child = tracee(quiet)?;
        ptrace(SETOPTIONS, child, 0, option)?;
        ptrace(CONT, child, 0, 0)?;
        let event = if option == 0 { TRAP } else { TRAP | 4 << 8 };
        equal!(wait(child)?, stopped(event));
        ptrace(CONT, child, 0, 0)?;
        let status = wait(child)?;
        ensure!(status & 0x7f != 0x7f, "{status:#x}");
    }
    Ok(())
}

fn exit_kill() -> Outcome {
    let victim = sleeper()?;
    let status = process::in_child(|| {
        // Siblings may be traced: the parent is the same user.
        let ok = ptrace(SEIZE, victim, 0, EXITKILL).is_ok();
        i32::from(!ok)
    })?;
    equal!(status.exit_code(), Some(0));
    equal!(wait(victim)?, SIGKILL as i32);
    Ok(())
}

fn tracer_dies() -> Outcome {
    let victim = sleeper()?;
    let status = process::in_child(|| {
        let attached = ptrace(ATTACH, victim, 0, 0).is_ok() && wait(victim) == Ok(stopped(SIGSTOP as i32));
        i32::from(!attached)
    })?;
    equal!(status.exit_code(), Some(0));
    // It runs on, and can be traced again.
    ptrace(SEIZE, victim, 0, 0)?;
    ptrace(INTERRUPT, victim, 0, 0)?;
    let status = wait(victim)?;
    equal!(status & 0xff, 0x7f);
    process::kill(victim as _, SIGKILL)?;
    equal!(wait(victim)?, SIGKILL as i32);
    Ok(())
}

/// What a call by another thread of this process answers; the thread has ended, but perhaps not all that goes with it.
fn in_thread(call: impl FnOnce() -> Result<usize> + Send + 'static) -> Result<Result<usize>> {
    static ANSWER: AtomicI64 = AtomicI64::new(0);
    let thread = thread::spawn(move || {
        let answer = call().map_or_else(|errno| -i64::from(errno.raw()), |value| value as i64);
        ANSWER.store(answer, Ordering::SeqCst);
    })?;
    thread.join();
    let answer = ANSWER.load(Ordering::SeqCst);
    Ok(if answer < 0 { Err(Errno::from_raw(-answer as u16)) } else { Ok(answer as usize) })
}

/// wait4(2) without waiting, for children and tracees of the calling thread alone.
fn look_for_own(pid: i32) -> Result<usize> {
    // SAFETY: 1. nothing is written.
    unsafe { syscall!(__NR_wait4, pid, 0, WALL | WNOTHREAD | WNOHANG, 0) }
}

/// The number of the thread that traces, as /proc tells.
fn tracer_of(pid: i32) -> Result<i32> {
    let path = CString::new(format!("/proc/{pid}/status")).map_err(|_| Errno::EINVAL)?;
    let status = fs::read_file(&path)?;
    let text = core::str::from_utf8(&status).map_err(|_| Errno::EINVAL)?;
    let line = text.lines().find_map(|line| line.strip_prefix("TracerPid:"));
    line.and_then(|number| number.trim().parse().ok()).ok_or(Errno::ENOENT)
}

fn one_thread_traces() -> Outcome {
    let child = tracee(|| 5)?;
    equal!(tracer_of(child)?, process::getpid() as i32);
    equal!(in_thread(move || ptrace(CONT, child, 0, 0))?, Err(Errno::ESRCH));
    equal!(in_thread(move || ptrace(SETOPTIONS, child, 0, SYSGOOD))?, Err(Errno::ESRCH));
    equal!(in_thread(move || ptrace(DETACH, child, 0, 0))?, Err(Errno::ESRCH));
    equal!(in_thread(move || ptrace(ATTACH, child, 0, 0))?, Err(Errno::EPERM));
    equal!(in_thread(move || look_for_own(child))?, Err(Errno::ECHILD));
    equal!(look_for_own(child), Ok(0));
    ptrace(CONT, child, 0, 0)?;
    // Any thread may wait.
    equal!(in_thread(move || wait(child).map(|status| status as usize))?, Ok(5 << 8));
    Ok(())
}

fn tracing_ends_with_the_thread() -> Outcome {
    let child = sleeper()?;
    for options in [0, EXITKILL] {
        // The first thread's end is under way when it has been joined: until then, EPERM.
        let attached = in_thread(move || {
            loop {
                match ptrace(SEIZE, child, 0, options) {
                    Err(Errno::EPERM) => time::sleep_ns(1_000_000),
                    other => return other,
                }
            }
        })?;
        equal!(attached, Ok(0));
    }
    equal!(wait(child)?, SIGKILL as i32);
    Ok(())
}

/// PTRACE_TRACEME makes the forking thread the tracer; when that has ended, the process's first.
fn maker_of_a_tracee() -> Outcome {
    let forked = in_thread(|| {
        let child = tracee(|| 5)?;
        // SAFETY: 1. it takes nothing.
        let own = unsafe { syscall!(__NR_gettid) }? as i32;
        if tracer_of(child)? != own || look_for_own(child) != Ok(0) {
            return Err(Errno::EINVAL);
        }
        process::kill(child as _, SIGKILL)?;
        wait(child)?;
        sleeper().map(|child| child as usize)
    })?;
    let orphan = forked? as i32;
    while look_for_own(orphan) == Err(Errno::ECHILD) {
        time::sleep_ns(1_000_000);
    }
    equal!(look_for_own(orphan), Ok(0));
    process::kill(orphan as _, SIGKILL)?;
    equal!(wait(orphan)?, SIGKILL as i32);
    Ok(())
}

fn remote_memory() -> Outcome {
    let child = sleeper()?;
    let (mut near, far) = ([0u8; 16], &raw const FIXED as usize);
    let local = [[near.as_mut_ptr() as usize, 3], [near.as_ptr() as usize + 8, 5]];
    let remote = [[far, 8]];
    // SAFETY: 1. the kernel writes into the pieces of `near`.
    let copied = unsafe { syscall!(__NR_process_vm_readv, child, local.as_ptr(), 2, remote.as_ptr(), 1, 0) }?;
    equal!((copied, near[0], near[8]), (8, 77, 0));
    let bad = [[8usize, 8]];
    // SAFETY: 1. as above; the kernel refuses the other address.
    let result = unsafe { syscall!(__NR_process_vm_readv, child, local.as_ptr(), 2, bad.as_ptr(), 1, 0) };
    equal!(result, Err(Errno::EFAULT));
    process::kill(child as _, SIGKILL)?;
    wait(child)?;
    Ok(())
}

/// process_mrelease(2), of a process that stands at its end.
fn memory_taken_at_the_end() -> Outcome {
    const EXIT: usize = 1 << 6;
    let at = rt::mm::map_anonymous(rt::mm::PAGE)?;
    // SAFETY: 1. the page was just mapped, and lives as long as the process.
    let own = unsafe { &*(at as *const AtomicU64) };
    let child = tracee(|| {
        own.store(5, Ordering::SeqCst);
        0
    })?;
    // SAFETY: 1. pidfd_open and process_mrelease take numbers.
    let (pidfd, release) = unsafe {
        let pidfd = syscall!(__NR_pidfd_open, child, 0)?;
        (pidfd, |fd: usize, flags: usize| syscall!(__NR_process_mrelease, fd, flags))
    };
    equal!(release(pidfd, 1), Err(Errno::EINVAL));
    equal!(release(99, 0), Err(Errno::EBADF));
    equal!(release(pidfd, 0), Err(Errno::EINVAL));
    ptrace(SETOPTIONS, child, 0, EXIT)?;
    ptrace(CONT, child, 0, 0)?;
    equal!(wait(child)?, stopped(TRAP | 6 << 8));
    let mut word = 0u64;
    ptrace(PEEKDATA, child, at, &raw mut word as usize)?;
    equal!(word, 5);
    equal!(release(pidfd, 0), Ok(0));
    // It is gone, not zero.
    equal!(ptrace(PEEKDATA, child, at, &raw mut word as usize), Err(Errno::EIO));
    ptrace(CONT, child, 0, 0)?;
    let mut info = [0u32; 32];
    // SAFETY: 1. the kernel writes 128 bytes.
    unsafe { syscall!(__NR_waitid, 1, child, info.as_mut_ptr(), WEXITED | WNOWAIT, 0) }?;
    equal!(release(pidfd, 0), Err(Errno::ESRCH));
    equal!(wait(child)?, 0);
    equal!(release(pidfd, 0), Err(Errno::ESRCH));
    Ok(())
}

fn errors() -> Outcome {
    equal!(ptrace(CONT, 0x3fff_ffff, 0, 0), Err(Errno::ESRCH));
    equal!(ptrace(ATTACH, process::getpid() as i32, 0, 0), Err(Errno::EPERM));
    let child = sleeper()?;
    equal!(ptrace(CONT, child, 0, 0), Err(Errno::ESRCH));
    equal!(ptrace(SEIZE, child, 1, 0), Err(Errno::EIO));
    equal!(ptrace(SEIZE, child, 0, 1 << 30), Err(Errno::EIO));
    ptrace(ATTACH, child, 0, 0)?;
    wait(child)?;
    equal!(ptrace(SETOPTIONS, child, 0, 1 << 30), Err(Errno::EINVAL));
    equal!(ptrace(CONT, child, 0, 65), Err(Errno::EIO));
    equal!(ptrace(9999, child, 0, 0), Err(Errno::EIO));
    equal!(ptrace(INTERRUPT, child, 0, 0), Err(Errno::EIO));
    process::kill(child as _, SIGKILL)?;
    equal!(wait(child)?, SIGKILL as i32);
    Ok(())
}
