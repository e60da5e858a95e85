//! Sets of small numbers as Linux's files show them.

use core::fmt::{Result, Write};

/// A set of the numbers below `bits` (at most 64) in hexadecimal, 32 to a group: Linux's `%*pb`.
pub fn hex(out: &mut dyn Write, set: u64, bits: usize) -> Result {
    let width = |bits: usize| bits.div_ceil(4);
    if bits > 32 {
        write!(out, "{:0width$x},{:08x}", set >> 32, set as u32, width = width(bits - 32))
    } else {
        write!(out, "{set:0width$x}", width = width(bits))
    }
}

/// A set as ranges, `0-3,5`: Linux's `%*pbl`.
pub fn ranges(out: &mut dyn Write, set: u64) -> Result {
    let (mut at, mut separator) = (0, "");
    while at < 64 && set >> at != 0 {
        let first = at + (set >> at).trailing_zeros();
        let last = first + (set >> first).trailing_ones() - 1;
        write!(out, "{separator}{first}")?;
        if last > first {
            write!(out, "-{last}")?;
        }
        (at, separator) = (last + 1, ",");
    }
    Ok(())
}
