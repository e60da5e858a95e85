//! `/sys/block/NAME/queue`: limits, settings, the scheduler and its knobs; `mq`: the hardware queues.

use crate::disk::Disk;
use crate::switch::{NONE, schedulers};
use abi::Errno;
use abi::errno::Result;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::{Arc, Weak};
use core::fmt::{self, Write};
use core::sync::atomic::Ordering::Relaxed;
use kernfs::{Asker, Dir, Each, Kind, Meta, Node, SYS, TextBuf, knob, text};

type Show = fn(&Disk, &mut TextBuf) -> fmt::Result;
type Store = fn(&Disk, &str) -> Result<()>;

/// Files that only tell.
const FILES: &[(&str, Show)] = &[
    ("logical_block_size", |d, out| writeln!(out, "{}", d.limits().logical_block)),
    ("physical_block_size", |d, out| writeln!(out, "{}", d.limits().physical_block)),
    ("hw_sector_size", |d, out| writeln!(out, "{}", d.limits().logical_block)),
    ("minimum_io_size", |d, out| writeln!(out, "{}", d.limits().io_min)),
    ("optimal_io_size", |d, out| writeln!(out, "{}", d.limits().io_opt)),
    ("max_hw_sectors_kb", |d, out| writeln!(out, "{}", d.limits().max_sectors / 2)),
    ("max_segments", |d, out| writeln!(out, "{}", d.limits().max_segments)),
    ("max_segment_size", |d, out| writeln!(out, "{}", d.limits().max_segment_bytes)),
    ("rotational", |d, out| writeln!(out, "{}", u8::from(d.limits().rotational))),
    ("fua", |d, out| writeln!(out, "{}", u8::from(d.limits().fua))),
    ("write_cache", |d, out| {
        out.write_str(if d.limits().write_cache { "write back\n" } else { "write through\n" })
    }),
    ("discard_granularity", |d, out| writeln!(out, "{}", d.limits().discard.map_or(0, |l| l.granularity))),
    ("discard_max_bytes", discard_max),
    ("discard_max_hw_bytes", discard_max),
    ("discard_zeroes_data", |_, out| writeln!(out, "0")),
    ("write_zeroes_max_bytes", |d, out| writeln!(out, "{}", u64::from(d.limits().max_write_zeroes) * 512)),
    ("zoned", |_, out| writeln!(out, "none")),
];

fn discard_max(disk: &Disk, out: &mut TextBuf) -> fmt::Result {
    writeln!(out, "{}", disk.limits().discard.map_or(0, |limits| u64::from(limits.max_sectors) * 512))
}

/// Files that are also written.
const KNOBS: &[(&str, Show, Store)] = &[
    ("scheduler", show_scheduler, |d, text| d.set_scheduler(text)),
    ("nr_requests", |d, out| writeln!(out, "{}", d.requests - d.pool.lock().withheld), set_requests),
    (
        "read_ahead_kb",
        |d, out| writeln!(out, "{}", d.read_ahead_kb.load(Relaxed)),
        |d, text| {
            d.read_ahead_kb.store(number(text)?, Relaxed);
            Ok(())
        },
    ),
    (
        "max_sectors_kb",
        |d, out| writeln!(out, "{}", d.max_sectors.load(Relaxed) / 2),
        |d, text| {
            let sectors = number(text)?.checked_mul(2).ok_or(Errno::EINVAL)?;
            // Linux asks for a page at least.
            if !(8..=d.limits().max_sectors).contains(&sectors) {
                return Err(Errno::EINVAL);
            }
            d.max_sectors.store(sectors, Relaxed);
            Ok(())
        },
    ),
    (
        "nomerges",
        |d, out| writeln!(out, "{}", d.no_merges.load(Relaxed)),
        |d, text| {
            let value = number(text)?;
            d.no_merges.store(value.min(2), Relaxed);
            Ok(())
        },
    ),
    (
        "io_timeout",
        |d, out| writeln!(out, "{}", d.timeout_ns() / 1_000_000),
        |d, text| {
            let ms = number(text)?;
            if ms == 0 {
                return Err(Errno::EINVAL);
            }
            d.set_timeout_ns(u64::from(ms) * 1_000_000);
            Ok(())
        },
    ),
];

fn number(text: &str) -> Result<u32> {
    text.parse().map_err(|_| Errno::EINVAL)
}

