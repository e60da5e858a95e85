//! Linux's `rt_sigframe` of x86-64 (arch/x86/include/uapi/asm/{sigcontext,ucontext}.h, sigframe.h).
//!
//! ```text
//! word  0  pretcode: where the handler returns to
//!       1  uc_flags, 2 uc_link, 3..6 uc_stack
//!       6  sigcontext: r8..r15 rdi rsi rbp rbx rdx rax rcx rsp rip eflags, segments, err, trapno, oldmask,
//!          cr2, fpstate, 8 reserved words
//!      38  uc_sigmask
//!      39  siginfo, 16 words
//! above, on a boundary of 64 bytes: the XSAVE area, marked in its software-reserved bytes
//! ```

use super::fpu::{self, AREA_BYTES, HEADER_BYTES, LEGACY_BYTES};
use super::reg::{FLAG_DF, FLAG_RF, FLAG_TF};
use super::user::UserContext;
use crate::Fault;
use crate::sigframe::{AltStack, FrameRequest, ReadUser, Restored, WriteUser};
use alloc::vec::Vec;

/// `mov eax, 15 (rt_sigreturn); syscall`
pub const TRAMPOLINE: &[u8] = &[0xb8, 0x0f, 0x00, 0x00, 0x00, 0x0f, 0x05];

const WORDS: usize = 55;
const UC_WORDS: usize = 39;
const CONTEXT_WORD: usize = 6;
const SEGMENTS_WORD: usize = 24;
const FPSTATE_WORD: usize = 29;
const MASK_WORD: usize = 38;
const INFO_WORD: usize = 39;

const UC_FP_XSTATE: u64 = 1;
const UC_SIGCONTEXT_SS: u64 = 2;
const UC_STRICT_RESTORE_SS: u64 = 4;

/// Below the stack pointer a function may keep data without moving it.
const RED_ZONE_BYTES: usize = 128;

/// In the FXSAVE area, for software: magic, whole size, features, size without the closing magic.
const SOFTWARE_AT: usize = 464;
const MAGIC1: u32 = 0x4650_5853;
const MAGIC2: u32 = 0x4650_5845;
const MAGIC2_BYTES: usize = 4;

/// Pushes a frame and points the context at the handler.
pub fn setup_frame(context: &mut UserContext, request: &FrameRequest, write: WriteUser) -> Result<(), Fault> {
    let top = request.stack_top.unwrap_or(context.sp().wrapping_sub(RED_ZONE_BYTES));
    let fpstate = push_fpu(top, write)?;
    // As after a call: 8 below a boundary of 16.
    let sp = (fpstate.wrapping_sub(WORDS * 8) & !15).wrapping_sub(8);
    let mut frame = [0; WORDS];
    frame[0] = request.restorer as u64;
    frame[1] = UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS | if fpu::features() != 0 { UC_FP_XSTATE } else { 0 };
    frame[3] = request.alt_stack.sp as u64;
    frame[4] = request.alt_stack.flags.into();
    frame[5] = request.alt_stack.size as u64;
    save_context(context, &mut frame);
    frame[SEGMENTS_WORD + 3] = request.blocked;
    frame[FPSTATE_WORD] = fpstate as u64;
    frame[MASK_WORD] = request.blocked;
    for (word, bytes) in frame[INFO_WORD..].iter_mut().zip(request.info.chunks_exact(8)) {
        let mut buffer = [0; 8];
        buffer.copy_from_slice(bytes);
        *word = u64::from_le_bytes(buffer);
    }
    write(sp, bytes_of(&frame))?;
    let r = &mut context.regs;
    r.rdi = request.signal.into();
    r.rsi = (sp + INFO_WORD * 8) as u64;
    r.rdx = (sp + 8) as u64;
    r.rax = 0;
    r.rsp = sp as u64;
    r.rflags &= !(FLAG_DF | FLAG_RF | FLAG_TF);
    // A handler expects nothing in rcx and r11: the fast way out will do.
    context.slow = 0;
    context.set_pc(request.handler);
    Ok(())
}

fn bytes_of(words: &[u64]) -> &[u8] {
    // SAFETY: 1. the same memory; any bytes are a u8.
    unsafe { core::slice::from_raw_parts(words.as_ptr().cast(), size_of_val(words)) }
}

