//! rseq(2): the CPU's number in user memory, and sections that are left when the thread is disturbed.

use crate::hogs::{self, Hog};
use crate::{Check, Outcome, ensure, equal};
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use rt::arch::{RSEQ_SIGNATURE, RseqSection, rseq_section, rseq_spin};
use rt::nr::*;
use rt::signal::{self, Action};
use rt::{Errno, Result, process, syscall, thread, time};

pub const CHECKS: &[Check] = &[
    ("registration", registration),
    ("unregistration", unregistration),
    ("follows_the_thread", follows_the_thread),
    ("inherited_by_fork", inherited_by_fork),
    ("not_by_threads", not_by_threads),
    ("concurrency_ids", concurrency_ids),
    ("left_when_switched", left_when_switched),
    ("left_for_a_barrier", left_for_a_barrier),
    ("left_for_a_handler", left_for_a_handler),
    ("outside_stays", outside_stays),
    ("bad_sections_kill", bad_sections_kill),
    ("auxiliary_vector", auxiliary_vector),
];

/// `struct rseq`.
#[repr(C, align(32))]
#[derive(Default)]
struct Area {
    cpu_id_start: AtomicU32,
    cpu_id: AtomicU32,
    section: AtomicU64,
    flags: AtomicU32,
    node_id: AtomicU32,
    mm_cid: AtomicU32,
    end: AtomicU32,
}

const LEN: usize = size_of::<Area>();

fn call(area: usize, len: usize, flags: u32, signature: u32) -> Result<usize> {
    // SAFETY: 1. the kernel writes to the area, whose fields are atomics that live until the end of the process, or
    // refuses the address.
    unsafe { syscall!(__NR_rseq, area, len, flags, signature) }
}

/// A registered area of the calling thread. Never freed: the kernel writes to it.
fn registered() -> Result<&'static Area> {
    let area: &Area = Box::leak(Box::default());
    area.cpu_id.store(7777, Ordering::SeqCst);
    call(core::ptr::from_ref(area) as usize, LEN, 0, RSEQ_SIGNATURE)?;
    Ok(area)
}

fn address(area: &Area) -> usize {
    core::ptr::from_ref(area) as usize
}

fn registration() -> Outcome {
    let spare: &Area = Box::leak(Box::default());
    let at = address(spare);
    equal!(call(at + 4, LEN, 0, RSEQ_SIGNATURE), Err(Errno::EINVAL));
    equal!(call(at, 8, 0, RSEQ_SIGNATURE), Err(Errno::EINVAL));
    equal!(call(at, LEN, 4, RSEQ_SIGNATURE), Err(Errno::EINVAL));
    equal!(call(usize::MAX - 31, LEN, 0, RSEQ_SIGNATURE), Err(Errno::EFAULT));
    let area = registered()?;
    equal!(call(at, LEN, 0, RSEQ_SIGNATURE), Err(Errno::EINVAL));
    equal!(call(address(area), LEN, 0, 1), Err(Errno::EPERM));
    equal!(call(address(area), LEN, 0, RSEQ_SIGNATURE), Err(Errno::EBUSY));
    Ok(())
}

fn unregistration() -> Outcome {
    let area = registered()?;
    ensure!(area.cpu_id.load(Ordering::SeqCst) < 4096, "no number of a CPU");
    equal!(call(address(area), LEN, 1, 1), Err(Errno::EPERM));
    equal!(call(address(area) + 32, LEN, 1, RSEQ_SIGNATURE), Err(Errno::EINVAL));
    equal!(call(address(area), LEN + 32, 1, RSEQ_SIGNATURE), Err(Errno::EINVAL));
    call(address(area), LEN, 1, RSEQ_SIGNATURE)?;
    equal!(area.cpu_id.load(Ordering::SeqCst), u32::MAX);
    equal!(call(address(area), LEN, 1, RSEQ_SIGNATURE), Err(Errno::EINVAL));
    registered().map(drop)?;
    Ok(())
}

/// The CPUs that this process may use.
fn cpus() -> Result<Vec<u32>> {
    let mask = hogs::cpus()?;
    Ok((0..64).filter(|cpu| mask >> cpu & 1 != 0).collect())
}

fn follows_the_thread() -> Outcome {
    let area = registered()?;
    for cpu in cpus()? {
        process::set_affinity(0, 1 << cpu)?;
        let seen = (area.cpu_id_start.load(Ordering::SeqCst), area.cpu_id.load(Ordering::SeqCst));
        equal!(seen, (cpu, cpu));
        equal!(area.mm_cid.load(Ordering::SeqCst), 0);
    }
    Ok(())
}

fn inherited_by_fork() -> Outcome {
    let area = registered()?;
    let status = process::in_child(|| {
        // Registered already, at the same place in its own copy of the memory.
        let again = call(address(area), LEN, 0, RSEQ_SIGNATURE) == Err(Errno::EBUSY);
        i32::from(!again || area.cpu_id.load(Ordering::SeqCst) >= 4096)
    })?;
    equal!(status.exit_code(), Some(0));
    Ok(())
}

fn not_by_threads() -> Outcome {
    registered()?;
    let fresh = Arc::new(AtomicBool::new(false));
    let inner = fresh.clone();
    thread::spawn(move || inner.store(registered().is_ok(), Ordering::SeqCst))?.join();
    ensure!(fresh.load(Ordering::SeqCst), "the thread could not register an area of its own");
    Ok(())
}