/// Linux's line: the one in use in brackets.
fn show_scheduler(disk: &Disk, out: &mut TextBuf) -> fmt::Result {
    let current = disk.scheduler();
    let names = [NONE].into_iter().chain(schedulers().iter().map(|info| info.name));
    for (at, name) in names.enumerate() {
        let blank = if at == 0 { "" } else { " " };
        if name == current { write!(out, "{blank}[{name}]")? } else { write!(out, "{blank}{name}")? }
    }
    writeln!(out)
}

fn set_requests(disk: &Disk, text: &str) -> Result<()> {
    /// Linux's BLKDEV_MIN_RQ.
    const LEAST: u32 = 4;
    let wanted = number(text)?.max(LEAST);
    let mut pool = disk.pool.lock();
    pool.withheld = disk.requests.checked_sub(wanted).ok_or(Errno::EINVAL)?;
    drop(pool);
    disk.pool_wait.iter().for_each(|queue| queue.wake_all());
    Ok(())
}

pub(crate) fn add(dir: &str, disk: &Arc<Disk>) {
    for (name, show) in FILES {
        let of: Weak<Disk> = Arc::downgrade(disk);
        let show = move |out: &mut TextBuf| of.upgrade().map_or(Ok(()), |disk| show(&disk, out));
        SYS.add(&format!("{dir}/queue/{name}"), text(show));
    }
    for (name, show, store) in KNOBS {
        let of: Weak<Disk> = Arc::downgrade(disk);
        let show = move |out: &mut TextBuf| of.upgrade().map_or(Ok(()), |disk| show(&disk, out));
        let of: Weak<Disk> = Arc::downgrade(disk);
        let store = move |text: &str| store(&*of.upgrade().ok_or(Errno::ENODEV)?, text);
        SYS.add(&format!("{dir}/queue/{name}"), knob(0o644, show, store));
    }
    let knobs = Knobs { disk: Arc::downgrade(disk) };
    SYS.add(&format!("{dir}/queue/iosched"), Node::Dir(Arc::new(knobs)));
    for (number, _) in disk.hw.iter().enumerate() {
        let cpus = (0..arch::cpu::count()).filter(|cpu| disk.hw_of(*cpu) == number);
        let list = cpus.map(|cpu| cpu.to_string()).collect::<alloc::vec::Vec<_>>().join(", ");
        SYS.add(&format!("{dir}/mq/{number}/cpu_list"), text(move |out| writeln!(out, "{list}")));
        let tags = disk.info().depth;
        SYS.add(&format!("{dir}/mq/{number}/nr_tags"), text(move |out| writeln!(out, "{tags}")));
        SYS.add(&format!("{dir}/mq/{number}/nr_reserved_tags"), text(|out| writeln!(out, "0")));
    }
}

/// The directory `iosched`: the knobs of whatever scheduler is in use.
struct Knobs {
    disk: Weak<Disk>,
}

impl Meta for Knobs {
    fn mode(&self) -> u32 {
        0o755
    }
}

impl Dir for Knobs {
    fn directories(&self) -> u32 {
        0
    }

    fn lookup(&self, name: &[u8]) -> Result<Option<Node>> {
        let Some(disk) = self.disk.upgrade() else { return Ok(None) };
        let known = disk.scheduler_tunables().into_iter().find(|known| known.as_bytes() == name);
        let Some(name) = known else { return Ok(None) };
        let show_of = self.disk.clone();
        let show = move |out: &mut TextBuf| {
            let value = show_of.upgrade().and_then(|disk| disk.scheduler_tunable(name));
            value.map_or(Ok(()), |value| writeln!(out, "{value}"))
        };
        let store_of = self.disk.clone();
        let store = move |text: &str| {
            let value = text.parse().map_err(|_| Errno::EINVAL)?;
            store_of.upgrade().ok_or(Errno::ENODEV)?.set_scheduler_tunable(name, value)
        };
        Ok(Some(knob(0o644, show, store)))
    }

    fn list(&self, from: u64, _asker: &Asker, each: &mut Each) -> Result<()> {
        let Some(disk) = self.disk.upgrade() else { return Ok(()) };
        for (number, name) in (0..).zip(disk.scheduler_tunables()).skip(from as usize) {
            if !each(number, name.as_bytes(), Kind::File) {
                break;
            }
        }
        Ok(())
    }
}
