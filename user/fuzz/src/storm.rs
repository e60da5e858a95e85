//! `fuzz storm [--seed N] [--calls N] [--workers N] [--threads N]`: sensible things, all at once.
//!
//! Problem: what a kernel gets wrong between CPUs shows when processes are born and die, map and unmap, are signalled,
//! parked and moved, while others look at them; random calls rarely get that far. Interface: exit status 0 when the
//! operations were done and everybody could be ended; the last line has the seed. Idea: workers of several threads
//! draw from a table of short operations, each of which is right by itself and collides with the others on shared
//! names, pages, locks and processes. Memory that a neighbour may unmap is touched by system calls only.

use crate::rng::Rng;
use alloc::ffi::CString;
use alloc::format;
use core::ffi::CStr;
use core::sync::atomic::Ordering::{Relaxed, SeqCst};
use core::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};
use rt::mm::{self, PAGE};
use rt::nr::*;
use rt::process::{self, Pid, Strings};
use rt::signal::{self, Action};
use rt::{Errno, Result, fs, io, println, syscall, thread, time};

const MAX_WORKERS: usize = 16;
/// Operations that a thread does before its worker ends and is started anew.
const LIFE: usize = 400;
/// Without an operation for so long the kernel hangs.
const STALL_NS: u64 = 60_000_000_000;
/// Pages that the threads of a worker fight for.
const WINDOW: usize = 256 * PAGE;

/// What all processes share.
struct Shared {
    pids: [AtomicI32; MAX_WORKERS],
    done: [AtomicU64; OPERATIONS.len()],
    good: [AtomicU64; OPERATIONS.len()],
    words: [AtomicU32; 8],
}

/// What an operation works with.
struct Place {
    shared: &'static Shared,
    workers: usize,
    window: usize,
    memory: io::Fd,
    zero: io::Fd,
    noop: Strings<'static>,
    none: Strings<'static>,
}

type Operation = fn(&Place, &mut Rng) -> Result<()>;

static OPERATIONS: [(&str, Operation); 24] = [
    ("fork", fork),
    ("fork", fork),
    ("vfork", vfork),
    ("exec", exec),
    ("thread", new_thread),
    ("reap", reap),
    ("kill", kill),
    ("kill", kill),
    ("timer", timer),
    ("map", map),
    ("map", map),
    ("unmap", unmap),
    ("protect", protect),
    ("advise", advise),
    ("touch", touch),
    ("pipe", pipe),
    ("futex", futex),
    ("pty", pty),
    ("mount", mount),
    ("names", names),
    ("names", names),
    ("policy", policy),
    ("placement", placement),
    ("look", look),
];

extern "C" fn nothing(_signal: i32) {}

fn own_path() -> &'static CStr {
    c"/proc/self/exe"
}

fn pick_worker(place: &Place, rng: &mut Rng) -> Result<Pid> {
    match place.shared.pids[rng.below(place.workers)].load(Relaxed) {
        0 => Err(Errno::ESRCH),
        pid => Ok(pid),
    }
}

/// A child that lives for a moment. It has one thread and must not allocate: another may have held the heap's lock.
fn fork(place: &Place, rng: &mut Rng) -> Result<()> {
    let end = rng.below(6);
    let Some(pid) = process::fork()? else {
        match end {
            0 => _ = process::kill(process::getpid(), SIGKILL),
            1 => _ = process::execve(own_path(), &place.noop, &place.none),
            2 => _ = process::setsid(),
            3 => _ = process::fork(), // an orphan
            _ => {}
        }
        process::exit(end as i32)
    };
    match rng.below(3) {
        0 => process::wait_exit(pid).map(drop),
        1 => process::kill(pid, SIGKILL),
        _ => Ok(()),
    }
}

fn vfork(place: &Place, _rng: &mut Rng) -> Result<()> {
    let pid = process::vfork_exec(own_path(), &place.noop, &place.none)?;
    process::wait_exit(pid).map(drop)
}

/// The whole worker becomes another program, rarely: its other threads end in the middle of what they do.
fn exec(place: &Place, rng: &mut Rng) -> Result<()> {
    if rng.one_in(16) { Err(process::execve(own_path(), &place.noop, &place.none)) } else { Ok(()) }
}

fn new_thread(place: &Place, rng: &mut Rng) -> Result<()> {
    let shared = place.shared;
    let wakes = rng.one_in(2);
    let started = thread::spawn(move || {
        if wakes {
            let _ = thread::futex_wake(&shared.words[0], 1);
        } else {
            process::yield_now();
        }
    })?;
    started.join();
    Ok(())
}

