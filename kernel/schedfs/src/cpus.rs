//! `/sys/devices/system/cpu`: how many CPUs there are, as glibc, lscpu and runtimes ask.
//!
//! CPUs neither come nor go, so no `cpuN/online` is there (on Linux: without CPU hotplug). Nothing here knows of
//! packages and threads: every CPU is shown as a core of one package. Source: Documentation/ABI/stable/sysfs-devices-system-cpu.

use alloc::format;
use core::fmt::{Result, Write};
use kernfs::{SYS, TextBuf, bitmap, text};

const DIR: &str = "devices/system/cpu";

/// Registers the files. Boot, when all CPUs run.
pub fn init() {
    let (present, count) = (arch::CpuMask::first(arch::cpu::count()).0, arch::cpu::count());
    let online = sched::online().0;
    for (name, set) in
        [("possible", present), ("present", present), ("online", online), ("offline", present & !online)]
    {
        SYS.add(&format!("{DIR}/{name}"), text(move |out| list(out, set)));
    }
    SYS.add(&format!("{DIR}/kernel_max"), text(|out| writeln!(out, "{}", arch::MAX_CPUS - 1)));
    for cpu in sched::online().iter() {
        let topology = format!("{DIR}/cpu{cpu}/topology");
        let own = arch::CpuMask::one(cpu).0;
        SYS.add(&format!("{topology}/core_id"), text(move |out| writeln!(out, "{cpu}")));
        SYS.add(&format!("{topology}/physical_package_id"), text(|out| writeln!(out, "0")));
        let sets = [
            ("thread_siblings", own),
            ("core_cpus", own),
            ("core_siblings", online),
            ("package_cpus", online),
        ];
        for (name, set) in sets {
            let mask = move |out: &mut TextBuf| {
                bitmap::hex(out, set, count)?;
                out.write_char('\n')
            };
            SYS.add(&format!("{topology}/{name}"), text(mask));
            SYS.add(&format!("{topology}/{name}_list"), text(move |out| list(out, set)));
        }
    }
}

fn list(out: &mut TextBuf, set: u64) -> Result {
    bitmap::ranges(out, set)?;
    out.write_char('\n')
}