/// Threads that compute at once see numbers below their count and below that of the CPUs.
fn concurrency_ids() -> Outcome {
    const THREADS: u32 = 3;
    let worst = Arc::new(AtomicU32::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let mut threads = Vec::new();
    for _ in 0..THREADS {
        let (worst, stop) = (worst.clone(), stop.clone());
        threads.push(thread::spawn(move || {
            let Ok(area) = registered() else { return worst.store(u32::MAX, Ordering::SeqCst) };
            while !stop.load(Ordering::Relaxed) {
                worst.fetch_max(area.mm_cid.load(Ordering::Relaxed), Ordering::SeqCst);
            }
        })?);
    }
    time::sleep_ns(100_000_000);
    stop.store(true, Ordering::SeqCst);
    threads.into_iter().for_each(thread::Thread::join);
    let cpus = cpus()?.len();
    let limit = (THREADS + 1).min(cpus as u32);
    let worst = worst.load(Ordering::SeqCst);
    ensure!(worst < limit, "an id of {worst} for {THREADS} threads on {cpus} CPUs");
    Ok(())
}

/// Computes in the section until it is left.
fn spin(area: &Area, section: &'static RseqSection) {
    // SAFETY: 1. both live to the end of the process, 2. and the section is that of the loop, or one that kills.
    unsafe { rseq_spin(area.section.as_ptr(), section) };
}

fn section() -> &'static RseqSection {
    Box::leak(Box::new(rseq_section()))
}

fn left_when_switched() -> Outcome {
    let cpu = hogs::first_cpu()?;
    process::set_affinity(0, cpu)?;
    let area = registered()?;
    let _rival = Hog::start(cpu, || Ok(()))?;
    spin(area, section());
    equal!(area.section.load(Ordering::SeqCst), 0);
    Ok(())
}

/// A thread that nothing else disturbs leaves its section when another asks for that by membarrier(2).
fn left_for_a_barrier() -> Outcome {
    const COMMAND: usize = 128;
    static LEFT: AtomicBool = AtomicBool::new(false);
    // SAFETY: 1. membarrier takes numbers.
    let barrier = |command: usize| unsafe { syscall!(__NR_membarrier, command, 0, 0) };
    if barrier(0)? & COMMAND == 0 {
        return Err(crate::skip("no barrier for sequences"));
    }
    barrier(COMMAND << 1)?;
    let thread = thread::spawn(|| {
        if let Ok(area) = registered() {
            spin(area, section());
        }
        LEFT.store(true, Ordering::SeqCst);
    })?;
    while !LEFT.load(Ordering::SeqCst) {
        barrier(COMMAND)?;
        time::sleep_ns(1_000_000);
    }
    thread.join();
    Ok(())
}

static HANDLED: AtomicU32 = AtomicU32::new(0);

extern "C" fn count(_: i32) {
    HANDLED.fetch_add(1, Ordering::SeqCst);
}

/// Starts a child that sends SIGUSR1 to this process again and again.
fn pester() -> Result<Hog> {
    let parent = process::getpid();
    match process::fork()? {
        Some(pid) => Ok(Hog(pid)),
        None => {
            while process::kill(parent, SIGUSR1).is_ok() {
                time::sleep_ns(5_000_000);
            }
            process::exit(0)
        }
    }
}

fn left_for_a_handler() -> Outcome {
    signal::set_action(SIGUSR1, Action::Handle(count), 0, 0)?;
    let area = registered()?;
    let _pest = pester()?;
    while HANDLED.load(Ordering::SeqCst) < 3 {
        spin(area, section());
        equal!(area.section.load(Ordering::SeqCst), 0);
    }
    Ok(())
}

/// A section that the thread is not in is forgotten, and nothing else happens.
fn outside_stays() -> Outcome {
    signal::set_action(SIGUSR1, Action::Handle(count), 0, 0)?;
    let area = registered()?;
    let _pest = pester()?;
    while HANDLED.load(Ordering::SeqCst) < 3 {
        area.section.store(core::ptr::from_ref(section()) as u64, Ordering::SeqCst);
        while area.section.load(Ordering::SeqCst) != 0 {
            core::hint::spin_loop();
        }
    }
    Ok(())
}

fn bad_sections_kill() -> Outcome {
    let good = rseq_section();
    let bad: &'static [RseqSection] = Box::leak(Box::new([
        // No signature before the abort address; one inside the section; one beyond user memory.
        RseqSection { abort: good.start - 4, ..good },
        RseqSection { len: 4096, ..good },
        RseqSection { abort: 1 << 63, ..good },
        RseqSection { version: 1, ..good },
        RseqSection { flags: 1, ..good },
    ]));
    for section in bad {
        let child = process::in_child(|| {
            let ready = signal::set_action(SIGUSR1, Action::Handle(count), 0, 0).and_then(|()| registered());
            let (Ok(area), Ok(_pest)) = (ready, pester()) else { return 1 };
            spin(area, section);
            2
        })?;
        equal!(child.signal(), Some(SIGSEGV as i32));
    }
    Ok(())
}

fn auxiliary_vector() -> Outcome {
    const AT_RSEQ_FEATURE_SIZE: u64 = 27;
    const AT_RSEQ_ALIGN: u64 = 28;
    let bytes = rt::fs::read_file(c"/proc/self/auxv")?;
    let value = |key: u64| {
        let word = |at: &[u8]| u64::from_ne_bytes(at.try_into().unwrap_or_default());
        bytes.chunks_exact(16).find(|pair| word(&pair[..8]) == key).map(|pair| word(&pair[8..]))
    };
    // A newer kernel may know of more fields.
    ensure!(value(AT_RSEQ_FEATURE_SIZE).is_some_and(|size| size >= 28), "{:?}", value(AT_RSEQ_FEATURE_SIZE));
    ensure!(value(AT_RSEQ_ALIGN).is_some_and(|align| align >= 32), "{:?}", value(AT_RSEQ_ALIGN));
    Ok(())
}
