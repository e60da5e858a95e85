//! Floating-point and vector registers of user threads.
//!
//! **Idea.** The kernel uses neither unit, so their registers belong to the running user thread, and the
//! hardware tracks in `sstatus` what it does with them: Off, Clean (as in memory), Dirty. A thread starts
//! with both Off; its first instruction that needs one traps and turns it on. A switch saves what is
//! Dirty. It loads a thread's registers when the thread used them in its last time slice; else the unit
//! is left Off, and the thread pays with a trap if it comes back to it. Threads that do not compute with
//! it pay one load of a byte in a switch.

use super::cpu::{load, store};
use super::{csr, irq, platform, trap};
use alloc::boxed::Box;
use core::arch::asm;

/// The registers of both units of a thread while they are not in the processor.
#[derive(Debug)]
pub struct State {
    float: Float,
    float_use: Use,
    vector: Option<Box<Vector>>,
    vector_use: Use,
}

/// Whether the copy in memory means something, and whether the unit was on in the last time slice.
#[derive(Clone, Copy, Default, Debug)]
struct Use {
    valid: bool,
    recent: bool,
}

/// f0 to f31 and fcsr: the beginning of Linux's `__riscv_d_ext_state`.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Float {
    pub f: [u64; 32],
    pub fcsr: u32,
}

impl Float {
    const ZERO: Float = Float { f: [0; 32], fcsr: 0 };
}

/// The beginning of Linux's `__riscv_v_ext_state`, and the bytes of v0 to v31.
#[derive(Clone, Debug)]
pub struct Vector {
    /// vstart, vl, vtype, vcsr, vlenb.
    pub csrs: [usize; 5],
    pub data: Box<[u8]>,
}

/// What [`turn_on`] did.
pub enum TurnOn {
    /// A unit was off and is on now: execute the instruction again.
    Done,
    /// Both were on already: the instruction is illegal indeed.
    IsOn,
    OutOfMemory,
}

impl State {
    pub const fn new() -> State {
        let unused = Use { valid: false, recent: false };
        State { float: Float::ZERO, float_use: unused, vector: None, vector_use: unused }
    }
}

/// Turns on the first unit that is off, for the current thread.
pub fn turn_on() -> TurnOn {
    let Some(state) = trap::task_state() else { return TurnOn::IsOn };
    let state = &mut state.fpu;
    let status = csr::read!("sstatus");
    if status & csr::SSTATUS_FS == 0 {
        let flags = irq::disable();
        state.load_float();
        irq::restore(flags);
        return TurnOn::Done;
    }
    if status & csr::SSTATUS_VS != 0 || !platform::has_vector() {
        return TurnOn::IsOn;
    }
    if state.vector.is_none() {
        let Some(vector) = Vector::alloc() else { return TurnOn::OutOfMemory };
        state.vector = Some(vector);
    }
    let flags = irq::disable();
    state.load_vector();
    irq::restore(flags);
    TurnOn::Done
}

impl State {
    /// Turns the floating-point unit on with this state's registers. Interrupts are off.
    fn load_float(&mut self) {
        if !self.float_use.valid {
            self.float = Float::ZERO;
        }
        store!("sb", fpu_on, 1u8);
        // SAFETY: 1. the unit is on when its registers are loaded, and they are the current thread's;
        // 2. the loads made it Dirty: clearing the lower bit makes that Clean.
        unsafe {
            csr::set!("sstatus", csr::SSTATUS_FS_CLEAN);
            load_float_registers(&self.float);
            csr::clear!("sstatus", csr::SSTATUS_FS & !csr::SSTATUS_FS_CLEAN);
        }
        self.float_use.recent = true;
    }

