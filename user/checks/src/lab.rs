//! What Ochre has beyond Linux: penalties, parking, policies that are switched while the machine runs. On Linux
//! each of these checks only asserts that it is not there.

use crate::hogs::{self, Hog};
use crate::{Check, Outcome, ensure, equal};
use alloc::string::String;
use alloc::vec::Vec;
use core::ffi::CStr;
use rt::nr::*;
use rt::process::{self, Pid};
use rt::{Errno, Result, fs, io, lab, signal, syscall, thread, time};

pub const CHECKS: &[Check] = &[
    ("not_on_linux", not_on_linux),
    ("penalty_shares", penalty_shares),
    ("penalty_arguments", penalty_arguments),
    ("parked_stands_still", parked_stands_still),
    ("parked_is_killed", parked_is_killed),
    ("parked_signals_wait", parked_signals_wait),
    ("park_sleeper", park_sleeper),
    ("park_oneself", park_oneself),
    ("park_thread", park_thread),
    ("park_arguments", park_arguments),
    ("park_under_load", park_under_load),
    ("policy_names", policy_names),
    ("policy_switch_under_load", policy_switch_under_load),
    ("knobs", knobs),
    ("knob_is_effective", knob_is_effective),
    ("fair_server", fair_server),
    ("watchdog", watchdog),
];

const POLICY: &CStr = c"/sys/kernel/sched/policy";

fn is_ochre() -> bool {
    lab::penalty(0) != Err(Errno::ENOSYS)
}

fn not_on_linux() -> Outcome {
    if !is_ochre() {
        equal!(lab::penalize(0, 0), Err(Errno::ENOSYS));
        equal!(lab::park(0), Err(Errno::ENOSYS));
        equal!(lab::unpark(0), Err(Errno::ENOSYS));
        equal!(lab::parked(&mut []), Err(Errno::ENOSYS));
    }
    // SAFETY: 1. there is no such call.
    equal!(unsafe { syscall!(1099, 0, 0) }, Err(Errno::ENOSYS));
    Ok(())
}

/// Two equals, one of which ages twice as fast: 33.3 %.
fn penalty_shares() -> Outcome {
    if !is_ochre() {
        return Ok(());
    }
    let cpu = hogs::first_cpu()?;
    let (slow, plain) = (Hog::start(cpu, || Ok(()))?, Hog::start(cpu, || Ok(()))?);
    lab::penalize(slow.0, 1_000_000)?;
    equal!(lab::penalty(slow.0)?, 1_000_000);
    hogs::expect_share(&slow, &plain, 3_000_000_000, 300..367)?;
    lab::penalize(slow.0, 0)?;
    hogs::expect_share(&slow, &plain, 2_000_000_000, 450..550)
}

/// Runs a check's part as another user; it ends with 0 when all is as it should be.
fn as_nobody(part: impl FnOnce() -> bool) -> Outcome {
    let status = process::in_child(|| {
        // SAFETY: 1. no memory is named.
        let became = unsafe { syscall!(__NR_setresuid, 65534, 65534, 65534) }.is_ok();
        i32::from(!(became && part()))
    })?;
    equal!(status.exit_code(), Some(0));
    Ok(())
}

fn penalty_arguments() -> Outcome {
    if !is_ochre() {
        return Ok(());
    }
    equal!(lab::penalize(0, 1_000_000_001), Err(Errno::EINVAL));
    equal!(lab::penalize(-1, 1), Err(Errno::EINVAL));
    equal!(lab::penalize(i32::MAX, 1), Err(Errno::ESRCH));
    equal!(lab::penalize(2, 1), Err(Errno::EINVAL)); // kthreadd
    lab::penalize(0, 5)?;
    let child = process::in_child(|| lab::penalty(0).map_or(99, |ns| ns as i32))?;
    equal!(child.exit_code(), Some(0)); // it is not inherited
    let me = process::getpid();
    as_nobody(|| lab::penalize(me, 1) == Err(Errno::EPERM) && lab::penalize(0, 1).is_ok())
}

/// Waits until a thread stands parked.
fn parked_soon(tid: Pid) -> Result<()> {
    while !is_parked(tid)? {
        time::sleep_ns(1_000_000);
    }
    Ok(())
}

fn is_parked(tid: Pid) -> Result<bool> {
    let mut tids = [0; 64];
    let count = lab::parked(&mut tids)?.min(tids.len());
    Ok(tids[..count].contains(&(tid as u32)))
}

