//! Hardware breakpoints: riscv64 has some (Sdtrig), but Linux offers them to no tracer, so there are none here.

/// No registers.
#[derive(Clone, Copy, Debug, Default)]
pub struct DebugRegs;

/// See x86-64's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    Value,
    Register,
}

impl DebugRegs {
    /// Registers that a tracer can name.
    pub const COUNT: usize = 0;

    pub fn get(&self, _number: usize) -> u64 {
        0
    }

    pub fn set(&mut self, _number: usize, _value: u64) -> Result<(), Refused> {
        Err(Refused::Register)
    }
}

/// The registers of the current thread.
pub fn current() -> DebugRegs {
    DebugRegs
}

/// Changes them.
pub fn set_current(_regs: &DebugRegs) {}
