//! Signals: delivery, masks, queues, stops, restarts.

use crate::waiting::until_asleep;
use crate::{Check, Outcome, ensure, equal};
use core::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use rt::nr::*;
use rt::signal::{self, Action, bit};
use rt::{Errno, Result, io, process, syscall, thread, time};

pub const CHECKS: &[Check] = &[
    ("caught", caught),
    ("blocked_then_delivered", blocked_then_delivered),
    ("standard_signals_merge", standard_signals_merge),
    ("real_time_queue", real_time_queue),
    ("default_actions", default_actions),
    ("interrupts_sleep", interrupts_sleep),
    ("restarts", restarts),
    ("alternate_stack", alternate_stack),
    ("fault_information", fault_information),
    ("nested", nested),
    ("mask_while_handling", mask_while_handling),
    ("reset_hand", reset_hand),
    ("wait_for", wait_for),
    ("suspend", suspend),
    ("child_signals", child_signals),
    ("no_zombies", no_zombies),
    ("to_a_thread", to_a_thread),
    ("to_a_group", to_a_group),
    ("kill_always_works", kill_always_works),
    ("registers_survive", registers_survive),
    ("floating_point_survives", floating_point_survives),
];

static COUNT: AtomicU32 = AtomicU32::new(0);
static ADDRESS: AtomicUsize = AtomicUsize::new(0);

extern "C" fn count(_: i32) {
    COUNT.fetch_add(1, Ordering::Relaxed);
}

fn times() -> u32 {
    COUNT.load(Ordering::Relaxed)
}

fn me() -> process::Pid {
    process::getpid()
}

fn caught() -> Outcome {
    signal::set_action(SIGUSR1, Action::Handle(count), 0, 0)?;
    for n in 1..=100 {
        process::kill(me(), SIGUSR1)?;
        equal!(times(), n);
    }
    signal::set_action(SIGUSR1, Action::Ignore, 0, 0)?;
    process::kill(me(), SIGUSR1)?;
    equal!(times(), 100);
    Ok(())
}

fn blocked_then_delivered() -> Outcome {
    signal::set_action(SIGUSR1, Action::Handle(count), 0, 0)?;
    equal!(signal::mask(SIG_BLOCK, bit(SIGUSR1))? & bit(SIGUSR1), 0);
    process::kill(me(), SIGUSR1)?;
    equal!((times(), signal::pending()? & bit(SIGUSR1)), (0, bit(SIGUSR1)));
    signal::mask(SIG_UNBLOCK, bit(SIGUSR1))?;
    equal!((times(), signal::pending()?), (1, 0));
    // SIGKILL and SIGSTOP cannot be blocked.
    signal::mask(SIG_SETMASK, u64::MAX)?;
    equal!(signal::mask(SIG_BLOCK, 0)? & (bit(SIGKILL) | bit(SIGSTOP)), 0);
    equal!(signal::mask(99, 0), Err(Errno::EINVAL));
    Ok(())
}

fn standard_signals_merge() -> Outcome {
    signal::set_action(SIGUSR2, Action::Handle(count), 0, 0)?;
    signal::mask(SIG_BLOCK, bit(SIGUSR2))?;
    for _ in 0..5 {
        process::kill(me(), SIGUSR2)?;
    }
    signal::mask(SIG_UNBLOCK, bit(SIGUSR2))?;
    equal!(times(), 1);
    Ok(())
}

static LAST: AtomicU32 = AtomicU32::new(0);

extern "C" fn in_order(number: i32) {
    // Lower real-time signals come first, and each as often as it was sent.
    if number as u32 >= LAST.swap(number as u32, Ordering::Relaxed) {
        count(number);
    }
}

fn real_time_queue() -> Outcome {
    for number in [40, 41] {
        signal::set_action(number, Action::Handle(in_order), 0, bit(40) | bit(41))?;
    }
    signal::mask(SIG_BLOCK, bit(40) | bit(41))?;
    for number in [41, 40, 41, 40, 40] {
        process::kill(me(), number)?;
    }
    for _ in 0..5 {
        let got = signal::wait(bit(40) | bit(41), Some(0))?;
        in_order(got as i32);
    }
    equal!(times(), 5);
    equal!(signal::wait(bit(40), Some(0)), Err(Errno::EAGAIN));
    Ok(())
}

