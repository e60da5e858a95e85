//! One value per CPU, each on cache lines of its own.
//!
//! A plain array indexed by CPU number instead of a section relative to the per-CPU register: it works
//! for values made at run time and costs one shift and one add.

use alloc::boxed::Box;
use alloc::vec::Vec;
use arch::cpu;

#[repr(align(64))]
struct Padded<T>(T);

/// One `T` for each CPU that firmware described.
pub struct PerCpu<T> {
    slots: Box<[Padded<T>]>,
}

impl<T> PerCpu<T> {
    /// Makes the values, `make(cpu)` for each. Needs the heap; may sleep.
    pub fn new(make: impl FnMut(usize) -> T) -> Self {
        let slots: Vec<_> = (0..cpu::count()).map(make).map(Padded).collect();
        PerCpu { slots: slots.into_boxed_slice() }
    }

    /// The value of the CPU that runs now. With preemption on, the caller may move to another CPU right
    /// after: then the value is a hint.
    #[inline]
    pub fn this(&self) -> &T {
        &self.slots[cpu::id()].0
    }

    /// The value of one CPU.
    #[inline]
    pub fn of(&self, cpu: usize) -> &T {
        &self.slots[cpu].0
    }

    /// All values with their CPU numbers.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &T)> {
        self.slots.iter().enumerate().map(|(i, p)| (i, &p.0))
    }
}
