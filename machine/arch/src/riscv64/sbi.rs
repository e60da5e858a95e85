//! Calls into the firmware. Source: RISC-V SBI specification 2.0.

use core::arch::asm;

const BASE: usize = 0x10;
pub const TIME: usize = 0x5449_4d45;
pub const IPI: usize = 0x73_5049;
pub const RFENCE: usize = 0x5246_4e43;
pub const HSM: usize = 0x48_534d;
pub const SRST: usize = 0x5352_5354;
pub const DBCN: usize = 0x4442_434e;

/// The firmware's error number, negative.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Error(pub isize);

/// Calls `function` of `extension`.
fn call(extension: usize, function: usize, args: [usize; 5]) -> Result<usize, Error> {
    let (error, value): (isize, usize);
    // SAFETY: 1. the firmware keeps all registers but a0 and a1 (SBI chapter 3); 2. the functions used
    // here touch no memory that Rust code does not give them.
    unsafe {
        asm!("ecall",
            inlateout("a0") args[0] => error, inlateout("a1") args[1] => value,
            in("a2") args[2], in("a3") args[3], in("a4") args[4],
            in("a6") function, in("a7") extension, options(nostack));
    }
    if error == 0 { Ok(value) } else { Err(Error(error)) }
}

/// mvendorid, marchid, mimpid.
pub fn machine_ids() -> [usize; 3] {
    [4, 5, 6].map(|function| call(BASE, function, [0; 5]).unwrap_or(0))
}

/// Next timer interrupt of this hart at `ticks` of the time counter; clears the pending one.
pub fn set_timer(ticks: u64) {
    let _ = call(TIME, 0, [ticks as usize, 0, 0, 0, 0]);
}

/// A software interrupt to the harts `base + i` for each bit `i` of `mask`.
pub fn send_ipi(mask: usize, base: usize) {
    let _ = call(IPI, 0, [mask, base, 0, 0, 0]);
}

/// SFENCE.VMA on other harts, over when it returns. `asid`: `None` for all address spaces and global
/// entries. A `len` of `usize::MAX` means everything.
pub fn remote_sfence(mask: usize, base: usize, asid: Option<u16>, start: usize, len: usize) {
    let _ = match asid {
        Some(asid) => call(RFENCE, 2, [mask, base, start, len, usize::from(asid)]),
        None => call(RFENCE, 1, [mask, base, start, len, 0]),
    };
}

/// Makes the harts of a mask see instructions that were stored before (FENCE.I).
pub fn remote_fence_i(mask: usize, base: usize) {
    let _ = call(RFENCE, 0, [mask, base, 0, 0, 0]);
}

/// Starts a hart at a physical address with paging off, a0 its id and a1 `opaque`.
pub fn hart_start(hart: usize, address: usize, opaque: usize) -> Result<(), Error> {
    call(HSM, 0, [hart, address, opaque, 0, 0]).map(|_| ())
}

/// Shuts down (0) or reboots cold (1); returns only when the firmware cannot.
pub fn system_reset(kind: usize) {
    let _ = call(SRST, 0, [kind, 0, 0, 0, 0]);
}

/// One byte to the firmware's console.
pub fn putchar(byte: u8) {
    if call(DBCN, 2, [usize::from(byte), 0, 0, 0, 0]).is_err() {
        // The legacy extension: its number is the function, the error comes back alone.
        let _ = call(1, 0, [usize::from(byte), 0, 0, 0, 0]);
    }
}
