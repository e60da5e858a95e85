//! The frame of a signal handler on the user's stack: Linux's `rt_sigframe` on riscv64.
//!
//! ```text
//!    0  siginfo                        128 bytes
//!  128  ucontext: flags, link          16
//!  144    uc_stack                     24
//!  168    uc_sigmask, padding          8 + 120, then 8 to align
//!  304    mcontext: pc, x1 to x31      256
//!  560      union: fpregs (f0-f31, fcsr) or q registers   528, whose last 16 are
//! 1076      extensions: reserved word, header (magic, bytes)
//! 1088  the vector extension's state after its header, then an end header
//! ```
//! Source: linux/arch/riscv/include/uapi/asm/{ucontext,sigcontext,ptrace}.h, kernel/signal.c.

use super::fpu::{self, Float, Vector};
use super::user::UserContext;
use crate::Fault;
use crate::sigframe::{AltStack, FrameRequest, ReadUser, Restored, WriteUser};
use alloc::vec::Vec;

/// `li a7, __NR_rt_sigreturn; ecall`
pub const TRAMPOLINE: &[u8] = &[0x93, 0x08, 0xb0, 0x08, 0x73, 0x00, 0x00, 0x00];

const UCONTEXT: usize = 128;
const MCONTEXT: usize = UCONTEXT + 176;
const FRAME_BYTES: usize = MCONTEXT + 8 * MCONTEXT_WORDS;
const HEADER_BYTES: usize = 8;
const VECTOR_MAGIC: u32 = 0x5346_5457;
/// vstart, vl, vtype, vcsr, vlenb, the address of the data.
const VECTOR_STATE_BYTES: usize = 48;

const _: () = assert!(FRAME_BYTES == 1088);

/// Words of the ucontext before its unused part: flags, link, stack (3), mask.
const HEAD_WORDS: usize = 6;
const HEAD_STACK: usize = 2;
const HEAD_MASK: usize = 5;
/// Words of the mcontext: registers, floating-point union.
const MCONTEXT_WORDS: usize = 98;
const FLOAT: usize = 32;
const FCSR: usize = FLOAT + 32;
/// Its upper half is the reserved word; the next word is the header of the first extension.
const RESERVED: usize = MCONTEXT_WORDS - 2;
const EXTENSION: usize = MCONTEXT_WORDS - 1;