/// A file of /proc about a thread; `None` where /proc is not mounted.
fn proc_text(tid: Pid, name: &str) -> Option<String> {
    let path = alloc::format!("/proc/{tid}/{name}\0");
    let bytes = fs::read_file(CStr::from_bytes_with_nul(path.as_bytes()).ok()?).ok()?;
    String::from_utf8(bytes).ok()
}

fn parked_stands_still() -> Outcome {
    if !is_ochre() {
        return Ok(());
    }
    let hog = Hog::start(hogs::cpus()?, || Ok(()))?;
    while hog.cpu_ns()? == 0 {
        time::sleep_ns(1_000_000);
    }
    lab::park(hog.0)?;
    parked_soon(hog.0)?;
    lab::park(hog.0)?;
    if let Some(stat) = proc_text(hog.0, "stat") {
        ensure!(stat.contains(") D "), "/proc/PID/stat: {stat}");
    }
    if let Some(wchan) = proc_text(hog.0, "wchan") {
        equal!(wchan.as_str(), "lab_park");
    }
    let used_ns = hog.cpu_ns()?;
    time::sleep_ns(200_000_000);
    equal!(hog.cpu_ns()?, used_ns);
    lab::unpark(hog.0)?;
    equal!(lab::unpark(hog.0), Err(Errno::EINVAL));
    while hog.cpu_ns()? == used_ns {
        time::sleep_ns(1_000_000);
    }
    ensure!(!is_parked(hog.0)?, "it runs and is listed as parked");
    Ok(())
}

fn parked_is_killed() -> Outcome {
    if !is_ochre() {
        return Ok(());
    }
    for signal in [SIGKILL, SIGTERM] {
        let hog = Hog::start(hogs::cpus()?, || Ok(()))?;
        lab::park(hog.0)?;
        parked_soon(hog.0)?;
        process::kill(hog.0, signal)?;
        equal!(process::wait_exit(hog.0)?.signal(), Some(signal as i32));
        ensure!(!is_parked(hog.0)?, "dead and listed as parked");
        equal!(lab::unpark(hog.0), Err(Errno::ESRCH));
    }
    Ok(())
}

/// A signal that is caught waits until the thread runs again.
fn parked_signals_wait() -> Outcome {
    if !is_ochre() {
        return Ok(());
    }
    let (read, write) = io::pipe(O_CLOEXEC)?;
    let mask = 1u64 << (SIGUSR1 - 1);
    signal::mask(SIG_BLOCK, mask)?;
    let Some(pid) = process::fork()? else {
        let _ = io::write_all(write, b"r");
        let taken = signal::wait(mask, None);
        let _ = io::write_all(write, b"s");
        process::exit(i32::from(taken != Ok(SIGUSR1)))
    };
    let mut byte = [0];
    io::read_full(read, &mut byte)?;
    lab::park(pid)?;
    parked_soon(pid)?;
    process::kill(pid, SIGUSR1)?;
    time::sleep_ns(50_000_000);
    let mut polled = [io::poll_fd(read, POLLIN)];
    equal!(io::poll(&mut polled, Some(0), None)?, 0);
    lab::unpark(pid)?;
    io::read_full(read, &mut byte)?;
    // sigtimedwait is one of the calls that a stop ends with EINTR, on Linux too: then the signal still waits.
    ensure!(process::wait_exit(pid)?.exit_code().is_some(), "it was killed by the signal");
    Ok(())
}

/// A sleeping system call is made again after parking: the program notices nothing.
fn park_sleeper() -> Outcome {
    if !is_ochre() {
        return Ok(());
    }
    let (read, write) = io::pipe(O_CLOEXEC)?;
    let Some(pid) = process::fork()? else {
        let mut byte = [0];
        let got = io::read(read, &mut byte);
        process::exit(i32::from(got != Ok(1) || byte != *b"x"))
    };
    time::sleep_ns(20_000_000);
    lab::park(pid)?;
    parked_soon(pid)?;
    io::write_all(write, b"x")?;
    time::sleep_ns(20_000_000);
    equal!(process::wait(pid, WNOHANG)?, None);
    lab::unpark(pid)?;
    equal!(process::wait_exit(pid)?.exit_code(), Some(0));
    Ok(())
}

