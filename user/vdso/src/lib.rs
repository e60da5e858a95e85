//! The vDSO: the kernel's shared object in every process, for calls that need no trap.
//!
//! **Problem.** Programs ask for the time far more often than the time needs the kernel.
//!
//! **Interface.** vdso(7): the symbols Linux exports on each architecture, with its version names
//! (vdso.map). The data page ([`abi::vdso::VvarData`]) lies just before the code.
//!
//! **Idea.** Compiled to one object file and linked by the runner with `vdso.ld` into a tiny ELF image
//! that the kernel carries as bytes. Code here must not call anything outside (no memcpy, no panics) and
//! may only use addresses relative to itself. What it cannot answer it passes on to the kernel.

#![no_std]

use abi::vdso::VvarData;
use core::arch::asm;
use core::ptr::{addr_of, read_volatile};
use core::sync::atomic::{Ordering, fence};

const CLOCK_REALTIME: i32 = 0;
const CLOCK_MONOTONIC: i32 = 1;
const CLOCK_MONOTONIC_RAW: i32 = 4;
const CLOCK_REALTIME_COARSE: i32 = 5;
const CLOCK_MONOTONIC_COARSE: i32 = 6;
const CLOCK_BOOTTIME: i32 = 7;
const NS_PER_S: u64 = 1_000_000_000;

/// `struct timespec`, and with microseconds `struct timeval`.
#[repr(C)]
pub struct Timespec {
    sec: i64,
    sub: i64,
}

#[cfg(target_arch = "riscv64")]
mod machine {
    use super::*;

    pub const NR_CLOCK_GETTIME: usize = 113;
    pub const NR_CLOCK_GETRES: usize = 114;

    pub fn counter() -> u64 {
        let value;
        // SAFETY: 1. rdtime reads a counter that user mode may read.
        unsafe { asm!("rdtime {}", out(reg) value, options(nomem, nostack)) };
        value
    }

    pub fn data() -> *const VvarData {
        let at;
        // SAFETY: 1. only computes an address relative to this code.
        unsafe { asm!("lla {}, ochre_vvar", out(reg) at, options(nomem, nostack, pure)) };
        at
    }

    pub fn syscall2(number: usize, a: usize, b: usize) -> isize {
        let result;
        // SAFETY: 1. the kernel checks both arguments; 2. it preserves all registers but a0.
        unsafe { asm!("ecall", in("a7") number, inlateout("a0") a => result, in("a1") b, options(nostack)) };
        result
    }
}

#[cfg(target_arch = "x86_64")]
mod machine {
    use super::*;

    pub const NR_CLOCK_GETTIME: usize = 228;
    pub const NR_CLOCK_GETRES: usize = 229;

    pub fn counter() -> u64 {
        let (low, high): (u64, u64);
        // SAFETY: 1. rdtsc reads a counter; lfence keeps it after earlier loads.
        unsafe { asm!("lfence", "rdtsc", out("rax") low, out("rdx") high, options(nomem, nostack)) };
        high << 32 | low
    }

    pub fn data() -> *const VvarData {
        let at;
        // SAFETY: 1. only computes an address relative to this code.
        unsafe { asm!("lea {}, [rip + ochre_vvar]", out(reg) at, options(nomem, nostack, pure)) };
        at
    }

    pub fn syscall2(number: usize, a: usize, b: usize) -> isize {
        let result;
        // SAFETY: 1. the kernel checks both arguments; 2. it clobbers rcx and r11 only.
        unsafe {
            asm!("syscall", inlateout("rax") number => result, in("rdi") a, in("rsi") b,
                lateout("rcx") _, lateout("r11") _, options(nostack))
        };
        result
    }
}

