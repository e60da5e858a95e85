//! Stack traces along frame pointers (`-Cforce-frame-pointers`).

use super::uaccess::peek;
use crate::layout;
use core::arch::asm;

/// A frame is never larger than a kernel stack.
const FRAME_BYTES_MAX: usize = 64 << 10;

/// Calls `each` with `pc` and then the return addresses from frame pointer `fp` outward, until it says
/// false or the chain ends. Frames must go upward, step by step; what is not mapped ends the walk, so any
/// `fp` will do.
pub fn walk(fp: usize, pc: usize, each: &mut dyn FnMut(usize) -> bool) {
    let mut frame = fp;
    let mut more = each(pc);
    while more && is_frame(frame) {
        let (Some(next), Some(caller)) = (peek(frame), peek(frame + 8)) else { return };
        if caller < layout::KERNEL_BASE && !in_vmalloc(caller) {
            return;
        }
        more = each(caller);
        if next <= frame || next - frame > FRAME_BYTES_MAX {
            return;
        }
        frame = next;
    }
}

fn is_frame(fp: usize) -> bool {
    fp >= layout::DIRECT_MAP_BASE && fp.is_multiple_of(8) && fp < usize::MAX - 16
}

/// Loaded modules run there.
fn in_vmalloc(addr: usize) -> bool {
    (layout::VMALLOC_BASE..layout::VMALLOC_BASE + layout::VMALLOC_SIZE).contains(&addr)
}

/// The frame pointer of the caller and an address inside it, to start [`walk`] from.
#[inline(always)]
pub fn here() -> (usize, usize) {
    let (fp, pc);
    // SAFETY: 1. reads two registers.
    unsafe {
        asm!("mov {}, rbp", "lea {}, [rip]", out(reg) fp, out(reg) pc, options(nomem, nostack, preserves_flags))
    };
    (fp, pc)
}