fn park_oneself() -> Outcome {
    if !is_ochre() {
        return Ok(());
    }
    let Some(pid) = process::fork()? else {
        process::exit(i32::from(lab::park(0).is_err()));
    };
    parked_soon(pid)?;
    lab::unpark(pid)?;
    equal!(process::wait_exit(pid)?.exit_code(), Some(0));
    Ok(())
}

/// The other threads of a process run on, and its exit takes the parked one along.
fn park_thread() -> Outcome {
    if !is_ochre() {
        return Ok(());
    }
    let Some(pid) = process::fork()? else {
        let still = thread::spawn(|| {
            loop {
                core::hint::spin_loop();
            }
        });
        let parked = still.and_then(|still| {
            let tid = still.tid();
            core::mem::forget(still); // dropping joins
            lab::park(tid)?;
            parked_soon(tid)
        });
        process::exit(i32::from(parked.is_err()));
    };
    equal!(process::wait_exit(pid)?.exit_code(), Some(0));
    let mut tids = [0; 8];
    let left = lab::parked(&mut tids)?;
    ensure!(left == 0, "{left} parked threads are left: {tids:?}");
    if let Ok(text) = fs::read_file(c"/proc/lab/parked") {
        equal!(text.as_slice(), b"0\n");
    }
    Ok(())
}

fn park_arguments() -> Outcome {
    if !is_ochre() {
        return Ok(());
    }
    equal!(lab::park(-1), Err(Errno::EINVAL));
    equal!(lab::park(i32::MAX), Err(Errno::ESRCH));
    equal!(lab::park(2), Err(Errno::EINVAL));
    equal!(lab::unpark(0), Err(Errno::EINVAL));
    let me = process::getpid();
    as_nobody(|| lab::park(me) == Err(Errno::EPERM) && lab::unpark(me) == Err(Errno::EPERM))
}

/// The text of the policy file; `None` on Linux.
fn policy_text() -> Option<String> {
    String::from_utf8(fs::read_file(POLICY).ok()?).ok()
}

fn policy_names() -> Outcome {
    if !is_ochre() {
        return Ok(());
    }
    for (name, shown) in [("cfs", "[cfs]"), ("eevdf", "[eevdf]")] {
        fs::write_file(POLICY, name.as_bytes())?;
        let text = policy_text().unwrap_or_default();
        ensure!(text.contains(shown) && text.ends_with('\n'), "after writing {name}: {text}");
    }
    for wrong in ["", "cf", "cfss", "[cfs]", "cfs eevdf"] {
        let outcome = fs::write_file(POLICY, wrong.as_bytes());
        // An empty write reaches no file.
        equal!(outcome, if wrong.is_empty() { Ok(()) } else { Err(Errno::EINVAL) });
    }
    ensure!(policy_text().unwrap_or_default().contains("[eevdf]"), "a wrong name changed it");
    Ok(())
}

// A mix of everything that makes tasks wake, sleep, start and end.

fn fork_and_exit() -> Result<()> {
    for _ in 0..40 {
        process::in_child(|| 0)?;
    }
    Ok(())
}

fn sleep_often() -> Result<()> {
    for round in 0..60u64 {
        time::sleep_ns(200_000 * (round % 7));
    }
    Ok(())
}

fn ping_pong() -> Result<()> {
    let ((read, answer), (ask, write)) = (io::pipe(O_CLOEXEC)?, io::pipe(O_CLOEXEC)?);
    let echo = process::fork()?;
    let (from, to) = if echo.is_some() { (read, write) } else { (ask, answer) };
    let mut byte = [0];
    for _ in 0..200 {
        if echo.is_some() {
            io::write_all(to, b"x")?;
        }
        io::read_full(from, &mut byte)?;
        if echo.is_none() {
            io::write_all(to, b"x")?;
        }
    }
    match echo {
        Some(pid) => process::wait_exit(pid).map(drop),
        None => process::exit(0),
    }
}

fn threads() -> Result<()> {
    for _ in 0..10 {
        let threads: Vec<_> = (0..4).map(|_| thread::spawn(process::yield_now)).collect::<Result<_>>()?;
        threads.into_iter().for_each(thread::Thread::join);
    }
    Ok(())
}

fn compute_and_change() -> Result<()> {
    let all = hogs::cpus()?;
    for round in 0..40u64 {
        (0..20_000).for_each(|_| core::hint::spin_loop());
        let one = 1 << (round % 4);
        process::set_affinity(0, if all & one == 0 { all } else { one })?;
        // SAFETY: 1. no memory is named.
        unsafe { syscall!(__NR_setpriority, 0, 0, round % 20) }?;
        process::yield_now();
    }
    Ok(())
}

