//! `/sys/block/zramN`, as Linux's Documentation/admin-guide/blockdev/zram.rst describes it.

use crate::device::Zram;
use crate::store::PAGE;
use abi::Errno;
use abi::errno::Result;
use alloc::format;
use alloc::sync::{Arc, Weak};
use core::fmt::{self, Write};
use kernfs::{SYS, TextBuf, knob, text};

/// The one algorithm there is.
const ALGORITHM: &str = "lz4";

type Show = fn(&Zram, &mut TextBuf) -> fmt::Result;
type Store = fn(&Arc<Zram>, &str) -> Result<()>;

/// Files that only tell.
const FILES: &[(&str, Show)] = &[
    ("initstate", |zram, out| writeln!(out, "{}", u8::from(zram.store.lock().pages() != 0))),
    ("mm_stat", mm_stat),
    ("io_stat", io_stat),
];

/// Files that are written, with their modes.
const KNOBS: &[(&str, u32, Show, Store)] = &[
    (
        "disksize",
        0o644,
        |zram, out| writeln!(out, "{}", zram.store.lock().pages() * PAGE as u64),
        |zram, text| zram.set_size(size(text)?),
    ),
    (
        "comp_algorithm",
        0o644,
        |_, out| writeln!(out, "[{ALGORITHM}]"),
        |zram, text| {
            if text != ALGORITHM {
                return Err(Errno::EINVAL);
            }
            if zram.store.lock().pages() != 0 { Err(Errno::EBUSY) } else { Ok(()) }
        },
    ),
    (
        "max_comp_streams",
        0o644,
        |_, out| writeln!(out, "1"),
        |_, text| {
            // Kept by Linux for old scripts, without effect.
            text.parse::<i32>().map(drop).map_err(|_| Errno::EINVAL)
        },
    ),
    (
        "reset",
        0o200,
        |_, _| Ok(()),
        |zram, text| match text.parse::<u16>() {
            Ok(0) | Err(_) => Err(Errno::EINVAL),
            Ok(_) => zram.reset(),
        },
    ),
    (
        "mem_limit",
        0o200,
        |_, _| Ok(()),
        |zram, text| {
            let pages = size(text)?.div_ceil(PAGE as u64);
            zram.store.lock().set_limit(usize::try_from(pages).unwrap_or(usize::MAX));
            Ok(())
        },
    ),
    (
        "mem_used_max",
        0o200,
        |_, _| Ok(()),
        |zram, text| {
            if text != "0" {
                return Err(Errno::EINVAL);
            }
            zram.store.lock().reset_used_max();
            Ok(())
        },
    ),
];

fn size(text: &str) -> Result<u64> {
    cmdline::parse_size(text).ok_or(Errno::EINVAL)
}

/// Bytes stored, compressed, in memory; limit, most; same pages, moved ones, huge ones now and ever.
fn mm_stat(zram: &Zram, out: &mut TextBuf) -> fmt::Result {
    let store = zram.store.lock();
    let (numbers, (used, limit)) = (store.numbers(), store.memory());
    drop(store);
    let bytes = |pages: usize| pages as u64 * PAGE as u64;
    writeln!(
        out,
        "{:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        numbers.pages * PAGE as u64,
        numbers.compressed,
        bytes(used),
        bytes(limit),
        bytes(numbers.used_max),
        numbers.same,
        0,
        numbers.huge,
        numbers.huge_ever
    )
}

/// Failed reads and writes, requests that were no whole pages (the block layer makes none), slots that swap freed.
fn io_stat(zram: &Zram, out: &mut TextBuf) -> fmt::Result {
    let numbers = zram.store.lock().numbers();
    writeln!(
        out,
        "{:>8} {:>8} {:>8} {:>8}",
        numbers.failed_reads, numbers.failed_writes, 0, numbers.notify_free
    )
}

/// Registers the files.
pub(crate) fn register(device: &Arc<Zram>, number: u32) {
    let dir = format!("devices/virtual/block/zram{number}");
    for (name, show) in FILES {
        let of: Weak<Zram> = Arc::downgrade(device);
        let show = move |out: &mut TextBuf| of.upgrade().map_or(Ok(()), |zram| show(&zram, out));
        SYS.add(&format!("{dir}/{name}"), text(show));
    }
    for (name, mode, show, store) in KNOBS {
        let of: Weak<Zram> = Arc::downgrade(device);
        let show = move |out: &mut TextBuf| of.upgrade().map_or(Ok(()), |zram| show(&zram, out));
        let of: Weak<Zram> = Arc::downgrade(device);
        let store = move |text: &str| store(&of.upgrade().ok_or(Errno::ENODEV)?, text);
        SYS.add(&format!("{dir}/{name}"), knob(*mode, show, store));
    }
}