fn default_actions() -> Outcome {
    for number in [SIGTERM, SIGINT, SIGHUP, SIGPIPE, SIGALRM, SIGUSR1, 34, 64] {
        let status = process::in_child(|| {
            let _ = signal::set_action(number, Action::Default, 0, 0);
            let _ = process::kill(me(), number);
            0
        })?;
        equal!(status.signal(), Some(number as i32));
    }
    for number in [SIGCHLD, SIGWINCH, SIGURG, SIGCONT] {
        let status = process::in_child(|| i32::from(process::kill(me(), number).is_err()))?;
        equal!(status.exit_code(), Some(0));
    }
    Ok(())
}

/// A child that sends `signal` to this process once that sleeps.
fn send_later(signal: u32) -> Result<process::Pid> {
    let target = me();
    match process::fork()? {
        Some(pid) => Ok(pid),
        None => {
            let sent = until_asleep(target).is_ok() && process::kill(target, signal).is_ok();
            process::exit(i32::from(!sent))
        }
    }
}

fn interrupts_sleep() -> Outcome {
    signal::set_action(SIGUSR1, Action::Handle(count), SA_RESTART, 0)?;
    send_later(SIGUSR1)?;
    equal!(time::sleep_once_ns(30_000_000_000), Err(Errno::EINTR));
    equal!(times(), 1);
    Ok(())
}

fn restarts() -> Outcome {
    let (read, write) = io::pipe(0)?;
    signal::set_action(SIGUSR1, Action::Handle(count), 0, 0)?;
    send_later(SIGUSR1)?;
    equal!(io::read(read, &mut [0]), Err(Errno::EINTR));
    signal::set_action(SIGUSR1, Action::Handle(count), SA_RESTART, 0)?;
    let target = me();
    if process::fork()?.is_none() {
        let sent = until_asleep(target).is_ok() && process::kill(target, SIGUSR1).is_ok();
        let _ = io::write(write, b"x");
        process::exit(i32::from(!sent));
    }
    equal!(io::read(read, &mut [0])?, 1);
    equal!(times(), 2);
    // An ignored signal interrupts nothing.
    signal::set_action(SIGUSR1, Action::Ignore, 0, 0)?;
    send_later(SIGUSR1)?;
    time::sleep_once_ns(100_000_000)?;
    Ok(())
}

extern "C" fn note_stack(_: i32) {
    let here = 0u8;
    ADDRESS.store(&raw const here as usize, Ordering::Relaxed);
}

fn alternate_stack() -> Outcome {
    let size = 65_536;
    let base = rt::mm::map_anonymous(size)?;
    let stack = [base, 0, size];
    // SAFETY: 1. the kernel reads one stack_t; the memory stays mapped.
    unsafe { syscall!(__NR_sigaltstack, stack.as_ptr(), 0) }?;
    let inside = || (base..base + size).contains(&ADDRESS.load(Ordering::Relaxed));
    signal::set_action(SIGUSR1, Action::Handle(note_stack), SA_ONSTACK, 0)?;
    process::kill(me(), SIGUSR1)?;
    ensure!(inside(), "SA_ONSTACK runs elsewhere");
    signal::set_action(SIGUSR1, Action::Handle(note_stack), 0, 0)?;
    process::kill(me(), SIGUSR1)?;
    ensure!(!inside(), "without SA_ONSTACK it runs on the alternate stack");
    let small = [base, 0, 100];
    // SAFETY: 1. the kernel reads one stack_t.
    equal!(unsafe { syscall!(__NR_sigaltstack, small.as_ptr(), 0) }, Err(Errno::ENOMEM));
    Ok(())
}

