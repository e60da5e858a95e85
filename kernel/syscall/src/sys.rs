//! The system as a whole: names, memory, random numbers, the log, the end.

use crate::{Ctx, Errno, Result};
use abi::cap::{CAP_SYS_ADMIN, CAP_SYS_BOOT, CAP_SYSLOG};
use abi::process::*;
use kcore::{rlimit, usermem, uts};
use vfs::IoBuf;

pub fn uname(_ctx: &mut Ctx, buffer: usize) -> Result<usize> {
    for (at, field) in uts::uname().iter().enumerate() {
        let to = buffer.checked_add(at * field.len()).ok_or(Errno::EFAULT)?;
        usermem::write_bytes(to, field)?;
    }
    Ok(0)
}

fn read_name(ctx: &Ctx, name: usize, len: usize) -> Result<([u8; UTS_LEN], usize)> {
    if !ctx.capable(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    let mut bytes = [0; UTS_LEN];
    let part = bytes.get_mut(..len).ok_or(Errno::EINVAL)?;
    usermem::read_bytes(name, part)?;
    Ok((bytes, len))
}

pub fn sethostname(ctx: &mut Ctx, name: usize, len: usize) -> Result<usize> {
    let (bytes, len) = read_name(ctx, name, len)?;
    uts::set_host(&bytes[..len]).map(|()| 0)
}

pub fn setdomainname(ctx: &mut Ctx, name: usize, len: usize) -> Result<usize> {
    let (bytes, len) = read_name(ctx, name, len)?;
    uts::set_domain(&bytes[..len]).map(|()| 0)
}

pub fn sysinfo(_ctx: &mut Ctx, info: usize) -> Result<usize> {
    let memory = mem::stats();
    let bytes = |pages: usize| (pages * arch::PAGE_SIZE) as u64;
    let (swap, swap_used) = vm::swap::totals();
    let out = Sysinfo {
        uptime: (time::monotonic_ns() / 1_000_000_000) as i64,
        // Fixed point with 16 bits, as sysinfo(2) gives it; the scheduler keeps 11.
        loads: sched::load_average().map(|load| load << 5),
        totalram: bytes(memory.total_pages),
        freeram: bytes(mem::free_pages()),
        sharedram: vm::stats::snapshot().shmem * arch::PAGE_SIZE as u64,
        totalswap: swap * arch::PAGE_SIZE as u64,
        freeswap: (swap - swap_used) * arch::PAGE_SIZE as u64,
        procs: rlimit::thread_total().min(u64::from(u16::MAX)) as u16,
        mem_unit: 1,
        ..Sysinfo::default()
    };
    usermem::write(info, &out).map(|()| 0)
}

pub fn getrandom(_ctx: &mut Ctx, buffer: usize, count: usize, flags: u32) -> Result<usize> {
    const BOTH: u32 = GRND_RANDOM | GRND_INSECURE;
    if flags & !(BOTH | GRND_NONBLOCK) != 0 || flags & BOTH == BOTH {
        return Err(Errno::EINVAL);
    }
    vfs::random::fill_user(&mut IoBuf::user(buffer, count.min(i32::MAX as usize)))
}

pub fn reboot(ctx: &mut Ctx, magic: u32, magic2: u32, command: u32, _argument: usize) -> Result<usize> {
    if !ctx.capable(CAP_SYS_BOOT) {
        return Err(Errno::EPERM);
    }
    if magic != LINUX_REBOOT_MAGIC1 || !LINUX_REBOOT_MAGIC2.contains(&magic2) {
        return Err(Errno::EINVAL);
    }
    match command {
        LINUX_REBOOT_CMD_CAD_ON | LINUX_REBOOT_CMD_CAD_OFF => return Ok(0),
        LINUX_REBOOT_CMD_RESTART | LINUX_REBOOT_CMD_RESTART2 => klog::pr_info!("reboot: Restarting system"),
        LINUX_REBOOT_CMD_POWER_OFF => klog::pr_info!("reboot: Power down"),
        LINUX_REBOOT_CMD_HALT => klog::pr_info!("reboot: System halted"),
        _ => return Err(Errno::EINVAL),
    }
    vfs::mount::sync_all();
    match command {
        LINUX_REBOOT_CMD_POWER_OFF => arch::power::off(),
        LINUX_REBOOT_CMD_HALT => arch::power::halt(),
        _ => arch::power::reboot(),
    }
}

/// syslog(2): the kernel's log for old programs.
pub fn syslog(ctx: &mut Ctx, action: i32, buffer: usize, len: i32) -> Result<usize> {
    const CLOSE: i32 = 0;
    const OPEN: i32 = 1;
    const READ: i32 = 2;
    const SIZE_UNREAD: i32 = 9;
    const READ_ALL: i32 = 3;
    const READ_CLEAR: i32 = 4;
    const CLEAR: i32 = 5;
    const CONSOLE_OFF: i32 = 6;
    const CONSOLE_ON: i32 = 7;
    const CONSOLE_LEVEL: i32 = 8;
    const SIZE_BUFFER: i32 = 10;
    if !matches!(action, READ_ALL | SIZE_BUFFER) && !ctx.capable(CAP_SYSLOG) && !ctx.capable(CAP_SYS_ADMIN) {
        return Err(Errno::EPERM);
    }
    match action {
        CLOSE | OPEN => Ok(0),
        READ | READ_ALL | READ_CLEAR => {
            let room = usize::try_from(len).map_err(|_| Errno::EINVAL)?;
            if buffer == 0 {
                return Err(Errno::EINVAL);
            }
            if action == READ {
                return kcore::syslog::read_waiting(&mut vfs::IoBuf::user(buffer, room));
            }
            let copied = copy_log(buffer, room)?;
            if action == READ_CLEAR {
                klog::clear();
            }
            Ok(copied)
        }
        CLEAR => {
            klog::clear();
            Ok(0)
        }
        CONSOLE_OFF => {
            klog::set_console_level(1);
            Ok(0)
        }
        CONSOLE_ON => {
            klog::set_console_level(7);
            Ok(0)
        }
        CONSOLE_LEVEL if (1..=8).contains(&len) => {
            klog::set_console_level(len as u8);
            Ok(0)
        }
        SIZE_UNREAD => Ok(kcore::syslog::unread()),
        SIZE_BUFFER => Ok(klog::RING_BYTES),
        _ => Err(Errno::EINVAL),
    }
}

/// Copies the newest whole lines that fit, oldest first: `<6>[    1.234567] text`.
fn copy_log(buffer: usize, room: usize) -> Result<usize> {
    let mut lines = alloc::collections::VecDeque::new();
    let mut total = 0;
    let mut next = klog::cleared();
    let mut text = [0; klog::LINE_MAX];
    while let Some(record) = klog::read_after(next, &mut text) {
        next = record.sequence + 1;
        let line = kcore::syslog::line(&record, &text);
        total += line.len();
        lines.push_back(line);
        while total > room {
            total -= lines.pop_front().map_or(0, |line| line.len());
        }
    }
    let mut at = buffer;
    for line in lines {
        usermem::write_bytes(at, line.as_bytes())?;
        at += line.len();
    }
    Ok(total)
}

/// riscv_hwprobe(2): what is not known of a key is said by key -1.
pub fn riscv_hwprobe(
    _ctx: &mut Ctx,
    pairs: usize,
    pair_count: usize,
    _cpu_count: usize,
    _cpus: usize,
    flags: u32,
) -> Result<usize> {
    if flags != 0 {
        return Err(Errno::EINVAL);
    }
    for at in 0..pair_count {
        let pair = at.checked_mul(16).and_then(|offset| pairs.checked_add(offset)).ok_or(Errno::EFAULT)?;
        let key: i64 = usermem::read(pair)?;
        // 3: base behaviour, bit 0: IMA. 4: extensions, FD and C.
        let (key, value) = match key {
            3 => (key, 1u64),
            4 => (key, 0b11),
            _ => (-1, 0),
        };
        usermem::write(pair, &key)?;
        usermem::write(pair.checked_add(8).ok_or(Errno::EFAULT)?, &value)?;
    }
    Ok(0)
}

/// riscv_flush_icache(2): every return to user mode on this architecture fences instruction fetch.
pub fn riscv_flush_icache(_ctx: &mut Ctx, _start: usize, _end: usize, flags: usize) -> Result<usize> {
    if flags & !1 != 0 {
        return Err(Errno::EINVAL);
    }
    arch::mmu::sync_instructions();
    Ok(0)
}