const MIX: [fn() -> Result<()>; 5] = [fork_and_exit, sleep_often, ping_pong, threads, compute_and_change];

/// Children that do the mix, `count` in all.
fn start_mix(count: usize) -> Result<Vec<Pid>> {
    let mut children = Vec::new();
    for work in MIX.iter().cycle().take(count) {
        match process::fork()? {
            Some(pid) => children.push(pid),
            None => process::exit(i32::from(work().is_err())),
        }
    }
    Ok(children)
}

/// Takes out those that have ended; each must have done its work.
fn reap(children: &mut Vec<Pid>) -> Outcome {
    let mut left = Vec::new();
    for pid in children.drain(..) {
        match process::wait(pid, WNOHANG)? {
            None => left.push(pid),
            Some((_, status)) => equal!(status.exit_code(), Some(0)),
        }
    }
    *children = left;
    Ok(())
}

/// Tasks that are parked and unparked again and again, whatever they are doing, lose nothing by it.
fn park_under_load() -> Outcome {
    if !is_ochre() {
        return Ok(());
    }
    let mut children = start_mix(15)?;
    let mut parked = 0;
    while !children.is_empty() {
        for &pid in &children {
            parked += u32::from(lab::park(pid).is_ok());
        }
        time::sleep_ns(500_000);
        for &pid in &children {
            // One that has ended meanwhile is a zombie without a thread: ESRCH.
            let outcome = lab::unpark(pid);
            ensure!(matches!(outcome, Ok(()) | Err(Errno::ESRCH)), "unpark: {outcome:?}");
        }
        time::sleep_ns(1_000_000);
        reap(&mut children)?;
    }
    ensure!(parked > 15, "parked only {parked} times: too little to mean anything");
    equal!(lab::parked(&mut [])?, 0);
    Ok(())
}

/// No task is lost when the policy changes under it: each ends, and has done all it had to.
fn policy_switch_under_load() -> Outcome {
    if !is_ochre() {
        return Ok(());
    }
    let mut children = start_mix(20)?;
    let mut switches = 0;
    while !children.is_empty() {
        let name = if switches % 2 == 0 { "cfs" } else { "eevdf" };
        fs::write_file(POLICY, name.as_bytes())?;
        switches += 1;
        reap(&mut children)?;
        time::sleep_ns(1_000_000);
    }
    fs::write_file(POLICY, b"eevdf")?;
    ensure!(switches > 3, "only {switches} switches: too little load to mean anything");
    Ok(())
}

const KNOBS: [&CStr; 4] = [
    c"/sys/kernel/debug/sched/latency_ns",
    c"/sys/kernel/debug/sched/min_granularity_ns",
    c"/sys/kernel/debug/sched/wakeup_granularity_ns",
    c"/sys/kernel/debug/sched/base_slice_ns",
];

/// Each knob, of the policy in use or not, keeps what is written and refuses nonsense.
fn knobs() -> Outcome {
    if !is_ochre() {
        return Ok(());
    }
    for path in KNOBS {
        let before = fs::read_file(path)?;
        fs::write_file(path, b"3000000\n")?;
        equal!(fs::read_file(path)?.as_slice(), b"3000000\n");
        for wrong in ["x", "-1", "99999999999"] {
            equal!(fs::write_file(path, wrong.as_bytes()), Err(Errno::EINVAL));
        }
        equal!(fs::write_file(path, b"99999999999999999999999"), Err(Errno::ERANGE));
        equal!(fs::read_file(path)?.as_slice(), b"3000000\n");
        fs::write_file(path, &before)?;
    }
    Ok(())
}

/// Involuntary switches of two hogs on one CPU while they use 600 ms together.
fn switches_of_a_pair() -> Result<u64> {
    let status = |pair: &[Hog; 2]| -> Result<u64> { Ok(pair[0].cpu_ns()? + pair[1].cpu_ns()?) };
    let cpu = hogs::first_cpu()?;
    let before = process::rusage(RUSAGE_CHILDREN)?.ru_nivcsw as u64;
    let pair = [Hog::start(cpu, || Ok(()))?, Hog::start(cpu, || Ok(()))?];
    while status(&pair)? < 600_000_000 {
        time::sleep_ns(20_000_000);
    }
    drop(pair);
    let usage = process::rusage(RUSAGE_CHILDREN)?;
    Ok(usage.ru_nivcsw as u64 - before)
}