/// What SA_SIGINFO hands over: the address is at offset 16.
extern "C" fn note_fault(_: i32, info: *const usize) -> ! {
    // SAFETY: 1. the kernel passes a siginfo of 128 bytes.
    let (numbers, address) = unsafe { (*info.cast::<[i32; 3]>(), *info.add(2)) };
    let ok = address == ADDRESS.load(Ordering::Relaxed) && numbers[2] == LAST.load(Ordering::Relaxed) as i32;
    process::exit(if ok { 0 } else { 1 })
}

fn fault_information() -> Outcome {
    let at = rt::mm::map_anonymous(4096)?;
    // SAFETY: 1. the page is the check's own.
    unsafe { rt::mm::protect(at, 4096, PROT_READ) }?;
    for (address, code) in [(at + 5, 2), (64, 1)] {
        ADDRESS.store(address, Ordering::Relaxed);
        LAST.store(code, Ordering::Relaxed);
        let status = process::in_child(|| {
            // SAFETY: 1. with SA_SIGINFO the kernel passes the second argument that the function takes.
            let handler: signal::Handler =
                unsafe { core::mem::transmute(note_fault as extern "C" fn(i32, *const usize) -> !) };
            let _ = signal::set_action(SIGSEGV, Action::Handle(handler), SA_SIGINFO, 0);
            // SAFETY: 1. the write faults; the handler ends the process.
            unsafe { (address as *mut u8).write_volatile(1) };
            2
        })?;
        equal!((address, status.exit_code()), (address, Some(0)));
    }
    Ok(())
}

extern "C" fn send_other(_: i32) {
    let _ = process::kill(me(), SIGUSR2);
    // SIGUSR2 is handled before this returns.
    if times() == 1 {
        count(0);
    }
}

fn nested() -> Outcome {
    signal::set_action(SIGUSR1, Action::Handle(send_other), 0, 0)?;
    signal::set_action(SIGUSR2, Action::Handle(count), 0, 0)?;
    process::kill(me(), SIGUSR1)?;
    equal!(times(), 2);
    Ok(())
}

extern "C" fn send_same(number: i32) {
    count(number);
    if times() < 5 {
        let _ = process::kill(me(), number as u32);
        LAST.fetch_max(times(), Ordering::Relaxed);
    }
}

fn mask_while_handling() -> Outcome {
    // Its own signal waits until the handler returns; with SA_NODEFER it does not.
    signal::set_action(SIGUSR1, Action::Handle(send_same), 0, 0)?;
    process::kill(me(), SIGUSR1)?;
    equal!((times(), LAST.load(Ordering::Relaxed)), (5, 4));
    COUNT.store(0, Ordering::Relaxed);
    LAST.store(0, Ordering::Relaxed);
    signal::set_action(SIGUSR1, Action::Handle(send_same), SA_NODEFER, 0)?;
    process::kill(me(), SIGUSR1)?;
    equal!((times(), LAST.load(Ordering::Relaxed)), (5, 5));
    Ok(())
}

fn reset_hand() -> Outcome {
    let status = process::in_child(|| {
        let _ = signal::set_action(SIGUSR1, Action::Handle(count), SA_RESETHAND, 0);
        let _ = process::kill(me(), SIGUSR1);
        let _ = process::kill(me(), SIGUSR1);
        times() as i32
    })?;
    equal!(status.signal(), Some(SIGUSR1 as i32));
    Ok(())
}

fn wait_for() -> Outcome {
    signal::mask(SIG_BLOCK, bit(SIGUSR1))?;
    equal!(signal::wait(bit(SIGUSR1), Some(1_000_000)), Err(Errno::EAGAIN));
    send_later(SIGUSR1)?;
    equal!(signal::wait(bit(SIGUSR1), Some(30_000_000_000))?, SIGUSR1);
    Ok(())
}

fn suspend() -> Outcome {
    signal::set_action(SIGUSR1, Action::Handle(count), 0, 0)?;
    signal::mask(SIG_BLOCK, bit(SIGUSR1))?;
    process::kill(me(), SIGUSR1)?;
    signal::suspend(0);
    equal!(times(), 1);
    equal!(signal::mask(SIG_BLOCK, 0)? & bit(SIGUSR1), bit(SIGUSR1));
    Ok(())
}