fn bytes_of_mut(words: &mut [u64]) -> &mut [u8] {
    // SAFETY: 1. the same memory, borrowed mutably; any bytes are a u64.
    unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), size_of_val(words)) }
}

fn save_context(context: &UserContext, frame: &mut [u64; WORDS]) {
    let r = &context.regs;
    let words = [
        r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15, r.rdi, r.rsi, r.rbp, r.rbx, r.rdx, r.rax,
        r.rcx, r.rsp, r.rip, r.rflags,
    ];
    frame[CONTEXT_WORD..CONTEXT_WORD + words.len()].copy_from_slice(&words);
    frame[SEGMENTS_WORD] = r.cs | r.ss << 48;
    frame[SEGMENTS_WORD + 1] = context.error_code;
    frame[SEGMENTS_WORD + 2] = context.trap_number.into();
    frame[SEGMENTS_WORD + 4] = context.fault_addr;
}

/// Bytes of the frame of a thread that has not used the FPU, without the closing magic.
const INITIAL_BYTES: usize = LEGACY_BYTES + HEADER_BYTES;

/// That frame, but for the features. Filling it anew was a tenth of the work of a signal.
static INITIAL: [u8; INITIAL_BYTES + MAGIC2_BYTES] = {
    let fields = [
        (0, 0x37f),
        (24, 0x1f80),
        (SOFTWARE_AT, MAGIC1),
        (SOFTWARE_AT + 4, (INITIAL_BYTES + MAGIC2_BYTES) as u32),
        (SOFTWARE_AT + 16, INITIAL_BYTES as u32),
        (INITIAL_BYTES, MAGIC2),
    ];
    let mut area = [0; INITIAL_BYTES + MAGIC2_BYTES];
    let mut field = 0;
    while field < fields.len() {
        let (at, value) = fields[field];
        let mut byte = 0;
        while byte < 4 {
            area[at + byte] = value.to_le_bytes()[byte];
            byte += 1;
        }
        field += 1;
    }
    area
};

/// Writes the FPU state below `top`; returns its address.
fn push_fpu(top: usize, write: WriteUser) -> Result<usize, Fault> {
    if fpu::features() != 0 && fpu::is_initial() {
        let at = top.wrapping_sub(INITIAL.len()) & !63;
        write(at, &INITIAL)?;
        write(at + SOFTWARE_AT + 8, &fpu::features().to_le_bytes())?;
        return Ok(at);
    }
    let mut area = [0; AREA_BYTES + MAGIC2_BYTES];
    let Some(body) = area.first_chunk_mut::<AREA_BYTES>() else { return Err(Fault) };
    let mut len = fpu::export(body);
    if fpu::features() != 0 && len > LEGACY_BYTES {
        let whole = len + MAGIC2_BYTES;
        let features = fpu::features();
        let fields = [MAGIC1, whole as u32, features as u32, (features >> 32) as u32, len as u32];
        for (chunk, field) in area[SOFTWARE_AT..].chunks_exact_mut(4).zip(fields) {
            chunk.copy_from_slice(&field.to_le_bytes());
        }
        area[len..whole].copy_from_slice(&MAGIC2.to_le_bytes());
        len = whole;
    }
    let at = top.wrapping_sub(len) & !63;
    write(at, &area[..len])?;
    Ok(at)
}

/// Takes back what [`setup_frame`] (and the handler) left on the stack.
pub fn restore_frame(context: &mut UserContext, read: ReadUser) -> Result<Restored, Fault> {
    let mut words = [0; UC_WORDS];
    // The handler's `ret` has popped the first word.
    read(context.sp().wrapping_sub(8), bytes_of_mut(&mut words))?;
    let word = |i: usize| words[i];
    pop_fpu(word(FPSTATE_WORD) as usize, read)?;
    load_context(context, |i| word(CONTEXT_WORD + i));
    let alt_stack = AltStack { sp: word(3) as usize, flags: word(4) as u32, size: word(5) as usize };
    Ok(Restored { blocked: word(MASK_WORD), alt_stack })
}