fn reap(_place: &Place, _rng: &mut Rng) -> Result<()> {
    const WALL: u32 = 0x4000_0000;
    while let Ok(Some(_)) = process::wait(-1, WNOHANG | WALL) {}
    Ok(())
}

fn kill(place: &Place, rng: &mut Rng) -> Result<()> {
    let pid = pick_worker(place, rng)?;
    match rng.below(32) {
        0 => process::kill(pid, SIGKILL),
        1..=6 => {
            process::kill(pid, SIGSTOP)?;
            process::kill(pid, SIGCONT)
        }
        7..=12 => process::kill(-pid, SIGUSR2),
        13..=16 => process::tgkill(process::getpid(), process::gettid(), SIGUSR1),
        _ => process::kill(pid, SIGUSR1),
    }
}

fn timer(_place: &Place, rng: &mut Rng) -> Result<()> {
    let timer = [0, rng.word() % 2000, 0, rng.word() % 3000];
    // SAFETY: 1. the kernel reads one itimerval.
    unsafe { syscall!(__NR_setitimer, 0, timer.as_ptr(), 0) }?;
    time::sleep_once_ns(rng.word() % 200_000)
}

/// Some pages of the window.
fn range(place: &Place, rng: &mut Rng) -> (usize, usize) {
    let pages = WINDOW / PAGE;
    let (first, count) = (rng.below(pages), 1 + rng.below(16));
    (place.window + first * PAGE, count.min(pages - first) * PAGE)
}

fn map(place: &Place, rng: &mut Rng) -> Result<()> {
    let (at, len) = range(place, rng);
    let prot = rng.pick(&[PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE]);
    let (flags, fd) = rng.pick(&[
        (MAP_PRIVATE | MAP_ANONYMOUS, -1),
        (MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1),
        (MAP_SHARED | MAP_ANONYMOUS, -1),
        (MAP_SHARED, place.memory),
        (MAP_PRIVATE, place.memory),
    ]);
    // SAFETY: 1. nothing but the kernel uses the window.
    unsafe { mm::map(at, len, prot, flags | MAP_FIXED, fd, 0) }.map(drop)
}

fn unmap(place: &Place, rng: &mut Rng) -> Result<()> {
    let (at, len) = range(place, rng);
    // SAFETY: 1. nothing but the kernel uses the window.
    unsafe { mm::unmap(at, len) }
}

fn protect(place: &Place, rng: &mut Rng) -> Result<()> {
    let (at, len) = range(place, rng);
    let prot = rng.pick(&[PROT_READ | PROT_WRITE, PROT_READ, PROT_NONE, PROT_READ | PROT_EXEC]);
    // SAFETY: 1. nothing but the kernel uses the window.
    unsafe { mm::protect(at, len, prot) }
}

fn advise(place: &Place, rng: &mut Rng) -> Result<()> {
    const MADV_COLD: u32 = 20;
    const MADV_PAGEOUT: u32 = 21;
    let (at, len) = range(place, rng);
    let advice = rng.pick(&[MADV_DONTNEED, MADV_WILLNEED, MADV_FREE, MADV_COLD, MADV_PAGEOUT]);
    // SAFETY: 1. nothing but the kernel uses the window.
    unsafe { mm::advise(at, len, advice) }
}

/// Reads and writes of the window by the kernel, which answers EFAULT where a neighbour was faster.
fn touch(place: &Place, rng: &mut Rng) -> Result<()> {
    let (at, len) = range(place, rng);
    let offset = rng.below(WINDOW);
    // SAFETY: 1. nothing but the kernel uses the window.
    unsafe {
        match rng.below(3) {
            0 => syscall!(__NR_read, place.zero, at, len),
            1 => syscall!(__NR_pwrite64, place.memory, at, len, offset),
            _ => syscall!(__NR_pread64, place.memory, at, len, offset),
        }
    }
    .map(drop)
}

fn pipe(_place: &Place, rng: &mut Rng) -> Result<()> {
    let (read, write) = io::pipe(O_NONBLOCK | O_CLOEXEC)?;
    let mut buffer = [0; 5000];
    let len = rng.below(buffer.len());
    for _ in 0..rng.below(20) {
        let _ = io::write(write, &buffer[..len]);
        if rng.one_in(2) {
            let _ = io::read(read, &mut buffer);
        }
    }
    let mut fds = [io::poll_fd(read, POLLIN), io::poll_fd(write, POLLOUT)];
    let _ = io::poll(&mut fds, Some(0), None);
    io::close(write)?;
    io::close(read)
}

