//! The few items of the architecture layer that `vm` uses, without an architecture.
#![forbid(unsafe_code)]

#[path = "../../../../../machine/arch/src/paging.rs"]
pub mod paging;

pub const PAGE_SHIFT: usize = 12;
pub const PAGE_SIZE: usize = 1 << PAGE_SHIFT;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Debug)]
pub struct PhysAddr(pub u64);

/// How memory was touched.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    Read,
    Write,
    Exec,
}

/// A user address that could not be accessed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault;

pub mod mmu {
    /// The end of user addresses of Sv39.
    pub fn user_top() -> usize {
        (1 << 38) - crate::PAGE_SIZE
    }
}

pub mod timer {
    use std::sync::OnceLock;
    use std::time::Instant;

    /// ns since the first question.
    pub fn now_ns() -> u64 {
        static START: OnceLock<Instant> = OnceLock::new();
        u64::try_from(START.get_or_init(Instant::now).elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

pub mod cpu {
    /// CPUs of the fake machine.
    pub fn count() -> usize {
        4
    }
}