    /// As [`State::load_float`], for the vector unit.
    fn load_vector(&mut self) {
        let Some(vector) = &mut self.vector else { return };
        if !self.vector_use.valid {
            vector.csrs = [0, 0, VTYPE_ILL, 0, vector.csrs[4]];
            vector.data.fill(0);
        }
        store!("sb", fpu_on, 1u8);
        // SAFETY: 1. as in `load_float`; 2. `data` has 32 registers of `vlenb` bytes.
        unsafe {
            csr::set!("sstatus", csr::SSTATUS_VS_CLEAN);
            load_vector_registers(vector);
            csr::clear!("sstatus", csr::SSTATUS_VS & !csr::SSTATUS_VS_CLEAN);
        }
        self.vector_use.recent = true;
    }

    /// Makes the memory current; the units stay on. Interrupts are off, the registers are this state's.
    fn save(&mut self, status: usize) {
        if status & csr::SSTATUS_FS == csr::SSTATUS_FS {
            // SAFETY: 1. the unit is on.
            unsafe {
                save_float_registers(&mut self.float);
                csr::clear!("sstatus", csr::SSTATUS_FS & !csr::SSTATUS_FS_CLEAN);
            }
            self.float_use.valid = true;
        }
        if status & csr::SSTATUS_VS == csr::SSTATUS_VS
            && let Some(vector) = &mut self.vector
        {
            // SAFETY: 1. the unit is on; 2. `data` has room for all registers.
            unsafe {
                save_vector_registers(vector);
                csr::clear!("sstatus", csr::SSTATUS_VS & !csr::SSTATUS_VS_CLEAN);
            }
            self.vector_use.valid = true;
        }
    }
}

/// The switch leaves a thread: saves what is dirty. Interrupts are off and `fpu_on` is set.
#[cold]
pub fn leave(state: &mut State) {
    let status = csr::read!("sstatus");
    state.float_use.recent = status & csr::SSTATUS_FS == csr::SSTATUS_FS;
    state.vector_use.recent = status & csr::SSTATUS_VS == csr::SSTATUS_VS;
    state.save(status);
    off();
}

/// The switch arrives at a thread: both units are off. Interrupts are off.
#[inline]
pub fn arrive(state: &mut State) {
    if state.float_use.recent | state.vector_use.recent {
        arrive_slow(state);
    }
}

#[cold]
fn arrive_slow(state: &mut State) {
    if state.float_use.recent {
        state.load_float();
    }
    if state.vector_use.recent {
        state.load_vector();
    }
}

fn off() {
    // SAFETY: 1. the kernel uses neither unit; what the registers hold is saved or forgotten.
    unsafe { csr::clear!("sstatus", csr::SSTATUS_FS | csr::SSTATUS_VS) };
    store!("sb", fpu_on, 0u8);
}

/// Runs `f` on the current thread's state with its memory up to date. Afterwards the registers are those
/// in memory again.
fn with_current<R>(f: impl FnOnce(&mut State) -> R) -> Option<R> {
    let state = &mut trap::task_state()?.fpu;
    let flags = irq::disable();
    if load!("lbu", fpu_on, u8) != 0 {
        leave(state);
    }
    let result = f(state);
    arrive(state);
    irq::restore(flags);
    Some(result)
}

/// Copies the current thread's registers to a new thread's state.
pub fn copy_current(to: &mut State) {
    // The memory is got first: the copy runs with interrupts off.
    let needs_vector = trap::task_state().is_some_and(|state| state.fpu.vector.is_some());
    let room = if needs_vector { Vector::alloc() } else { None };
    let _ = with_current(|from| {
        (to.float, to.float_use) = (from.float, from.float_use);
        if let (Some(from_vector), Some(mut room)) = (&from.vector, room) {
            room.csrs = from_vector.csrs;
            room.data.copy_from_slice(&from_vector.data);
            (to.vector, to.vector_use) = (Some(room), from.vector_use);
        }
    });
}

/// Forgets the current thread's registers.
pub fn reset_current() {
    let Some(state) = trap::task_state() else { return };
    let flags = irq::disable();
    if load!("lbu", fpu_on, u8) != 0 {
        off();
    }
    state.fpu.float_use = Use::default();
    state.fpu.vector_use = Use::default();
    irq::restore(flags);
}

