//! The counters behind /proc/diskstats and /sys/block/*/stat.
//!
//! Each CPU counts for itself; only the time stamp of the busy time is shared, and it changes once a
//! millisecond at most. Source: Linux's Documentation/admin-guide/iostats.rst.

use crate::bio::Op;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use sync::PerCpu;

/// The groups that are counted apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Group {
    Read = 0,
    Write = 1,
    Discard = 2,
    Flush = 3,
}

const GROUPS: usize = 4;

impl Group {
    pub(crate) fn of(op: Op) -> Group {
        match op {
            Op::Read => Group::Read,
            Op::Write | Op::WriteZeroes => Group::Write,
            Op::Discard => Group::Discard,
            Op::Flush => Group::Flush,
        }
    }
}

#[derive(Default)]
struct Counts {
    ios: [AtomicU64; GROUPS],
    merges: [AtomicU64; GROUPS],
    sectors: [AtomicU64; GROUPS],
    time_ns: [AtomicU64; GROUPS],
    /// Begun less ended on this CPU; only the sum over all CPUs means something.
    in_flight: [AtomicI64; 2],
    busy_ms: AtomicU64,
}

/// Counters of one disk or partition.
pub struct Stats {
    cpus: PerCpu<Counts>,
    stamp_ms: AtomicU64,
}

impl Stats {
    pub(crate) fn new() -> Stats {
        Stats { cpus: PerCpu::new(|_| Counts::default()), stamp_ms: AtomicU64::new(0) }
    }

    /// A request begins to wait.
    pub(crate) fn begin(&self, group: Group, now_ns: u64) {
        self.tick(now_ns, false);
        self.cpus.this().in_flight[usize::from(group != Group::Read)].fetch_add(1, Relaxed);
    }

    /// A bio was joined to a request.
    pub(crate) fn merged(&self, group: Group) {
        self.cpus.this().merges[group as usize].fetch_add(1, Relaxed);
    }

    /// A request is done that began at `began_ns`.
    pub(crate) fn end(&self, group: Group, sectors: u32, began_ns: u64, now_ns: u64) {
        self.tick(now_ns, true);
        let cpu = self.cpus.this();
        cpu.in_flight[usize::from(group != Group::Read)].fetch_sub(1, Relaxed);
        cpu.ios[group as usize].fetch_add(1, Relaxed);
        cpu.sectors[group as usize].fetch_add(sectors.into(), Relaxed);
        cpu.time_ns[group as usize].fetch_add(now_ns.saturating_sub(began_ns), Relaxed);
    }

    /// A flush of the cache is done. Flushes are not counted as in flight.
    pub(crate) fn flushed(&self, began_ns: u64, now_ns: u64) {
        let cpu = self.cpus.this();
        cpu.ios[Group::Flush as usize].fetch_add(1, Relaxed);
        cpu.time_ns[Group::Flush as usize].fetch_add(now_ns.saturating_sub(began_ns), Relaxed);
    }

    /// Adds the time since the last call to the busy time when something was under way.
    fn tick(&self, now_ns: u64, ends: bool) {
        let now_ms = now_ns / 1_000_000;
        let stamp = self.stamp_ms.load(Relaxed);
        if now_ms > stamp
            && self.stamp_ms.compare_exchange(stamp, now_ms, Relaxed, Relaxed).is_ok()
            && (ends || self.in_flight() != [0, 0])
        {
            self.cpus.this().busy_ms.fetch_add(now_ms - stamp, Relaxed);
        }
    }

    /// Reads and writes that wait or are under way.
    pub fn in_flight(&self) -> [u64; 2] {
        let mut sums = [0i64; 2];
        for (_, cpu) in self.cpus.iter() {
            sums.iter_mut().zip(&cpu.in_flight).for_each(|(sum, one)| *sum += one.load(Relaxed));
        }
        // Between two loads a request may have ended on a CPU that was looked at already.
        sums.map(|sum| sum.max(0) as u64)
    }

    fn sum(&self, counter: impl Fn(&Counts) -> &AtomicU64) -> u64 {
        self.cpus.iter().map(|(_, cpu)| counter(cpu).load(Relaxed)).sum()
    }

    /// The 17 numbers of /proc/diskstats, each after a blank, `width` columns for /sys/block/*/stat.
    pub(crate) fn write(&self, out: &mut dyn Write, width: usize) -> fmt::Result {
        if self.in_flight() != [0, 0] {
            self.tick(arch::timer::now_ns(), true);
        }
        let ms = |group: usize| self.sum(|cpu| &cpu.time_ns[group]) / 1_000_000;
        let mut columns = [0; 17];
        for (group, at) in [(0, 0), (1, 4), (2, 11)] {
            columns[at] = self.sum(|cpu| &cpu.ios[group]);
            columns[at + 1] = self.sum(|cpu| &cpu.merges[group]);
            columns[at + 2] = self.sum(|cpu| &cpu.sectors[group]);
            columns[at + 3] = ms(group);
        }
        columns[8] = self.in_flight().iter().sum();
        columns[9] = self.sum(|cpu| &cpu.busy_ms);
        columns[10] = (0..GROUPS).map(ms).sum();
        columns[15] = self.sum(|cpu| &cpu.ios[Group::Flush as usize]);
        columns[16] = ms(Group::Flush as usize);
        columns.iter().try_for_each(|column| write!(out, " {column:>width$}"))
    }
}