/// Monotonic and real time in ns.
#[inline(always)]
fn now() -> (u64, u64) {
    let data = machine::data();
    loop {
        // SAFETY: 1. the kernel maps the data page readable below the code; 2. it may change at any time,
        // so every word is read volatile, once, and a change is noticed by the sequence.
        let (before, shift, base, base_ns, mult, since, offset, rate) = unsafe {
            (
                read_volatile(addr_of!((*data).sequence)),
                read_volatile(addr_of!((*data).shift)),
                read_volatile(addr_of!((*data).base)),
                read_volatile(addr_of!((*data).base_ns)),
                read_volatile(addr_of!((*data).mult)),
                read_volatile(addr_of!((*data).real_since_ns)),
                read_volatile(addr_of!((*data).real_offset_ns)),
                read_volatile(addr_of!((*data).real_rate)),
            )
        };
        fence(Ordering::Acquire);
        // SAFETY: as above.
        let after = unsafe { read_volatile(addr_of!((*data).sequence)) };
        if before == after && before & 1 == 0 {
            let delta = machine::counter().wrapping_sub(base);
            let ns = base_ns.wrapping_add(((u128::from(delta) * u128::from(mult)) >> (shift & 127)) as u64);
            let drift = (i128::from(ns.wrapping_sub(since) as i64) * i128::from(rate)) >> 48;
            return (ns, ns.wrapping_add_signed(offset.wrapping_add(drift as i64)));
        }
    }
}

/// clock_gettime(2).
///
/// # Safety
/// 1. `time` points to a writable timespec, as for the system call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_clock_gettime(clock: i32, time: *mut Timespec) -> i32 {
    let ns = match clock {
        CLOCK_REALTIME | CLOCK_REALTIME_COARSE => now().1,
        CLOCK_MONOTONIC | CLOCK_MONOTONIC_RAW | CLOCK_MONOTONIC_COARSE | CLOCK_BOOTTIME => now().0,
        _ => return machine::syscall2(machine::NR_CLOCK_GETTIME, clock as usize, time as usize) as i32,
    };
    // SAFETY: 1. by this function's own obligation.
    unsafe { time.write(Timespec { sec: (ns / NS_PER_S) as i64, sub: (ns % NS_PER_S) as i64 }) };
    0
}

/// gettimeofday(2); the time zone is always zero.
///
/// # Safety
/// 1. `time` is null or points to a writable timeval; 2. `zone` is null or points to two writable ints.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_gettimeofday(time: *mut Timespec, zone: *mut [i32; 2]) -> i32 {
    if !time.is_null() {
        let ns = now().1;
        // SAFETY: 1. by this function's own obligation.
        unsafe { time.write(Timespec { sec: (ns / NS_PER_S) as i64, sub: (ns % NS_PER_S / 1000) as i64 }) };
    }
    if !zone.is_null() {
        // SAFETY: 2. by this function's own obligation.
        unsafe { zone.write_volatile([0, 0]) };
    }
    0
}

/// clock_getres(2): the kernel knows.
#[unsafe(no_mangle)]
pub extern "C" fn __vdso_clock_getres(clock: i32, time: *mut Timespec) -> i32 {
    machine::syscall2(machine::NR_CLOCK_GETRES, clock as usize, time as usize) as i32
}

/// time(2).
///
/// # Safety
/// 1. `time` is null or points to a writable i64.
#[cfg(target_arch = "x86_64")]
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __vdso_time(time: *mut i64) -> i64 {
    let seconds = (now().1 / NS_PER_S) as i64;
    if !time.is_null() {
        // SAFETY: 1. by this function's own obligation.
        unsafe { time.write(seconds) };
    }
    seconds
}

// The return from a signal handler: no stack frame, exactly these instructions, which unwinders look for.
#[cfg(target_arch = "riscv64")]
core::arch::global_asm!(
    ".section .text.rt_sigreturn, \"ax\"",
    ".global __vdso_rt_sigreturn",
    ".type __vdso_rt_sigreturn, @function",
    "__vdso_rt_sigreturn:",
    "li a7, 139",
    "ecall",
    ".size __vdso_rt_sigreturn, . - __vdso_rt_sigreturn",
);

/// A bug in this code ends here; it contains nothing that panics.
#[cfg(target_os = "none")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