/// Futexes that all workers share.
fn futex(place: &Place, rng: &mut Rng) -> Result<()> {
    const OPS: [u32; 4] = [FUTEX_WAIT, FUTEX_WAKE, FUTEX_REQUEUE, FUTEX_WAKE];
    let [word, other] = [0; 2].map(|_| &place.shared.words[rng.below(place.shared.words.len())]);
    let timeout = time::timespec(rng.word() % 1_000_000);
    let op = rng.pick(&OPS);
    let fourth = if op == FUTEX_WAIT { &raw const timeout as usize } else { rng.below(3) };
    let value = if op == FUTEX_WAIT { word.fetch_add(1, SeqCst) + 1 } else { 1 };
    // SAFETY: 1. the words live as long as the mapping; 2. the kernel reads one timespec.
    unsafe { syscall!(__NR_futex, word.as_ptr(), op, value, fourth, other.as_ptr(), 0) }.map(drop)
}

fn pty(_place: &Place, rng: &mut Rng) -> Result<()> {
    let master = fs::open(c"/dev/ptmx", O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0)?;
    let number = rt::tty::unlock_pty(master);
    let path = CString::new(format!("/dev/pts/{}", number.unwrap_or(0))).unwrap_or_default();
    let slave = fs::open(&path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC, 0);
    let _ = rt::tty::set_window_size(master, 24, 80 + rng.below(40) as u16);
    let _ = io::write(master, b"typed \x03 and \x1a lines\n\x04");
    if let Ok(slave) = slave {
        let mut buffer = [0; 64];
        let _ = io::write(slave, b"shown\n");
        let _ = io::read(slave, &mut buffer);
        if rng.one_in(2) {
            io::close(master)?;
            let _ = io::read(slave, &mut buffer);
            return io::close(slave);
        }
        io::close(slave)?;
    }
    io::close(master)
}

fn mount(_place: &Place, rng: &mut Rng) -> Result<()> {
    let path = CString::new(format!("mnt{}", rng.below(3))).unwrap_or_default();
    let inner = CString::new(format!("mnt{}/file", rng.below(3))).unwrap_or_default();
    let _ = fs::mkdir(&path, 0o755);
    match rng.below(4) {
        0 | 1 => fs::mount(c"storm", &path, c"tmpfs", 0, c"size=1m"),
        2 => fs::write_file(&inner, &[1; 3000]),
        _ => fs::umount(&path, if rng.one_in(2) { MNT_DETACH } else { 0 }),
    }
}

/// Names in four directories that all workers share.
fn names(_place: &Place, rng: &mut Rng) -> Result<()> {
    let mut name = || CString::new(format!("d{}/n{}", rng.below(4), rng.below(8))).unwrap_or_default();
    let (from, to) = (name(), name());
    match rng.below(10) {
        0 => fs::mkdir(&from, 0o755),
        1 => fs::rmdir(&from),
        2 => fs::unlink(&from),
        3 => fs::link(&from, &to),
        4 => fs::symlink(&from, &to),
        5 => fs::write_file(&from, b"content"),
        6 => fs::read_file(&from).map(drop),
        7 => fs::rename(&from, &to, 2), // exchange
        8 => {
            let dir = fs::open(c"d0", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)?;
            let listed = fs::list(dir);
            io::close(dir)?;
            listed.map(drop)
        }
        _ => fs::rename(&from, &to, 0),
    }
}

fn policy(_place: &Place, rng: &mut Rng) -> Result<()> {
    const SCHEDULERS: [&[u8]; 2] = [b"cfs", b"eevdf"];
    const RECLAIM: [&[u8]; 5] = [b"two-list", b"arc", b"clock", b"s3fifo", b"mglru"];
    match rng.below(8) {
        0 | 1 => fs::write_file(c"/sys/kernel/sched/policy", rng.pick(&SCHEDULERS)),
        2 => fs::write_file(c"/sys/kernel/mm/reclaim/policy", rng.pick(&RECLAIM)),
        3 => fs::write_file(c"/proc/sys/vm/drop_caches", b"3"),
        _ => fs::read_file(c"/sys/kernel/sched/policy").map(drop),
    }
}

