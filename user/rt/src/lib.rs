//! The runtime under the programs in `user/`.
//!
//! Problem: test programs, benchmarks and the guest's first process have to run on Ochre and on
//! Linux from one binary, be built with nothing but the bare Rust targets (no C compiler, no libc),
//! and make exactly the system calls that they are written to make.
//!
//! Interface: [`entry!`] names the main function; [`env`] has the arguments, environment and
//! auxiliary vector; [`io`], [`fs`], [`process`], [`signal`], [`time`], [`tty`], [`mm`], [`thread`]
//! wrap system calls one to one, taking slices and `CStr` and answering `Result<_, Errno>`;
//! [`syscall!`] makes any other call. `print!`, `println!`, `eprintln!` write to descriptors 1 and 2,
//! and `alloc` works.
//!
//! Idea: a wrapper is as thin as the man page. It uses the generic call of both architectures
//! (`openat`, `ppoll`, `pipe2`, `clone`), never the historic one of x86-64, so that a program does
//! the same thing on each. Numbers and structures come from the kernel's own headers by way of
//! `linux-raw-sys`; nothing here knows Ochre.
#![no_std]

extern crate alloc;

pub mod arch;
pub mod env;
mod errno;
pub mod fs;
mod heap;
pub mod io;
pub mod lab;
pub mod mm;
pub mod process;
pub mod signal;
mod start;
pub mod thread;
pub mod time;
pub mod tty;

pub use arch::syscall6;
pub use errno::Errno;
pub use linux_raw_sys as uapi;
pub use linux_raw_sys::general as nr;

/// What every wrapper answers.
pub type Result<T> = core::result::Result<T, Errno>;

/// Splits the kernel's return value into a result: -4095 to -1 are negated errno values.
pub fn decode(value: isize) -> Result<usize> {
    match value {
        -4095..=-1 => Err(Errno::from_raw(value.unsigned_abs() as u16)),
        _ => Ok(value as usize),
    }
}

/// Makes a system call: `syscall!(nr::__NR_close, fd)`. Up to six arguments, each cast to `usize`;
/// answers `Result<usize, Errno>`. Unsafe as the kernel's side of the call is: see its man page.
#[macro_export]
macro_rules! syscall {
    ($nr:expr $(, $arg:expr)* $(,)?) => {
        $crate::decode($crate::syscall!(@pad $nr as usize; $($arg as usize,)*; 0, 0, 0, 0, 0, 0,))
    };
    (@pad $nr:expr; $a:expr, $b:expr, $c:expr, $d:expr, $e:expr, $f:expr,; $($rest:tt)*) => {
        $crate::syscall6($nr, [$a, $b, $c, $d, $e, $f])
    };
    (@pad $nr:expr; $($a:expr,)*; $zero:expr, $($rest:expr,)*) => {
        $crate::syscall!(@pad $nr; $($a,)* $zero,; $($rest,)*)
    };
}

/// Names the program's main function: `fn main() -> i32`, whose value is the exit status.
///
/// The one place where a program needs `#[allow(unsafe_code)]`: an exported symbol counts as such.
#[macro_export]
macro_rules! entry {
    ($main:path) => {
        #[allow(unsafe_code)]
        #[unsafe(no_mangle)]
        extern "Rust" fn __rt_main() -> i32 {
            $main()
        }
    };
}
