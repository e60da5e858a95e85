//! From the first kernel thread to the first user process.

use alloc::boxed::Box;
use arch::BootInfo;
use cmdline::CommandLine;
use klog::pr_info;
use task::NewTask;

/// Starts the thread that becomes process 1.
pub fn start(info: &'static BootInfo, line: CommandLine) {
    let body = Box::new(move || run(info, &line));
    if NewTask::kernel("init", body).spawn().is_err() {
        panic!("no memory for the first thread");
    }
}

fn run(_info: &'static BootInfo, line: &CommandLine) {
    if let Some(seconds) = line.value("panic").and_then(|v| v.parse().ok()) {
        crate::panic::set_timeout_s(seconds);
    }
    pr_info!("first thread runs on CPU {}", arch::cpu::id());
    let start = arch::timer::now_ns();
    task::sleep_for_ns(50_000_000);
    pr_info!("slept {} ns", arch::timer::now_ns() - start);
    arch::power::off();
}
