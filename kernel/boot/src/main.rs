//! The assembler: the only crate that names concrete drivers, file systems and policies.
//!
//! [`ochre_main`] is where the architecture's boot code arrives on CPU 0. It brings the layers up from
//! the bottom, starts the other CPUs, and becomes the idle task of CPU 0; the rest of the start runs in
//! the thread that becomes process 1 ([`init`]).

#![no_std]
#![no_main]
#![deny(unsafe_code)] // one exception: the symbol that the boot code calls

extern crate alloc;

mod hooks;
mod init;
mod panic;
mod root;
mod smp;
mod vdso;

use arch::BootInfo;
use cmdline::CommandLine;
use iosched_api::SchedulerInfo;
use klog::pr_info;
use sched_api::PolicyInfo;

/// The kernel's name and version, the first line of the log.
const BANNER: &str = concat!("Ochre ", env!("CARGO_PKG_VERSION"));

/// The fair policies that can be chosen; the first is the default.
static POLICIES: [PolicyInfo; 2] = [sched_eevdf::INFO, sched_cfs::INFO];

/// As many, and those that are wrong on purpose: debug builds with `ochre.faulty_policies`, to see that the
/// watchdog bites.
static POLICIES_AND_FAULTY: [PolicyInfo; 5] = {
    let [ghost, strike, starve] = sched_faulty::POLICIES;
    [sched_eevdf::INFO, sched_cfs::INFO, ghost, strike, starve]
};

fn policies(line: &CommandLine) -> &'static [PolicyInfo] {
    match cfg!(debug_assertions) && line.has("ochre.faulty_policies") {
        true => &POLICIES_AND_FAULTY,
        false => &POLICIES,
    }
}

/// The I/O schedulers that can be chosen besides `none`; the first is the default of disks with one queue.
static IO_SCHEDULERS: [SchedulerInfo; 6] = [
    iosched_deadline::INFO,
    iosched_kyber::INFO,
    iosched_bfq::INFO,
    iosched_cfq::INFO,
    iosched_anticipatory::INFO,
    iosched_linus::INFO,
];

/// The page-replacement policies; the first is the default.
static RECLAIM_POLICIES: [reclaim_api::PolicyInfo; 10] = [
    reclaim_two_list::INFO,
    reclaim_arc::INFO,
    reclaim_car::INFO,
    reclaim_2q::INFO,
    reclaim_clock::INFO,
    reclaim_s3fifo::INFO,
    reclaim_sieve::INFO,
    reclaim_mglru::INFO,
    reclaim_lru::INFO,
    reclaim_fifo::INFO,
];

/// Entered once, on CPU 0, on the boot stack, interrupts off.
#[allow(unsafe_code)] // SAFETY: 1. the one symbol of this name; the boot code calls it once
#[unsafe(no_mangle)]
extern "Rust" fn ochre_main(info: &'static BootInfo) -> ! {
    arch::console::early_init(info);
    arch::install_hooks(&hooks::HOOKS);
    mem::init(info);
    let line = CommandLine::parse(info.cmdline);
    set_log_level(&line);
    mem::set_report(|text| klog::pr_err!("{text}"));
    pr_info!("{BANNER}");
    pr_info!("Command line: {}", info.cmdline);
    arch::platform::init(info);
    mem::init_cpu();
    let idle = task::adopt_boot_context("swapper/0");
    irq::init();
    time::init();
    sched::init(policies(&line));
    sched::init_cpu(idle);
    arch::timer::init_local();
    arch::irq::enable();
    smp::start_others(&line);
    init::start(info, line);
    sched::idle_loop()
}

/// `quiet`, `debug` and `loglevel=` of Linux.
fn set_log_level(line: &CommandLine) {
    if line.has("quiet") {
        klog::set_console_level(4);
    }
    if line.has("debug") {
        klog::set_console_level(8);
    }
    if let Some(level) = line.number("loglevel") {
        klog::set_console_level(level.min(8) as u8);
    }
}
