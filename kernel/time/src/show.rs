//! /proc/timer_list, in the format of Linux's kernel/time/timer_list.c.
//!
//! Each CPU has one queue where Linux has eight clock bases: all is armed by the monotonic clock, so that one base is
//! shown. What a device can do is not known here; when it is next due is.

use crate::timer::{CPUS, Entry};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use core::sync::atomic::Ordering::Relaxed;
use mem::OutOfMemory;

/// An armed timer, as shown.
struct Armed {
    expires_ns: u64,
    id: u64,
    function: &'static str,
}

/// The text. Process context; `Err` when memory is short.
pub fn timer_list(out: &mut dyn Write) -> fmt::Result {
    let now_ns = arch::timer::now_ns();
    writeln!(out, "Timer List Version: v0.10")?;
    writeln!(out, "HRTIMER_MAX_CLOCK_BASES: 1")?;
    writeln!(out, "now at {now_ns} nsecs\n")?;
    for (number, _) in CPUS.get_expect().iter() {
        queue(out, number, now_ns)?;
    }
    for (number, cpu) in CPUS.get_expect().iter() {
        // Mode 1 is one-shot: there is no periodic tick at all.
        writeln!(out, "Tick Device: mode:     1")?;
        writeln!(out, "Per CPU device: {number}")?;
        let programmed_ns = cpu.programmed_ns.load(Relaxed);
        let state = if programmed_ns == u64::MAX { 4 } else { 3 };
        writeln!(out, " mode:           {state}")?;
        writeln!(out, " next_event:     {} nsecs", shown(programmed_ns))?;
        writeln!(out, " event_handler:  hrtimer_interrupt\n")?;
    }
    Ok(())
}

/// Never is Linux's KTIME_MAX.
fn shown(at_ns: u64) -> u64 {
    at_ns.min(i64::MAX as u64)
}

/// What is armed on a CPU, the earliest first.
fn queue(out: &mut dyn Write, number: usize, now_ns: u64) -> fmt::Result {
    let cpu = CPUS.get_expect().of(number);
    writeln!(out, "cpu: {number}\n clock 0:\n  .index:      1\n  .resolution: 1 nsecs")?;
    writeln!(out, "  .get_time:   ktime_get\n  .offset:     0 nsecs\nactive timers:")?;
    for (place, timer) in armed(number).map_err(|_| fmt::Error)?.iter().enumerate() {
        let Armed { expires_ns, id, function } = timer;
        let left_ns = *expires_ns as i128 - now_ns as i128;
        writeln!(out, " #{place}: <{id:016x}>, {function}, S:01")?;
        write!(out, " # expires at {expires_ns}-{expires_ns} nsecs ")?;
        writeln!(out, "[in {left_ns} to {left_ns} nsecs]")?;
    }
    writeln!(out, "  .expires_next   : {} nsecs", shown(cpu.programmed_ns.load(Relaxed)))?;
    writeln!(out, "  .sched_event    : {} nsecs", shown(cpu.sched_event_ns.load(Relaxed)))?;
    writeln!(out, "  .hres_active    : 1\n  .nr_events      : {}\n", cpu.events.load(Relaxed))
}

/// Collected under the queue's lock into memory that is taken before.
fn armed(number: usize) -> Result<Vec<Armed>, OutOfMemory> {
    let queue = &CPUS.get_expect().of(number).queue;
    let mut list = Vec::new();
    loop {
        let wanted = queue.lock().len();
        list.try_reserve(wanted + 8).map_err(|_| OutOfMemory)?;
        let queue = queue.lock();
        if queue.len() > list.capacity() {
            continue;
        }
        list.extend(queue.iter().map(|(expires_ns, id, entry)| Armed {
            expires_ns,
            id: id.to_bits(),
            function: match entry {
                Entry::Task(_) => "hrtimer_wakeup",
                Entry::Call(_, name) => name,
            },
        }));
        break;
    }
    list.sort_unstable_by_key(|timer| timer.expires_ns);
    Ok(list)
}