fn load_context(context: &mut UserContext, word: impl Fn(usize) -> u64) {
    let r = &mut context.regs;
    [r.r8, r.r9, r.r10, r.r11, r.r12, r.r13, r.r14, r.r15] = core::array::from_fn(&word);
    [r.rdi, r.rsi, r.rbp, r.rbx, r.rdx, r.rax, r.rcx, r.rsp, r.rip, r.rflags] =
        core::array::from_fn(|i| word(8 + i));
    r.orig_rax = u64::MAX; // no system call to restart
    context.sanitise();
}

fn pop_fpu(at: usize, read: ReadUser) -> Result<(), Fault> {
    if at == 0 {
        fpu::import_initial();
        return Ok(());
    }
    // What a thread without FPU registers was given needs no more than a look at the header.
    let mut end = [0u64; (INITIAL_BYTES + 8 - SOFTWARE_AT) / 8];
    let seen = &mut bytes_of_mut(&mut end)[..INITIAL_BYTES + MAGIC2_BYTES - SOFTWARE_AT];
    let readable = read(at.wrapping_add(SOFTWARE_AT), seen).is_ok();
    let features_at = (LEGACY_BYTES - SOFTWARE_AT) / 8;
    let closing_at = (INITIAL_BYTES - SOFTWARE_AT) / 8;
    let whole = (INITIAL_BYTES + MAGIC2_BYTES) as u64;
    if readable
        && end[0] == whole << 32 | u64::from(MAGIC1)
        && end[2] as u32 == INITIAL_BYTES as u32
        && end[features_at] == 0
        && end[closing_at] == u64::from(MAGIC2)
    {
        fpu::import_initial();
        return Ok(());
    }
    pop_used_fpu(at, read)
}

/// Registers that were used, or an FXSAVE area that a program made itself.
fn pop_used_fpu(at: usize, read: ReadUser) -> Result<(), Fault> {
    let mut area = [0; AREA_BYTES];
    read(at, &mut area[..LEGACY_BYTES])?;
    let field = |area: &[u8], at| super::acpi::number(area, at, 4).unwrap_or(0) as usize;
    let len = field(&area, SOFTWARE_AT + 16);
    let marked = field(&area, SOFTWARE_AT) == MAGIC1 as usize
        && field(&area, SOFTWARE_AT + 4) == len + MAGIC2_BYTES
        && (LEGACY_BYTES + HEADER_BYTES..=fpu::bytes()).contains(&len);
    if !marked {
        fpu::import(&area, false);
        return Ok(());
    }
    let mut magic2 = [0; MAGIC2_BYTES];
    read(at + LEGACY_BYTES, &mut area[LEGACY_BYTES..len])?;
    read(at + len, &mut magic2)?;
    let extended = u32::from_le_bytes(magic2) == MAGIC2;
    let nothing = area[LEGACY_BYTES..LEGACY_BYTES + 8].iter().all(|b| *b == 0);
    if extended && nothing {
        fpu::import_initial();
    } else {
        fpu::import(&area, extended);
    }
    Ok(())
}

/// `struct user_fpregs_struct` of the current thread (NT_PRFPREG).
pub fn float_regs() -> Vec<u8> {
    let mut all = extended_regs();
    all.truncate(fpu::LEGACY_BYTES);
    all
}

/// Takes what a debugger has made of [`float_regs`]; what is missing stays.
pub fn set_float_regs(bytes: &[u8]) {
    set_extended_regs(&bytes[..bytes.len().min(fpu::LEGACY_BYTES)]);
}

/// The XSAVE area of the current thread (NT_X86_XSTATE).
pub fn extended_regs() -> Vec<u8> {
    let mut area = [0; fpu::AREA_BYTES];
    let len = fpu::export(&mut area);
    area[..len].to_vec()
}

/// Takes what a debugger has made of [`extended_regs`]; what is missing stays.
pub fn set_extended_regs(bytes: &[u8]) {
    let mut area = [0; fpu::AREA_BYTES];
    let have = fpu::export(&mut area);
    let len = bytes.len().min(area.len());
    area[..len].copy_from_slice(&bytes[..len]);
    fpu::import(&area, have.max(len) > fpu::LEGACY_BYTES);
}
