//! The files about the system as a whole: stat, meminfo, uptime and their kin (proc(5)).

use crate::kmsg::Kmsg;
use abi::Errno;
use abi::cap::CAP_SYSLOG;
use alloc::boxed::Box;
use alloc::sync::Arc;
use arch::cpu;
use core::fmt::{self, Write};
use kcore::{pid, rlimit, usage, uts};
use kernfs::{DEBUG, FixedLink, Meta, Next, Node, PROC, RecordSource, Records, TextBuf, knob, text, written};
use vfs::Caller;

const NS_PER_TICK: u64 = 1_000_000_000 / abi::time::USER_HZ;

/// Registers them all. `command_line` is the kernel's.
pub fn register(command_line: &'static str) {
    PROC.add("buddyinfo", text(buddyinfo));
    PROC.add("cmdline", text(move |out| writeln!(out, "{command_line}")));
    PROC.add("consoles", text(consoles));
    PROC.add("cpuinfo", text(|out| sched::online().iter().try_for_each(|number| cpu::describe(number, out))));
    PROC.add("devices", text(|out| vfs::device::show_devices(out)));
    PROC.add("filesystems", text(|out| vfs::show_filesystems(out)));
    PROC.add("interrupts", text(|out| irq::show(out)));
    PROC.add("kallsyms", Node::Records(Arc::new(Symbols)));
    PROC.add("kmsg", Node::File(Arc::new(Kmsg)));
    PROC.add("loadavg", text(loadavg));
    PROC.add("locks", text(|out| vfs::locks::show(out)));
    PROC.add("meminfo", text(|out| vm::write_meminfo(out)));
    PROC.add("misc", text(|out| vfs::device::show_misc(out)));
    PROC.add("modules", text(|_| Ok(())));
    PROC.add("net", Node::Link(Arc::new(FixedLink("self/net"))));
    PROC.add("mounts", Node::Link(Arc::new(FixedLink("self/mounts"))));
    PROC.add("pagetypeinfo", secret(pagetypeinfo));
    PROC.add("slabinfo", secret(slabinfo));
    PROC.add("softirqs", text(|out| irq::softirq::show(out)));
    PROC.add("stat", text(stat));
    PROC.add("swaps", text(swaps));
    PROC.add("sysrq-trigger", sysrq_trigger());
    PROC.add("timer_list", secret(|out| time::show::timer_list(out)));
    PROC.add("tty/drivers", text(|out| tty::devices::show_drivers(out)));
    PROC.add("uptime", text(uptime));
    PROC.add("version", text(version));
    PROC.add("vmstat", text(vmstat));
    PROC.add("zoneinfo", text(zoneinfo));
    DEBUG.add("sched/debug", text(|out| kcore::show::sched_debug(out)));
}

/// kallsyms: the kernel's functions. Addresses are zero for those without CAP_SYSLOG.
struct Symbols;

impl Meta for Symbols {
    fn mode(&self) -> u32 {
        0o444
    }
}

impl Records for Symbols {
    fn open(&self, caller: &Caller) -> Result<Box<dyn RecordSource>, Errno> {
        Ok(Box::new(OpenSymbols { addresses: caller.capable(CAP_SYSLOG) }))
    }
}

struct OpenSymbols {
    addresses: bool,
}

impl RecordSource for OpenSymbols {
    fn next(&self, cursor: u64, out: &mut TextBuf) -> Result<Next, Errno> {
        let symbol = arch::symbols::table().and_then(|table| table.get(cursor as usize));
        let Some((address, name)) = symbol else { return Ok(Next::End) };
        let address = if self.addresses { address } else { 0 };
        written(writeln!(out, "{address:016x} t {}", name.as_str()))?;
        Ok(Next::At(cursor + 1))
    }
}

/// Written: the first character is a key of `kcore::sysrq`. Only root may, and reading fails, as on Linux.
fn sysrq_trigger() -> Node {
    let press = |text: &str| {
        text.bytes().next().map(kcore::sysrq::trigger);
        Ok(())
    };
    knob(0o200, |_| Err(fmt::Error), press)
}