/// A knob kept for a policy takes effect with it, and one turned in use at once.
fn knob_is_effective() -> Outcome {
    if !is_ochre() {
        return Ok(());
    }
    let path = c"/sys/kernel/debug/sched/latency_ns";
    let before = fs::read_file(path)?;
    fs::write_file(POLICY, b"eevdf")?;
    fs::write_file(path, b"4000000")?;
    fs::write_file(POLICY, b"cfs")?;
    // On a host that gives the machine little time, slices end late, and both counts shrink: tried again.
    let (mut short, mut long) = (0, 0);
    for _ in 0..5 {
        fs::write_file(path, b"4000000")?;
        short = switches_of_a_pair()?;
        fs::write_file(path, b"200000000")?;
        long = switches_of_a_pair()?;
        if short > 4 * long {
            break;
        }
    }
    fs::write_file(path, &before)?;
    fs::write_file(POLICY, b"eevdf")?;
    ensure!(short > 4 * long, "{short} switches with 4 ms, {long} with 200 ms");
    Ok(())
}

/// A SCHED_FIFO task that never sleeps leaves 5 % of its CPU, or what the file says.
fn fair_server() -> Outcome {
    if !is_ochre() {
        return Ok(());
    }
    let all = hogs::cpus()?;
    let cpu = 63 - all.leading_zeros();
    let path = alloc::format!("/sys/kernel/debug/sched/fair_server/cpu{cpu}/runtime\0");
    let path = CStr::from_bytes_with_nul(path.as_bytes()).map_err(|_| Errno::EINVAL)?;
    equal!(fs::read_file(path)?.as_slice(), b"50000000\n");
    equal!(fs::write_file(path, b"1000000001"), Err(Errno::EINVAL));
    let fair = Hog::start(1 << cpu, || Ok(()))?;
    let urgent = Hog::start(1 << cpu, || {
        let priority = [50u32];
        // SAFETY: 1. the kernel reads one number.
        unsafe { syscall!(__NR_sched_setscheduler, 0, 1, priority.as_ptr()) }.map(drop)
    })?;
    hogs::expect_share(&fair, &urgent, 4_000_000_000, 30..80)?;
    fs::write_file(path, b"400000000")?;
    let end = hogs::expect_share(&fair, &urgent, 4_000_000_000, 300..500);
    fs::write_file(path, b"50000000")?;
    end
}

/// What the kernel log holds.
fn kernel_log() -> Result<String> {
    const READ_ALL: usize = 3;
    let mut text = alloc::vec![0u8; 256 << 10];
    // SAFETY: 1. the kernel writes at most as many bytes as the buffer has.
    let len = unsafe { syscall!(__NR_syslog, READ_ALL, text.as_mut_ptr(), text.len()) }?;
    text.truncate(len);
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// Policies that are wrong on purpose are replaced by the default, and the log says why. They exist in debug
/// builds started with `ochre.faulty_policies` only.
fn watchdog() -> Outcome {
    if !policy_text().is_some_and(|text| text.contains("faulty-ghost")) {
        return Ok(());
    }
    let cpu = hogs::first_cpu()?;
    let hog = Hog::start(cpu, || Ok(()))?;
    let victim = Hog::start(cpu, || {
        let priority = [0u32];
        // SAFETY: 1. the kernel reads one number. SCHED_BATCH.
        unsafe { syscall!(__NR_sched_setscheduler, 0, 3, priority.as_ptr()) }.map(drop)
    })?;
    let crimes = [
        ("faulty-ghost", "picked a task that may not run"),
        ("faulty-strike", "picked nothing although tasks are runnable"),
        ("faulty-starve", "left a runnable task unscheduled for 1"),
    ];
    for (name, crime) in crimes {
        fs::write_file(POLICY, name.as_bytes())?;
        while !policy_text().unwrap_or_default().contains("[eevdf]") {
            time::sleep_ns(50_000_000);
        }
        let log = kernel_log()?;
        let told = log
            .lines()
            .any(|line| line.contains(name) && line.contains(crime) && line.ends_with("eevdf takes over"));
        ensure!(told, "the log says nothing of {name}: {}", log.lines().last().unwrap_or(""));
        hogs::expect_share(&hog, &victim, 500_000_000, 350..650)?;
    }
    Ok(())
}
