//! `/proc/sys/kernel/sched_r*`: the real-time class. Source: sched(7), Documentation/scheduler/sched-rt-group.

use crate::number;
use abi::Errno;
use abi::errno::Result;
use core::fmt::Write;
use kernfs::{PROC, knob};

const RR_KNOB: &str = "rr_timeslice_ns";
const RR_DEFAULT_MS: u64 = 100;
const MS: u64 = 1_000_000;
const US: u64 = 1_000;

pub fn init() {
    PROC.add(
        "sys/kernel/sched_rr_timeslice_ms",
        knob(0o644, |out| writeln!(out, "{}", slice_ms()), set_slice),
    );
    PROC.add(
        "sys/kernel/sched_rt_period_us",
        knob(0o644, |out| writeln!(out, "{}", period_us()), set_period),
    );
    PROC.add(
        "sys/kernel/sched_rt_runtime_us",
        knob(0o644, |out| writeln!(out, "{}", runtime_us()), set_runtime),
    );
}

fn slice_ms() -> u64 {
    sched::tunable(RR_KNOB).unwrap_or(0) / MS
}

fn set_slice(text: &str) -> Result<()> {
    let ms = match number::signed(text)? {
        ms @ 1.. => ms as u64,
        _ => RR_DEFAULT_MS,
    };
    sched::set_tunable(RR_KNOB, ms * MS)
}

/// The fair server's budget and period, of the first CPU: these files speak of all at once.
fn server() -> (u64, u64) {
    sched::fair_server(0).unwrap_or_default()
}

fn period_us() -> u64 {
    server().1 / US
}

/// What the server leaves to real-time tasks, -1 when it is off.
fn runtime_us() -> i64 {
    match server() {
        (0, _) => -1,
        (fair_ns, period_ns) => ((period_ns - fair_ns) / US) as i64,
    }
}

/// A new period keeps what real-time tasks may use of it.
fn set_period(text: &str) -> Result<()> {
    let period_us = number::signed(text)?;
    if period_us <= 0 {
        return Err(Errno::EINVAL);
    }
    set_all(runtime_us(), period_us as u64 * US)
}

fn set_runtime(text: &str) -> Result<()> {
    set_all(i64::from(number::signed(text)?), server().1)
}

fn set_all(runtime_us: i64, period_ns: u64) -> Result<()> {
    let rt_ns = match runtime_us {
        -1 => period_ns,
        0.. => runtime_us as u64 * US,
        _ => return Err(Errno::EINVAL),
    };
    let fair_ns = period_ns.checked_sub(rt_ns).ok_or(Errno::EINVAL)?;
    for cpu in sched::online().iter() {
        crate::set_reservation(cpu, fair_ns, period_ns)?;
    }
    Ok(())
}