/// The current thread's floating-point registers; `None`: it has never used them, they are zero.
pub fn current_float() -> Option<Float> {
    if load!("lbu", fpu_on, u8) == 0 && !trap::task_state()?.fpu.float_use.valid {
        return None;
    }
    with_current(|state| state.float_use.valid.then_some(state.float)).flatten()
}

/// Sets the current thread's floating-point registers; `None`: all zero. They are loaded now if the unit
/// is on, else when it is used.
pub fn set_current_float(float: Option<&Float>) {
    if float.is_none() && load!("lbu", fpu_on, u8) == 0 {
        // The common case: a thread that does not compute.
        if let Some(state) = trap::task_state() {
            state.fpu.float_use = Use::default();
        }
        return;
    }
    let _ = with_current(|state| match float {
        Some(float) => {
            state.float = *float;
            state.float_use.valid = true;
        }
        None => state.float_use = Use::default(),
    });
}

/// Runs `f` on the current thread's vector state, if it has ever used the unit.
pub fn with_current_vector<R>(f: impl FnOnce(&mut Vector) -> R) -> Option<R> {
    // The copy to or from user memory may fault and sleep: interrupts stay on, and nobody else touches
    // the memory of the state while the unit is off.
    let state = &mut trap::task_state()?.fpu;
    if !state.vector_use.valid && csr::read!("sstatus") & csr::SSTATUS_VS == 0 {
        return None;
    }
    let flags = irq::disable();
    if load!("lbu", fpu_on, u8) != 0 {
        leave(state);
    }
    // Not loaded by a switch meanwhile: the next use traps.
    state.vector_use = Use { valid: true, recent: false };
    irq::restore(flags);
    state.vector.as_deref_mut().map(f)
}

const VTYPE_ILL: usize = 1 << 63;

impl Vector {
    /// Room for the registers of this machine's vector unit.
    fn alloc() -> Option<Box<Vector>> {
        let vlenb = platform::vector_register_bytes();
        let mut data = alloc::vec::Vec::new();
        data.try_reserve_exact(32 * vlenb).ok()?;
        data.resize(32 * vlenb, 0);
        Some(Box::new(Vector { csrs: [0, 0, VTYPE_ILL, 0, vlenb], data: data.into_boxed_slice() }))
    }
}

/// # Safety
/// 1. The floating-point unit is on.
unsafe fn save_float_registers(to: &mut Float) {
    // SAFETY: 1. the caller's obligation; 2. `f` has room for 32 registers.
    unsafe {
        asm!(
            "fsd f0, 0({0})", "fsd f1, 8({0})", "fsd f2, 16({0})", "fsd f3, 24({0})",
            "fsd f4, 32({0})", "fsd f5, 40({0})", "fsd f6, 48({0})", "fsd f7, 56({0})",
            "fsd f8, 64({0})", "fsd f9, 72({0})", "fsd f10, 80({0})", "fsd f11, 88({0})",
            "fsd f12, 96({0})", "fsd f13, 104({0})", "fsd f14, 112({0})", "fsd f15, 120({0})",
            "fsd f16, 128({0})", "fsd f17, 136({0})", "fsd f18, 144({0})", "fsd f19, 152({0})",
            "fsd f20, 160({0})", "fsd f21, 168({0})", "fsd f22, 176({0})", "fsd f23, 184({0})",
            "fsd f24, 192({0})", "fsd f25, 200({0})", "fsd f26, 208({0})", "fsd f27, 216({0})",
            "fsd f28, 224({0})", "fsd f29, 232({0})", "fsd f30, 240({0})", "fsd f31, 248({0})",
            "frcsr {1}",
            "sw {1}, 256({0})",
            in(reg) to, out(reg) _, options(nostack));
    }
}

