//! /proc/sys: settings of the kernel that have an effect, and facts (sysctl(8)). Settings of other layers are
//! registered by those.

use abi::Errno;
use abi::errno::Result;
use core::fmt::{self, Write};
use core::str::FromStr;
use core::sync::atomic::Ordering::Relaxed;
use kcore::exec::RANDOMIZE_VA_SPACE;
use kcore::{inotify, pid, rlimit, uts};
use kernfs::{Node, PROC, TextBuf, knob, text};
use vfs::{dnotify, leases};
use vm::stats;

/// Registers them.
pub fn register() {
    kernel();
    random();
    files();
    watches();
    memory();
}

/// A number as programs write it. EINVAL.
fn number<T: FromStr>(text: &str) -> Result<T> {
    text.parse().map_err(|_| Errno::EINVAL)
}

/// A setting that root changes.
fn setting(
    show: impl Fn(&mut TextBuf) -> fmt::Result + Send + Sync + 'static,
    store: impl Fn(&str) -> Result<()> + Send + Sync + 'static,
) -> Node {
    knob(0o644, show, store)
}

/// A string of uname(2) without its zeros.
fn name(out: &mut TextBuf, index: usize) -> fmt::Result {
    let field = uts::uname()[index];
    let len = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    out.bytes(&field[..len]).map_err(|_| fmt::Error)?;
    out.write_str("\n")
}

fn kernel() {
    PROC.add("sys/kernel/ostype", text(|out| name(out, 0)));
    PROC.add("sys/kernel/osrelease", text(|out| name(out, 2)));
    PROC.add("sys/kernel/version", text(|out| name(out, 3)));
    PROC.add("sys/kernel/arch", text(|out| name(out, 4)));
    PROC.add(
        "sys/kernel/hostname",
        setting(|out| name(out, 1), |text| uts::set_host(&text.as_bytes()[..text.len().min(64)])),
    );
    PROC.add(
        "sys/kernel/domainname",
        setting(|out| name(out, 5), |text| uts::set_domain(&text.as_bytes()[..text.len().min(64)])),
    );
    PROC.add(
        "sys/kernel/pid_max",
        setting(|out| writeln!(out, "{}", pid::pid_max()), |text| pid::set_pid_max(number(text)?)),
    );
    PROC.add(
        "sys/kernel/threads-max",
        setting(
            |out| writeln!(out, "{}", rlimit::threads_max()),
            |text| rlimit::set_threads_max(number(text)?),
        ),
    );
    PROC.add(
        "sys/kernel/randomize_va_space",
        setting(|out| writeln!(out, "{}", RANDOMIZE_VA_SPACE.load(Relaxed)), set_randomize),
    );
    PROC.add("sys/kernel/ngroups_max", text(|out| writeln!(out, "65536")));
    PROC.add("sys/kernel/cap_last_cap", text(|out| writeln!(out, "{}", abi::cap::CAP_LAST_CAP)));
    PROC.add("sys/kernel/printk", setting(printk, set_printk));
}

fn set_randomize(text: &str) -> Result<()> {
    let how = number(text)?;
    if how > 2 {
        return Err(Errno::EINVAL);
    }
    RANDOMIZE_VA_SPACE.store(how, Relaxed);
    Ok(())
}

/// The console's level, then those of messages without one, the least, and the default: the kernel's code
/// always names a level, so only the first can be changed.
fn printk(out: &mut TextBuf) -> fmt::Result {
    writeln!(out, "{}\t4\t1\t7", klog::console_level())
}

fn set_printk(text: &str) -> Result<()> {
    let first = text.split_ascii_whitespace().next().ok_or(Errno::EINVAL)?;
    klog::set_console_level(number(first)?);
    Ok(())
}

/// A random UUID, version 4.
fn uuid() -> u128 {
    let bits = u128::from(vfs::random::next_u64()) << 64 | u128::from(vfs::random::next_u64());
    bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62
}

fn write_uuid(out: &mut TextBuf, uuid: u128) -> fmt::Result {
    let part = |shift: u32, digits: u32| uuid >> shift & ((1 << (digits * 4)) - 1);
    writeln!(
        out,
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        part(96, 8),
        part(80, 4),
        part(64, 4),
        part(48, 4),
        part(0, 12)
    )
}

