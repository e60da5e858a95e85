//! The scheduler's files.
//!
//! **Problem.** What the scheduler does must be seen and changed from a shell; `kernel/sched` lies below the
//! file systems and cannot register anything there.
//!
//! **Interface.** [`init`] registers, once at boot:
//!
//! | file | shows, takes |
//! |---|---|
//! | `/sys/kernel/sched/policy` | the fair policies, the one in use in brackets; a name switches (EINVAL for others) |
//! | `/sys/kernel/debug/sched/latency_ns` ... | a knob of a policy, used by it or kept for when it is chosen |
//! | `/sys/kernel/debug/sched/{migration_cost_ns,nr_migrate}` | when a task counts as warm, how many move at once |
//! | `/sys/kernel/debug/sched/fair_server/cpuN/{runtime,period}` | the fair class's reservation, in ns |
//! | `/sys/devices/system/cpu` | which CPUs there are ([`cpus`]) |
//! | `/proc/schedstat` | counters of each CPU |
//! | `/proc/sys/kernel/sched_rr_timeslice_ms` | the slice of SCHED_RR; 0 or less puts the default back |
//! | `/proc/sys/kernel/sched_rt_period_us`, `sched_rt_runtime_us` | the same reservation seen from the other side |
//!
//! **Idea.** Names, units and ranges are those of Linux 6.12 and, for CFS, of 5.18. The two `sched_rt_` files
//! mean what they meant before 6.12, since that is what programs write them for: real-time tasks get `runtime`
//! of each `period` at most, -1 for all of it. Here that is all but the fair server's part, on every CPU.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod cpus;
mod number;
mod rt;

use abi::Errno;
use abi::errno::Result;
use alloc::format;
use core::fmt::Write;
use kernfs::{DEBUG, Node, PROC, SYS, knob, text};

/// Registers the files. Boot, in process context, after the scheduler's threads are started.
pub fn init() {
    SYS.add("kernel/sched/policy", knob(0o644, |out| sched::show::policy(out), sched::set_policy));
    for name in sched::tunables() {
        DEBUG.add(&format!("sched/{name}"), tunable(name));
    }
    for cpu in sched::online().iter() {
        for field in [Field::Runtime, Field::Period] {
            DEBUG.add(&format!("sched/fair_server/cpu{cpu}/{}", field.name()), reservation(cpu, field));
        }
    }
    PROC.add("schedstat", text(|out| sched::show::schedstat(out)));
    rt::init();
    cpus::init();
}

fn tunable(name: &'static str) -> Node {
    knob(
        0o644,
        move |out| writeln!(out, "{}", sched::tunable(name).unwrap_or(0)),
        move |text| sched::set_tunable(name, number::unsigned(text)?),
    )
}

/// A number of a fair server.
#[derive(Clone, Copy)]
enum Field {
    Runtime,
    Period,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Field::Runtime => "runtime",
            Field::Period => "period",
        }
    }
}

fn reservation(cpu: usize, field: Field) -> Node {
    let value = move || {
        let (runtime_ns, period_ns) = sched::fair_server(cpu).unwrap_or_default();
        match field {
            Field::Runtime => runtime_ns,
            Field::Period => period_ns,
        }
    };
    let store = move |text: &str| {
        let value_ns = number::unsigned(text)?;
        let (runtime_ns, period_ns) = sched::fair_server(cpu).ok_or(Errno::EINVAL)?;
        match field {
            Field::Runtime => set_reservation(cpu, value_ns, period_ns),
            Field::Period => set_reservation(cpu, runtime_ns, value_ns),
        }
    };
    knob(0o644, move |out| writeln!(out, "{}", value()), store)
}

/// EINVAL when the budget exceeds the period or the period is not in 100 us to about 4 s, as in Linux.
fn set_reservation(cpu: usize, runtime_ns: u64, period_ns: u64) -> Result<()> {
    const PERIOD_NS: core::ops::RangeInclusive<u64> = 100_000..=(1 << 22) * 1000;
    if !PERIOD_NS.contains(&period_ns) {
        return Err(Errno::EINVAL);
    }
    sched::set_fair_server(cpu, runtime_ns, period_ns)
}
