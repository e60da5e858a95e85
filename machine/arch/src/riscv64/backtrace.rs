//! Walking the kernel's frame pointers.
//!
//! A function's frame ends (upwards) at `fp`; the two words below it are its return address and the
//! caller's `fp`. Trap frames are laid out so that they look the same (entry.S).

use super::uaccess::probe;

/// No kernel stack is larger: a frame farther up belongs to another one.
const STACK_BYTES_MAX: usize = 64 << 10;
/// A bound for damaged stacks.
const FRAMES_MAX: usize = 256;

/// Calls `visit` with `pc` and the return address of each frame from `fp` up, until it says `false` or the
/// chain ends. Damaged chains end early; nothing faults.
pub fn walk(fp: usize, pc: usize, visit: &mut dyn FnMut(usize) -> bool) {
    if !visit(pc) {
        return;
    }
    let mut frame = fp;
    for _ in 0..FRAMES_MAX {
        let (Some(ra), Some(next)) = (probe(frame.wrapping_sub(8)), probe(frame.wrapping_sub(16))) else {
            return;
        };
        if ra == 0 || !visit(ra) {
            return;
        }
        if next <= frame || next - fp > STACK_BYTES_MAX || next & 15 != 0 {
            return;
        }
        frame = next;
    }
}

/// The caller's frame pointer and a program counter in it.
#[inline(always)]
pub fn here() -> (usize, usize) {
    let (fp, pc): (usize, usize);
    // SAFETY: 1. reads two registers.
    unsafe {
        core::arch::asm!("mv {}, s0", "auipc {}, 0", out(reg) fp, out(reg) pc, options(nomem, nostack))
    };
    (fp, pc)
}