fn random() {
    let boot_id = uuid();
    PROC.add("sys/kernel/random/boot_id", text(move |out| write_uuid(out, boot_id)));
    PROC.add("sys/kernel/random/uuid", text(|out| write_uuid(out, uuid())));
    // The generator never runs dry: as on Linux since 5.18, the pool always has its 256 bits.
    PROC.add("sys/kernel/random/entropy_avail", text(|out| writeln!(out, "256")));
    PROC.add("sys/kernel/random/poolsize", text(|out| writeln!(out, "256")));
}

fn files() {
    PROC.add("sys/fs/nr_open", text(|out| writeln!(out, "{}", rlimit::NR_OPEN)));
    PROC.add("sys/fs/dentry-state", text(dentry_state));
    // An inode without users goes at once, or stays with its dentry: none is free.
    PROC.add("sys/fs/inode-nr", text(|out| writeln!(out, "{}\t0", vfs::inode_total())));
    PROC.add("sys/fs/inode-state", text(|out| writeln!(out, "{}\t0\t0\t0\t0\t0\t0", vfs::inode_total())));
    // No number of open files is too many but for memory: Linux's default limit says the same.
    PROC.add("sys/fs/file-max", text(|out| writeln!(out, "{}", i64::MAX)));
    PROC.add("sys/fs/file-nr", text(|out| writeln!(out, "{}\t0\t{}", vfs::open_files(), i64::MAX)));
    PROC.add(
        "sys/fs/pipe-max-size",
        setting(
            |out| writeln!(out, "{}", vfs::pipe::max_size()),
            |text| vfs::pipe::set_max_size(number(text)?),
        ),
    );
    PROC.add(
        "sys/fs/lease-break-time",
        setting(
            |out| writeln!(out, "{}", leases::BREAK_SECONDS.load(Relaxed)),
            |text| number(text).map(|seconds| leases::BREAK_SECONDS.store(seconds, Relaxed)),
        ),
    );
    for (path, enabled) in
        [("sys/fs/leases-enable", &leases::ENABLED), ("sys/fs/dir-notify-enable", &dnotify::ENABLED)]
    {
        let show = |out: &mut TextBuf| writeln!(out, "{}", u8::from(enabled.load(Relaxed)));
        let store = |text: &str| number(text).map(|on: i32| enabled.store(on != 0, Relaxed));
        PROC.add(path, setting(show, store));
    }
}

fn watches() {
    let limits = [
        ("sys/fs/inotify/max_queued_events", &inotify::MAX_QUEUED_EVENTS),
        ("sys/fs/inotify/max_user_instances", &inotify::MAX_USER_INSTANCES),
        ("sys/fs/inotify/max_user_watches", &inotify::MAX_USER_WATCHES),
    ];
    for (path, limit) in limits {
        let store = |text: &str| {
            let value: u64 = number(text)?;
            if value > i32::MAX as u64 {
                return Err(Errno::EINVAL);
            }
            limit.store(value, Relaxed);
            Ok(())
        };
        PROC.add(path, setting(|out| writeln!(out, "{}", limit.load(Relaxed)), store));
    }
}

fn dentry_state(out: &mut TextBuf) -> fmt::Result {
    let state = vfs::dcache::state();
    writeln!(out, "{}\t{}\t45\t0\t{}\t0", state.all, state.all, state.negative)
}

fn memory() {
    PROC.add(
        "sys/vm/overcommit_memory",
        setting(
            |out| writeln!(out, "{}", stats::overcommit_mode()),
            |text| stats::set_overcommit_mode(number(text)?),
        ),
    );
    PROC.add(
        "sys/vm/overcommit_ratio",
        setting(
            |out| writeln!(out, "{}", stats::overcommit_ratio()),
            |text| {
                stats::set_overcommit_ratio(number(text)?);
                Ok(())
            },
        ),
    );
    PROC.add("sys/vm/max_map_count", text(|out| writeln!(out, "{}", vm::MAX_MAP_COUNT)));
    PROC.add("sys/vm/mmap_min_addr", text(|out| writeln!(out, "{}", vm::MMAP_MIN_ADDR)));
}