/// Where and how somebody runs.
fn placement(place: &Place, rng: &mut Rng) -> Result<()> {
    const SCHED_NORMAL: u32 = 0;
    const SCHED_RR: u32 = 2;
    const SCHED_BATCH: u32 = 3;
    const SCHED_IDLE: u32 = 5;
    let pid = if rng.one_in(2) { 0 } else { pick_worker(place, rng)? };
    match rng.below(4) {
        0 | 1 => process::set_affinity(pid, 1 + rng.word() % 15),
        2 => {
            // SAFETY: 1. no memory is named.
            unsafe { syscall!(__NR_setpriority, 0, pid, rng.below(40) as i32 - 20) }.map(drop)
        }
        _ => {
            let class = rng.pick(&[SCHED_NORMAL, SCHED_BATCH, SCHED_IDLE, SCHED_RR]);
            let priority = u32::from(class == SCHED_RR);
            // SAFETY: 1. the kernel reads one word.
            unsafe { syscall!(__NR_sched_setscheduler, pid, class, &raw const priority) }.map(drop)
        }
    }
}

/// What ps and top do, at processes that come and go.
fn look(place: &Place, rng: &mut Rng) -> Result<()> {
    const FILES: [&str; 9] =
        ["stat", "status", "maps", "smaps_rollup", "stack", "wchan", "cmdline", "sched", "fdinfo/0"];
    let pid = pick_worker(place, rng)?;
    let path = CString::new(format!("/proc/{pid}/{}", rng.pick(&FILES))).unwrap_or_default();
    let read = fs::read_file(&path).map(drop);
    if rng.one_in(8) {
        let dir = fs::open(c"/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0)?;
        let _ = fs::list(dir);
        io::close(dir)?;
    }
    read
}

/// A thread's work.
fn work(place: &Place, mut rng: Rng) {
    for _ in 0..LIFE {
        let which = rng.below(OPERATIONS.len());
        let outcome = OPERATIONS[which].1(place, &mut rng);
        place.shared.done[which].fetch_add(1, Relaxed);
        place.shared.good[which].fetch_add(u64::from(outcome.is_ok()), Relaxed);
    }
}

fn worker(shared: &'static Shared, workers: usize, threads: usize, mut rng: Rng) -> Result<()> {
    let _ = process::setpgid(0, 0);
    for signal in [SIGUSR1, SIGUSR2, SIGALRM] {
        signal::set_action(signal, Action::Handle(nothing), SA_RESTART, 0)?;
    }
    let new_place = move || -> Result<Place> {
        Ok(Place {
            shared,
            workers,
            window: mm::map_anonymous(WINDOW)?,
            memory: fs::open(c"memory", O_RDWR | O_CREAT, 0o600)?,
            zero: fs::open(c"/dev/zero", O_RDONLY, 0)?,
            noop: Strings::new([c"fuzz", c"noop"]),
            none: Strings::new([]),
        })
    };
    let place = new_place()?;
    let (window, memory) = (place.window, place.memory);
    let others = (1..threads).map(|_| {
        let rng = rng.split();
        thread::spawn(move || {
            if let Ok(mut place) = new_place() {
                // All threads of a worker fight for one window.
                (place.window, place.memory) = (window, memory);
                work(&place, rng);
            }
        })
    });
    let others: alloc::vec::Vec<_> = others.collect();
    work(&place, rng);
    drop(others);
    Ok(())
}

fn new_shared() -> Result<&'static Shared> {
    let len = size_of::<Shared>();
    // SAFETY: 1. without MAP_FIXED the kernel chooses unused addresses.
    let at = unsafe { mm::map(0, len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0) }?;
    // SAFETY: 1. the mapping is as long as the structure, page-aligned, zeroed and never unmapped; 2. all fields are
    // atomic integers, for which zero is a value.
    Ok(unsafe { &*(at as *const Shared) })
}

fn total(shared: &Shared) -> u64 {
    shared.done.iter().map(|count| count.load(Relaxed)).sum()
}