/// A text for root alone.
fn secret(show: fn(&mut TextBuf) -> fmt::Result) -> Node {
    knob(0o400, show, |_| Err(Errno::EIO))
}

/// `cpu` lines in ticks, then counts since boot.
fn stat(out: &mut TextBuf) -> fmt::Result {
    let all: alloc::vec::Vec<_> = (0..cpu::count()).map(sched::cpu_times).collect();
    let ticks = |pick: fn(&sched::CpuTimes) -> u64, times: &[sched::CpuTimes]| {
        times.iter().map(pick).sum::<u64>() / NS_PER_TICK
    };
    let line = |out: &mut TextBuf, times: &[sched::CpuTimes]| {
        writeln!(
            out,
            " {} {} {} {} 0 0 0 0 0 0",
            ticks(|t| t.user_ns, times),
            ticks(|t| t.nice_ns, times),
            ticks(|t| t.system_ns, times),
            ticks(|t| t.idle_ns, times)
        )
    };
    out.write_str("cpu ")?;
    line(out, &all)?;
    for number in sched::online().iter() {
        write!(out, "cpu{number}")?;
        line(out, &all[number..=number])?;
    }
    let (interrupts, lines) = irq::totals();
    write!(out, "intr {interrupts}")?;
    lines.iter().try_for_each(|count| write!(out, " {count}"))?;
    let (running, blocked) = sched::active_tasks();
    let boot_s = (time::realtime_ns() - time::monotonic_ns()) / 1_000_000_000;
    write!(out, "\nctxt {}\nbtime {boot_s}\nprocesses {}\n", sched::context_switches(), pid::fork_total())?;
    write!(out, "procs_running {running}\nprocs_blocked {blocked}\n")?;
    let (sum, each) = irq::softirq::totals();
    write!(out, "softirq {sum}")?;
    each.iter().try_for_each(|count| write!(out, " {count}"))?;
    writeln!(out)
}

fn loadavg(out: &mut TextBuf) -> fmt::Result {
    sched::show::load_average(out)?;
    let (running, _) = sched::active_tasks();
    writeln!(out, " {running}/{} {}", rlimit::thread_total(), pid::last_pid())
}

/// Seconds since boot, and seconds that CPUs were idle, all CPUs together.
fn uptime(out: &mut TextBuf) -> fmt::Result {
    let up_ns = time::monotonic_ns();
    let idle_ns: u64 = (0..cpu::count()).map(|number| sched::cpu_times(number).idle_ns).sum();
    let split = |ns: u64| (ns / 1_000_000_000, ns % 1_000_000_000 / 10_000_000);
    let ((up, up_part), (idle, idle_part)) = (split(up_ns), split(idle_ns));
    writeln!(out, "{up}.{up_part:02} {idle}.{idle_part:02}")
}

fn version(out: &mut TextBuf) -> fmt::Result {
    writeln!(out, "Linux version {} (ochre) (rustc) {}", uts::RELEASE, uts::VERSION)
}

/// Paths are padded to 40 columns, sizes in KiB, as swapon(8) reads them.
fn swaps(out: &mut TextBuf) -> fmt::Result {
    writeln!(out, "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority")?;
    for area in vm::swap::areas() {
        let kib = |pages: u64| pages * (arch::PAGE_SIZE as u64 / 1024);
        let (size, used) = (kib(area.size), kib(area.used));
        let gap = |kib: u64| if kib < 10_000_000 { "\t" } else { "" };
        writeln!(
            out,
            "{:<40}{}\t{size}\t{}{used}\t{}{}",
            area.path,
            area.kind,
            gap(size),
            gap(used),
            area.priority
        )?;
    }
    Ok(())
}

fn vmstat(out: &mut TextBuf) -> fmt::Result {
    let (faults, major) = usage::faults();
    vm::write_vmstat(out, faults, major)?;
    writeln!(out, "oom_kill {}", kcore::oom::kill_total())
}

