//! Children that compute for ever, and how much CPU time they got: for checks of who gets which share.
//!
//! Shares are judged by CPU time, never by elapsed time. A busy host still stretches single slices, since a guest's CPU
//! time goes on while the host runs something else: what is off in one window is looked for in the next.

use crate::{Outcome, ensure};
use core::ops::Range;
use rt::process::{self, Pid};
use rt::{Result, nr, time};

/// A child that computes. Killed and waited for when dropped.
pub struct Hog(pub Pid);

impl Hog {
    /// A child bound to the CPUs of `mask`, which does `prepare` and then computes.
    pub fn start(mask: u64, prepare: impl FnOnce() -> Result<()>) -> Result<Hog> {
        if let Some(pid) = process::fork()? {
            return Ok(Hog(pid));
        }
        if process::set_affinity(0, mask).and_then(|()| prepare()).is_err() {
            process::exit(1);
        }
        loop {
            core::hint::spin_loop();
        }
    }

    /// CPU time that it used, in ns.
    pub fn cpu_ns(&self) -> Result<u64> {
        cpu_ns(self.0)
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = process::kill(self.0, nr::SIGKILL);
        let _ = process::wait_exit(self.0);
    }
}

/// CPU time of a process in ns (clock_getcpuclockid(3)).
pub fn cpu_ns(pid: Pid) -> Result<u64> {
    const CPUCLOCK_SCHED: u32 = 2;
    time::clock_ns(!(pid as u32) << 3 | CPUCLOCK_SCHED)
}

/// Fails unless the first gets a share in `wanted` (thousandths) of what both use together: in one of six windows of
/// `total_ns` each.
pub fn expect_share(first: &Hog, second: &Hog, total_ns: u64, wanted: Range<u64>) -> Outcome {
    const START_NS: u64 = 50_000_000;
    // Both have begun to compute, even if the second may hardly do so.
    while first.cpu_ns()? < START_NS || second.cpu_ns()? == 0 {
        time::sleep_ns(10_000_000);
    }
    let mut seen = [0; 6];
    for share in &mut seen {
        *share = next_share(first, second, total_ns)?;
        if wanted.contains(share) {
            return Ok(());
        }
    }
    ensure!(false, "the first got {seen:?} thousandths, not {wanted:?}");
    Ok(())
}

/// The share of the first, in thousandths, of the next `total_ns` that both use together.
fn next_share(first: &Hog, second: &Hog, total_ns: u64) -> Result<u64> {
    let (first_was, second_was) = (first.cpu_ns()?, second.cpu_ns()?);
    loop {
        time::sleep_ns(50_000_000);
        let (used_first, used_second) = (first.cpu_ns()? - first_was, second.cpu_ns()? - second_was);
        if used_first + used_second >= total_ns {
            return Ok(used_first * 1000 / (used_first + used_second));
        }
    }
}

/// The CPUs that the caller may use, as bits.
pub fn cpus() -> Result<u64> {
    let mut mask = [0u64; 128];
    // SAFETY: 1. the kernel writes at most the given size.
    unsafe { rt::syscall!(nr::__NR_sched_getaffinity, 0, size_of_val(&mask), mask.as_mut_ptr()) }?;
    Ok(mask[0])
}

/// One of them.
pub fn first_cpu() -> Result<u64> {
    let cpus = cpus()?;
    Ok(cpus & cpus.wrapping_neg())
}
