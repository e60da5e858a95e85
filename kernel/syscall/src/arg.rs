//! From a register to a typed argument.

/// A type that a system call takes. Like C's conversion in Linux's SYSCALL_DEFINE: narrow types take the
/// low bits, whatever the program left in the rest of the register.
pub trait Arg {
    fn from_register(value: usize) -> Self;
}

macro_rules! truncating {
    ($($t:ty)*) => {
        $(impl Arg for $t {
            #[inline]
            fn from_register(value: usize) -> $t {
                value as $t
            }
        })*
    };
}

truncating!(i32 u32 i64 u64 usize isize u16 u8);

impl Arg for bool {
    #[inline]
    fn from_register(value: usize) -> bool {
        value != 0
    }
}
