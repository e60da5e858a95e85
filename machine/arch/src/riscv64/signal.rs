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

/// `li a7, __NR_rt_sigreturn; ecall`
pub const TRAMPOLINE: &[u8] = &[0x93, 0x08, 0xb0, 0x08, 0x73, 0x00, 0x00, 0x00];

const UCONTEXT: usize = 128;
const UC_STACK: usize = UCONTEXT + 16;
const UC_SIGMASK: usize = UCONTEXT + 40;
const MCONTEXT: usize = UCONTEXT + 176;
const FPREGS: usize = MCONTEXT + 256;
/// The header of the first extension; the word before it is reserved and zero.
const EXTENSIONS: usize = FPREGS + 520;
const FRAME_BYTES: usize = FPREGS + 528;
const HEADER_BYTES: usize = 8;
const VECTOR_MAGIC: u32 = 0x5346_5457;
/// vstart, vl, vtype, vcsr, vlenb, the address of the data.
const VECTOR_STATE_BYTES: usize = 48;

const _: () = assert!(FRAME_BYTES == 1088 && EXTENSIONS + HEADER_BYTES == FRAME_BYTES);

/// Pushes the frame and points the context at the handler.
pub fn setup_frame(context: &mut UserContext, request: &FrameRequest, write: WriteUser) -> Result<(), Fault> {
    let vector_bytes =
        fpu::with_current_vector(|v| HEADER_BYTES + VECTOR_STATE_BYTES + v.data.len()).unwrap_or(0);
    let top = request.stack_top.unwrap_or(context.sp());
    let sp = top.checked_sub(FRAME_BYTES + vector_bytes).ok_or(Fault)? & !15;
    let mut frame = [0u8; FRAME_BYTES];
    frame[..128].copy_from_slice(request.info);
    put(&mut frame, UC_STACK, request.alt_stack.sp);
    put(&mut frame, UC_STACK + 8, request.alt_stack.flags as usize);
    put(&mut frame, UC_STACK + 16, request.alt_stack.size);
    put(&mut frame, UC_SIGMASK, request.blocked as usize);
    for (n, reg) in context.regs().iter().enumerate() {
        put(&mut frame, MCONTEXT + 8 * n, *reg);
    }
    if let Some(float) = fpu::current_float() {
        for (n, reg) in float.f.iter().enumerate() {
            put(&mut frame, FPREGS + 8 * n, *reg as usize);
        }
        put(&mut frame, FPREGS + 256, float.fcsr as usize);
    }
    if vector_bytes != 0 {
        put(&mut frame, EXTENSIONS, vector_bytes << 32 | VECTOR_MAGIC as usize);
        fpu::with_current_vector(|vector| write_vector(sp + FRAME_BYTES, vector, write)).unwrap_or(Ok(()))?;
    }
    write(sp, &frame)?;
    context.call_handler(request.handler, sp, request.restorer, [request.signal as usize, sp, sp + UCONTEXT]);
    Ok(())
}

fn put(frame: &mut [u8; FRAME_BYTES], at: usize, value: usize) {
    frame[at..at + 8].copy_from_slice(&value.to_le_bytes());
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
    let mut frame = [0u8; FRAME_BYTES];
    read(sp, &mut frame)?;
    if get(&frame, EXTENSIONS - 8) >> 32 != 0 {
        return Err(Fault); // the reserved word
    }
    restore_vector(sp, get(&frame, EXTENSIONS), read)?;
    let mut float = Float { f: [0; 32], fcsr: get(&frame, FPREGS + 256) as u32 };
    for (n, reg) in float.f.iter_mut().enumerate() {
        *reg = get(&frame, FPREGS + 8 * n) as u64;
    }
    let used = float.fcsr != 0 || float.f.iter().any(|&reg| reg != 0);
    fpu::set_current_float(used.then_some(&float));
    for (n, reg) in context.regs_mut().iter_mut().enumerate() {
        *reg = get(&frame, MCONTEXT + 8 * n);
    }
    let alt_stack = AltStack {
        sp: get(&frame, UC_STACK),
        flags: get(&frame, UC_STACK + 8) as u32,
        size: get(&frame, UC_STACK + 16),
    };
    Ok(Restored { blocked: get(&frame, UC_SIGMASK) as u64, alt_stack })
}

fn get(frame: &[u8; FRAME_BYTES], at: usize) -> usize {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&frame[at..at + 8]);
    usize::from_le_bytes(bytes)
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