/// Starts workers until enough was done. False: nothing goes on.
fn supervise(
    shared: &'static Shared,
    calls: u64,
    workers: usize,
    threads: usize,
    seeds: &mut Rng,
) -> Result<bool> {
    let (mut seen, mut since_ns) = (0, time::now_ns());
    let (mut reported, mut starts) = (0, 0u64);
    while total(shared) < calls {
        for seat in &shared.pids[..workers] {
            if seat.load(Relaxed) != 0 {
                continue;
            }
            let rng = seeds.split();
            match process::fork() {
                Ok(None) => process::exit(i32::from(worker(shared, workers, threads, rng).is_err())),
                Ok(Some(pid)) => {
                    starts += 1;
                    seat.store(pid, Relaxed);
                }
                Err(_) => break,
            }
        }
        time::sleep_ns(5_000_000);
        while let Ok(Some((pid, _))) = process::wait(-1, WNOHANG) {
            shared.pids[..workers].iter().for_each(|seat| {
                let _ = seat.compare_exchange(pid, 0, Relaxed, Relaxed);
            });
        }
        // One may have been stopped for good: SIGSTOP from one, SIGKILL to the one that would have sent SIGCONT.
        shared.pids[..workers].iter().map(|seat| seat.load(Relaxed)).filter(|pid| *pid != 0).for_each(
            |pid| {
                let _ = process::kill(pid, SIGCONT);
            },
        );
        let (now_ns, done) = (time::now_ns(), total(shared));
        if done != seen {
            (seen, since_ns) = (done, now_ns);
        } else if now_ns - since_ns > STALL_NS {
            println!("storm: nothing goes on");
            return Ok(false);
        }
        if done / 10_000 > reported {
            reported = done / 10_000;
            println!("storm: {done} operations, {starts} starts");
        }
    }
    Ok(true)
}

/// Kills everybody; false when somebody does not end.
fn end(shared: &Shared) -> bool {
    let begun_ns = time::now_ns();
    loop {
        let workers = shared.pids.iter().map(|seat| seat.load(Relaxed)).filter(|pid| *pid != 0);
        let left = crate::own_children();
        for pid in workers.chain(left.iter().flatten().copied()) {
            let _ = process::kill(-pid, SIGKILL);
            let _ = process::kill(pid, SIGKILL);
        }
        loop {
            match process::wait(-1, WNOHANG) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                Err(_) => return true, // ECHILD: nobody is left
            }
        }
        if time::now_ns() - begun_ns > STALL_NS {
            println!("storm: processes do not end: {left:?}");
            return false;
        }
        time::sleep_ns(10_000_000);
    }
}

/// The whole run; whether the kernel bore it.
pub fn run(seed: u64, calls: u64, workers: usize, threads: usize) -> Result<bool> {
    const PR_SET_CHILD_SUBREAPER: usize = 36;
    // SAFETY: 1. the option takes a number.
    unsafe { syscall!(__NR_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }?;
    let dir = CString::new(format!("/tmp/storm.{}", process::getpid())).unwrap_or_default();
    let _ = fs::mkdir(c"/tmp", 0o1777);
    fs::mkdir(&dir, 0o777)?;
    fs::chdir(&dir)?;
    for name in [c"d0", c"d1", c"d2", c"d3"] {
        fs::mkdir(name, 0o777)?;
    }
    fs::write_file(c"memory", &[7; WINDOW])?;
    let shared = new_shared()?;
    let policies = [c"/sys/kernel/sched/policy", c"/sys/kernel/mm/reclaim/policy"].map(chosen);
    let went_on = supervise(shared, calls, workers, threads, &mut Rng::new(seed))?;
    let ended = end(shared);
    for (path, name) in policies.into_iter().flatten() {
        let _ = fs::write_file(path, &name);
    }
    for name in [c"mnt0", c"mnt1", c"mnt2"] {
        while fs::umount(name, MNT_DETACH).is_ok() {}
    }
    fs::chdir(c"/")?;
    crate::remove_tree(&dir);
    let good = shared.good.iter().filter(|count| count.load(Relaxed) > 0).count();
    for (at, (name, _)) in OPERATIONS.iter().enumerate() {
        println!(
            "{name:>10} {:>7} done {:>7} good",
            shared.done[at].load(Relaxed),
            shared.good[at].load(Relaxed)
        );
    }
    println!("storm: seed {seed}: {} operations, {good} of {} kinds worked", total(shared), OPERATIONS.len());
    Ok(went_on && ended)
}

/// The policy in brackets, to be put back.
fn chosen(path: &'static CStr) -> Option<(&'static CStr, alloc::vec::Vec<u8>)> {
    let text = fs::read_file(path).ok()?;
    let name = text.split(|byte| *byte == b'[').nth(1)?.split(|byte| *byte == b']').next()?;
    Some((path, name.to_vec()))
}