/// Free blocks of each order, a line for each zone.
fn buddyinfo(out: &mut TextBuf) -> fmt::Result {
    let mut result = Ok(());
    mem::zones(|zone| {
        result = result.and_then(|()| {
            write!(out, "Node 0, zone {:>8} ", zone.name)?;
            zone.blocks.iter().try_for_each(|count| write!(out, "{count:>6} "))?;
            writeln!(out)
        });
    });
    result
}

/// As buddyinfo. Frames are of one type, as on a Linux whose memory is too small to group them by mobility.
fn pagetypeinfo(out: &mut TextBuf) -> fmt::Result {
    const BLOCK_ORDER: usize = 9;
    writeln!(out, "Page block order: {BLOCK_ORDER}\nPages per block:  {}\n", 1 << BLOCK_ORDER)?;
    let (mut free, mut blocks) = (alloc::string::String::new(), alloc::string::String::new());
    let mut orders = 0;
    let mut result = Ok(());
    mem::zones(|zone| {
        orders = zone.blocks.len();
        result = result.and_then(|()| {
            write!(free, "Node {:4}, zone {:>8}, type {:>12} ", 0, zone.name, "Unmovable")?;
            zone.blocks.iter().try_for_each(|count| write!(free, "{count:>6} "))?;
            writeln!(free)?;
            let count = zone.spanned.div_ceil(1 << BLOCK_ORDER);
            writeln!(blocks, "Node {}, zone {:>8} {count:>12} ", 0, zone.name)
        });
    });
    result?;
    write!(out, "{:<43} ", "Free pages count per migrate type at order")?;
    (0..orders).try_for_each(|order| write!(out, "{order:>6} "))?;
    write!(out, "\n{free}\n")?;
    writeln!(out, "{:<23} {:>12} \n{blocks}", "Number of blocks type", "Unmovable")
}

/// Where the kernel's messages go (proc_consoles(5)): writes, is enabled, is /dev/console, prints the log, at any time.
fn consoles(out: &mut TextBuf) -> fmt::Result {
    let Some(console) = tty::console() else { return Ok(()) };
    let dev = console.dev;
    writeln!(out, "{:<20} -W- (EC  p a) {:>4}:{}", console.name, dev.major, dev.minor)
}

fn zoneinfo(out: &mut TextBuf) -> fmt::Result {
    let mut result = Ok(());
    mem::zones(|zone| {
        let marks = zone.watermarks;
        result = result.and_then(|()| {
            writeln!(out, "Node 0, zone {:>8}", zone.name)?;
            writeln!(out, "  pages free     {}", zone.free)?;
            writeln!(out, "        min      {}", marks.min)?;
            writeln!(out, "        low      {}", marks.low)?;
            writeln!(out, "        high     {}", marks.high)?;
            writeln!(out, "        spanned  {}", zone.spanned)?;
            writeln!(out, "        present  {}", zone.managed)?;
            writeln!(out, "        managed  {}", zone.managed)?;
            writeln!(out, "  start_pfn:           {}", zone.start_pfn)
        });
    });
    result
}

fn slabinfo(out: &mut TextBuf) -> fmt::Result {
    writeln!(out, "slabinfo - version: 2.1")?;
    writeln!(
        out,
        "# name            <active_objs> <num_objs> <objsize> <objperslab> <pagesperslab> : tunables \
         <limit> <batchcount> <sharedfactor> : slabdata <active_slabs> <num_slabs> <sharedavail>"
    )?;
    let mut result = Ok(());
    mem::slabs(|slab| {
        result = result.and_then(|()| {
            writeln!(
                out,
                "{:<17} {:>6} {:>6} {:>6} {:>4} {:>4} : tunables {:>4} {:>4} {:>4} : slabdata {:>6} {:>6} {:>6}",
                slab.name,
                slab.active_objects,
                slab.total_objects,
                slab.object_bytes,
                slab.objects_per_slab,
                slab.pages_per_slab,
                0,
                0,
                0,
                slab.slabs,
                slab.slabs,
                0
            )
        });
    });
    result
}