/// # Safety
/// 1. The floating-point unit is on; 2. nothing in its registers is needed any more.
unsafe fn load_float_registers(from: &Float) {
    // SAFETY: 1. 2. the caller's obligations; the compiler keeps nothing in these registers in the kernel.
    unsafe {
        asm!(
            "fld f0, 0({0})", "fld f1, 8({0})", "fld f2, 16({0})", "fld f3, 24({0})",
            "fld f4, 32({0})", "fld f5, 40({0})", "fld f6, 48({0})", "fld f7, 56({0})",
            "fld f8, 64({0})", "fld f9, 72({0})", "fld f10, 80({0})", "fld f11, 88({0})",
            "fld f12, 96({0})", "fld f13, 104({0})", "fld f14, 112({0})", "fld f15, 120({0})",
            "fld f16, 128({0})", "fld f17, 136({0})", "fld f18, 144({0})", "fld f19, 152({0})",
            "fld f20, 160({0})", "fld f21, 168({0})", "fld f22, 176({0})", "fld f23, 184({0})",
            "fld f24, 192({0})", "fld f25, 200({0})", "fld f26, 208({0})", "fld f27, 216({0})",
            "fld f28, 224({0})", "fld f29, 232({0})", "fld f30, 240({0})", "fld f31, 248({0})",
            "lw {1}, 256({0})",
            "fscsr {1}",
            in(reg) from, out(reg) _, options(nostack));
    }
}

/// # Safety
/// 1. The vector unit is on; 2. `data` has room for 32 registers.
unsafe fn save_vector_registers(to: &mut Vector) {
    let data = to.data.as_mut_ptr();
    let (vstart, vl, vtype, vcsr): (usize, usize, usize, usize);
    // SAFETY: 1. 2. the caller's obligations. vl of the longest group is 8 registers in bytes.
    unsafe {
        asm!(
            ".option push", ".option arch, +v",
            "csrr {vstart}, vstart", "csrr {vl}, vl", "csrr {vtype}, vtype", "csrr {vcsr}, vcsr",
            "vsetvli {n}, x0, e8, m8, ta, ma",
            "vse8.v v0, ({p})", "add {p}, {p}, {n}",
            "vse8.v v8, ({p})", "add {p}, {p}, {n}",
            "vse8.v v16, ({p})", "add {p}, {p}, {n}",
            "vse8.v v24, ({p})",
            ".option pop",
            vstart = out(reg) vstart, vl = out(reg) vl, vtype = out(reg) vtype, vcsr = out(reg) vcsr,
            n = out(reg) _, p = inout(reg) data => _, options(nostack));
    }
    to.csrs = [vstart, vl, vtype, vcsr, to.csrs[4]];
}

/// # Safety
/// 1. The vector unit is on; 2. nothing in its registers is needed; 3. `data` has 32 registers.
unsafe fn load_vector_registers(from: &Vector) {
    let [vstart, vl, vtype, vcsr, _] = from.csrs;
    // SAFETY: 1. to 3. the caller's obligations.
    unsafe {
        asm!(
            ".option push", ".option arch, +v",
            "vsetvli {n}, x0, e8, m8, ta, ma",
            "vle8.v v0, ({p})", "add {p}, {p}, {n}",
            "vle8.v v8, ({p})", "add {p}, {p}, {n}",
            "vle8.v v16, ({p})", "add {p}, {p}, {n}",
            "vle8.v v24, ({p})",
            "vsetvl x0, {vl}, {vtype}",
            "csrw vcsr, {vcsr}", "csrw vstart, {vstart}",
            ".option pop",
            vstart = in(reg) vstart, vl = in(reg) vl, vtype = in(reg) vtype, vcsr = in(reg) vcsr,
            n = out(reg) _, p = inout(reg) from.data.as_ptr() => _, options(nostack));
    }
}

/// Bytes of one vector register. Turns the unit on for the question.
pub fn read_vlenb() -> usize {
    let vlenb: usize;
    // SAFETY: 1. asked only when firmware says that there is a vector unit; 2. nobody's registers change.
    unsafe {
        csr::set!("sstatus", csr::SSTATUS_VS_CLEAN);
        asm!("csrr {}, 0xc22", out(reg) vlenb, options(nostack));
        csr::clear!("sstatus", csr::SSTATUS_VS);
    }
    vlenb
}