fn child_signals() -> Outcome {
    signal::set_action(SIGCHLD, Action::Handle(count), SA_NOCLDSTOP, 0)?;
    process::in_child(|| 0)?;
    equal!(times(), 1);
    Ok(())
}

fn no_zombies() -> Outcome {
    signal::set_action(SIGCHLD, Action::Ignore, 0, 0)?;
    // Often: not even for a moment is there a zombie that the waiting parent could meet.
    for _ in 0..50 {
        if process::fork()?.is_none() {
            process::exit(0);
        }
        equal!(process::wait(-1 as _, 0).err(), Some(Errno::ECHILD));
    }
    Ok(())
}

fn to_a_thread() -> Outcome {
    use alloc::sync::Arc;
    signal::set_action(SIGUSR1, Action::Handle(count), 0, 0)?;
    let done = Arc::new(AtomicU32::new(0));
    let flag = done.clone();
    let thread = thread::spawn(move || {
        while COUNT.load(Ordering::Relaxed) == 0 {
            let _ = time::sleep_once_ns(10_000_000);
        }
        flag.store(1, Ordering::Release);
    })?;
    signal::mask(SIG_BLOCK, bit(SIGUSR1))?;
    process::tgkill(me(), thread.tid(), SIGUSR1)?;
    thread.join();
    equal!((times(), done.load(Ordering::Acquire)), (1, 1));
    equal!(process::tgkill(me(), 1, SIGUSR1), Err(Errno::ESRCH));
    Ok(())
}

fn to_a_group() -> Outcome {
    let mut pids = alloc::vec::Vec::new();
    for _ in 0..3 {
        match process::fork()? {
            Some(pid) => pids.push(pid),
            None => loop {
                time::sleep_ns(1_000_000_000);
            },
        }
    }
    for &pid in &pids {
        process::setpgid(pid, pids[0])?;
    }
    process::kill(-(pids[0] as i32) as _, SIGTERM)?;
    for pid in pids {
        equal!(process::wait_exit(pid)?.signal(), Some(SIGTERM as i32));
    }
    Ok(())
}

fn kill_always_works() -> Outcome {
    let Some(pid) = process::fork()? else {
        let _ = signal::mask(SIG_SETMASK, u64::MAX);
        loop {
            core::hint::spin_loop();
        }
    };
    time::sleep_ns(20_000_000);
    process::kill(pid, SIGKILL)?;
    equal!(process::wait_exit(pid)?.signal(), Some(9));
    Ok(())
}

/// A timer signal every millisecond must not disturb what the program computes.
fn under_signals(compute: fn() -> u64) -> Outcome {
    let expected = compute();
    signal::set_action(SIGALRM, Action::Handle(disturb), SA_RESTART, 0)?;
    let interval = [0u64, 1000, 0, 1000];
    // SAFETY: 1. the kernel reads one itimerval.
    unsafe { syscall!(__NR_setitimer, 0, interval.as_ptr(), 0) }?;
    let end = time::now_ns() + 200_000_000;
    while time::now_ns() < end || times() < 3 {
        equal!(compute(), expected);
    }
    Ok(())
}

extern "C" fn disturb(number: i32) {
    count(number);
    let noise = core::hint::black_box(f64::from(times())) * 1.5;
    core::hint::black_box(noise);
}

fn registers_survive() -> Outcome {
    under_signals(|| {
        let mut state = [1u64, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12];
        for round in 0..20_000u64 {
            for at in 0..12 {
                state[at] = state[at].rotate_left(7).wrapping_add(state[(at + 5) % 12]) ^ round;
            }
        }
        state.iter().fold(0, |a, b| a ^ b)
    })
}

fn floating_point_survives() -> Outcome {
    under_signals(|| {
        let mut sums = [0.5f64, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5];
        for round in 0..5_000 {
            for at in 0..8 {
                sums[at] = sums[at] * 0.999 + sums[(at + 3) % 8] * 0.001 + f64::from(round) * 1e-9;
            }
        }
        sums.iter().fold(0, |a, b| a ^ b.to_bits())
    })
}
