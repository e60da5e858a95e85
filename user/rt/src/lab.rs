//! Ochre's own system calls (`user/lab/README.md`). Linux answers all of them with ENOSYS.

use crate::process::Pid;
use crate::{Result, syscall};

const PENALIZE: u32 = 1024;
const PENALTY: u32 = 1025;
const PARK: u32 = 1026;
const UNPARK: u32 = 1027;
const PARKED: u32 = 1028;

/// `lab_penalize`: the virtual time of thread `tid` advances by `ns_per_ms` more for each millisecond it runs.
pub fn penalize(tid: Pid, ns_per_ms: u64) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(PENALIZE, tid, ns_per_ms) }.map(drop)
}

/// `lab_penalty`: what it is.
pub fn penalty(tid: Pid) -> Result<u64> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(PENALTY, tid) }.map(|ns| ns as u64)
}

/// `lab_park`: the thread stands still from when it next leaves the kernel.
pub fn park(tid: Pid) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(PARK, tid) }.map(drop)
}

/// `lab_unpark`: it runs on.
pub fn unpark(tid: Pid) -> Result<()> {
    // SAFETY: 1. no memory is named.
    unsafe { syscall!(UNPARK, tid) }.map(drop)
}

/// `lab_parked`: fills `tids` with the threads that stand parked; answers how many there are in all.
pub fn parked(tids: &mut [u32]) -> Result<usize> {
    // SAFETY: 1. the kernel writes at most as many numbers as the slice has.
    unsafe { syscall!(PARKED, tids.as_mut_ptr(), tids.len()) }
}
