//! `/proc/sys/vm` for write-back and reclaim, with Linux's ranges, and `/sys/kernel/mm/reclaim`.

use abi::Errno;
use abi::errno::Result;
use core::fmt::Write as _;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use kernfs::{PROC, SYS, knob, text};
use vm::writeback::knobs as dirty;

/// Percent of the dentry cache's fair share that it gives.
static CACHE_PRESSURE: AtomicU32 = AtomicU32::new(100);
/// How readily anonymous pages go, against file pages: 0 to 200.
static SWAPPINESS: AtomicU32 = AtomicU32::new(60);

pub(super) fn cache_pressure() -> usize {
    CACHE_PRESSURE.load(Relaxed) as usize
}

pub(super) fn swappiness() -> usize {
    SWAPPINESS.load(Relaxed) as usize
}

/// A number in a range as sysctl(8) writes it. EINVAL.
fn number<T: core::str::FromStr + PartialOrd>(text: &str, range: RangeInclusive<T>) -> Result<T> {
    text.parse().ok().filter(|number| range.contains(number)).ok_or(Errno::EINVAL)
}

/// A file for a setting that is one atomic number.
fn plain(path: &str, setting: &'static AtomicU32, range: RangeInclusive<u32>) {
    let store = move |text: &str| {
        setting.store(number(text, range.clone())?, Relaxed);
        Ok(())
    };
    PROC.add(path, knob(0o644, |out| writeln!(out, "{}", setting.load(Relaxed)), store));
}

/// Registers them.
pub(super) fn register() {
    limits();
    plain("sys/vm/dirty_expire_centisecs", &dirty::EXPIRE_CENTISECS, 0..=i32::MAX as u32);
    plain("sys/vm/dirty_writeback_centisecs", &dirty::WRITEBACK_CENTISECS, 0..=i32::MAX as u32);
    plain("sys/vm/vfs_cache_pressure", &CACHE_PRESSURE, 0..=i32::MAX as u32);
    plain("sys/vm/swappiness", &SWAPPINESS, 0..=200);
    PROC.add(
        "sys/vm/min_free_kbytes",
        knob(
            0o644,
            |out| writeln!(out, "{}", mem::min_free_kib()),
            |text| {
                mem::set_min_free_kib(number(text, 0..=i32::MAX as usize)?);
                Ok(())
            },
        ),
    );
    PROC.add("sys/vm/drop_caches", knob(0o200, |out| writeln!(out, "0"), drop_caches));
    SYS.add(
        "kernel/mm/reclaim/policy",
        knob(0o644, |out| vm::reclaim::show_policies(out), vm::reclaim::switch),
    );
    SYS.add("kernel/mm/reclaim/stats", text(stats));
}

fn limits() {
    PROC.add(
        "sys/vm/dirty_ratio",
        knob(
            0o644,
            |out| writeln!(out, "{}", dirty::RATIO.load(Relaxed)),
            |text| {
                dirty::set_ratio(number(text, 0..=100)?);
                Ok(())
            },
        ),
    );
    PROC.add(
        "sys/vm/dirty_background_ratio",
        knob(
            0o644,
            |out| writeln!(out, "{}", dirty::BACKGROUND_RATIO.load(Relaxed)),
            |text| {
                dirty::set_background_ratio(number(text, 0..=100)?);
                Ok(())
            },
        ),
    );
    PROC.add(
        "sys/vm/dirty_bytes",
        knob(
            0o644,
            |out| writeln!(out, "{}", dirty::BYTES.load(Relaxed)),
            |text| {
                // Linux's dirty_bytes_min: two pages.
                dirty::set_bytes(number(text, 2 * arch::PAGE_SIZE as u64..=u64::MAX)?);
                Ok(())
            },
        ),
    );
    PROC.add(
        "sys/vm/dirty_background_bytes",
        knob(
            0o644,
            |out| writeln!(out, "{}", dirty::BACKGROUND_BYTES.load(Relaxed)),
            |text| {
                dirty::set_background_bytes(number(text, 1..=u64::MAX)?);
                Ok(())
            },
        ),
    );
}

/// 1: clean file pages, 2: names and inodes, 3: both. Dirty pages stay: sync(1) first.
fn drop_caches(text: &str) -> Result<()> {
    // Bit 2 turns off Linux's message about it, which there is none of here.
    let what = number(text, 1..=7u32)?;
    if what & 2 != 0 {
        vfs::shrink(usize::MAX);
        vm::reclaim::shrink_caches(mem::stats().total_pages);
    }
    if what & 1 != 0 {
        vm::reclaim::drop_all();
    }
    Ok(())
}

fn stats(out: &mut kernfs::TextBuf) -> core::fmt::Result {
    let (stalls, runs) = super::runs();
    writeln!(out, "allocstall {stalls}\npageoutrun {runs}")?;
    vm::reclaim::show_stats(out)
}