fn bytes_of(words: &[u64]) -> &[u8] {
    // SAFETY: 1. the same memory; any bytes are a u8.
    unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

fn bytes_of_mut(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: 1. the same memory, borrowed mutably; any bytes are a u64.
    unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}

/// Pushes the frame and points the context at the handler.
pub fn setup_frame(context: &mut UserContext, request: &FrameRequest, write: WriteUser) -> Result<(), Fault> {
    let vector_bytes =
        fpu::with_current_vector(|v| HEADER_BYTES + VECTOR_STATE_BYTES + v.data.len()).unwrap_or(0);
    let top = request.stack_top.unwrap_or(context.sp());
    let sp = top.checked_sub(FRAME_BYTES + vector_bytes).ok_or(Fault)? & !15;
    let stack = &request.alt_stack;
    let head = [0, 0, stack.sp as u64, u64::from(stack.flags), stack.size as u64, request.blocked];
    let mut mcontext = [0u64; MCONTEXT_WORDS];
    for (to, from) in mcontext.iter_mut().zip(context.regs()) {
        *to = *from as u64;
    }
    if let Some(float) = fpu::current_float() {
        mcontext[FLOAT..FCSR].copy_from_slice(&float.f);
        mcontext[FCSR] = u64::from(float.fcsr);
    }
    if vector_bytes != 0 {
        mcontext[EXTENSION] = (vector_bytes as u64) << 32 | u64::from(VECTOR_MAGIC);
        fpu::with_current_vector(|vector| write_vector(sp + FRAME_BYTES, vector, write)).unwrap_or(Ok(()))?;
    }
    write(sp, request.info)?;
    write(sp + UCONTEXT, bytes_of(&head))?;
    write(sp + MCONTEXT, bytes_of(&mcontext))?;
    context.call_handler(request.handler, sp, request.restorer, [request.signal as usize, sp, sp + UCONTEXT]);
    Ok(())
}

/// The state after its header, the registers, the end header.
fn write_vector(at: usize, vector: &Vector, write: WriteUser) -> Result<(), Fault> {
    let data = at + VECTOR_STATE_BYTES;
    let mut state = [0u8; VECTOR_STATE_BYTES];
    for (bytes, value) in state.chunks_exact_mut(8).zip(vector.csrs.iter().copied().chain([data])) {
        bytes.copy_from_slice(&value.to_le_bytes());
    }
    write(at, &state)?;
    write(data, &vector.data)?;
    write(data + vector.data.len(), &[0; HEADER_BYTES])
}

/// Takes the frame at the stack pointer back (rt_sigreturn). Every register is the user's to choose.
pub fn restore_frame(context: &mut UserContext, read: ReadUser) -> Result<Restored, Fault> {
    let sp = context.sp();
    if sp & 15 != 0 {
        return Err(Fault);
    }
    let mut head = [0u64; HEAD_WORDS];
    read(sp.wrapping_add(UCONTEXT), bytes_of_mut(&mut head))?;
    let mut mcontext = [0u64; MCONTEXT_WORDS];
    read(sp.wrapping_add(MCONTEXT), bytes_of_mut(&mut mcontext))?;
    if mcontext[RESERVED] >> 32 != 0 {
        return Err(Fault);
    }
    restore_vector(sp, mcontext[EXTENSION] as usize, read)?;
    restore_float(&mcontext);
    for (to, from) in context.regs_mut().iter_mut().zip(&mcontext) {
        *to = *from as usize;
    }
    let [sp, flags, size] = [0, 1, 2].map(|n| head[HEAD_STACK + n]);
    let alt_stack = AltStack { sp: sp as usize, flags: flags as u32, size: size as usize };
    Ok(Restored { blocked: head[HEAD_MASK], alt_stack })
}

fn restore_float(mcontext: &[u64; MCONTEXT_WORDS]) {
    let used = mcontext[FLOAT..=FCSR].iter().fold(0, |any, word| any | word) != 0;
    if !used {
        return fpu::set_current_float(None);
    }
    let mut float = Float { f: [0; 32], fcsr: mcontext[FCSR] as u32 };
    float.f.copy_from_slice(&mcontext[FLOAT..FCSR]);
    fpu::set_current_float(Some(&float));
}

/// The vector state that a header announces; an unknown header is refused.
fn restore_vector(sp: usize, header: usize, read: ReadUser) -> Result<(), Fault> {
    if header == 0 {
        return Ok(());
    }
    let restored = fpu::with_current_vector(|vector| {
        let bytes = HEADER_BYTES + VECTOR_STATE_BYTES + vector.data.len();
        if header as u32 != VECTOR_MAGIC || header >> 32 != bytes {
            return Err(Fault);
        }
        let mut state = [0u8; VECTOR_STATE_BYTES];
        read(sp + FRAME_BYTES, &mut state)?;
        let mut values =
            state.chunks_exact(8).map(|b| b.iter().rev().fold(0, |n, &b| n << 8 | usize::from(b)));
        // vlenb is the machine's, whatever the frame says.
        for csr in &mut vector.csrs[..4] {
            *csr = values.next().unwrap_or(0);
        }
        read(values.nth(1).unwrap_or(0), &mut vector.data)
    });
    restored.unwrap_or(Err(Fault))
}

/// `struct __riscv_d_ext_state` of the current thread (NT_PRFPREG).
pub fn float_regs() -> Vec<u8> {
    let float = fpu::current_float().unwrap_or(Float { f: [0; 32], fcsr: 0 });
    let words = float.f.iter().copied().chain([u64::from(float.fcsr)]);
    words.flat_map(u64::to_le_bytes).collect()
}

/// Takes what a debugger has made of [`float_regs`]; what is missing stays.
pub fn set_float_regs(bytes: &[u8]) {
    let mut all = float_regs();
    let len = bytes.len().min(all.len());
    all[..len].copy_from_slice(&bytes[..len]);
    let mut float = Float { f: [0; 32], fcsr: 0 };
    for (at, chunk) in all.chunks_exact(8).enumerate() {
        let word = u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|n| chunk[n]));
        match float.f.get_mut(at) {
            Some(reg) => *reg = word,
            None => float.fcsr = word as u32,
        }
    }
    fpu::set_current_float(Some(&float));
}

/// There is no such set here.
pub fn extended_regs() -> Vec<u8> {
    Vec::new()
}

pub fn set_extended_regs(_bytes: &[u8]) {}
