//! From the first instruction to the program's main function, and the panic handler.

use core::panic::PanicInfo;

use crate::{env, eprintln, process};

unsafe extern "Rust" {
    /// Defined by [`crate::entry!`].
    safe fn __rt_main() -> i32;
}

#[unsafe(no_mangle)]
extern "C" fn rt_start(stack: usize) -> ! {
    env::init(stack);
    process::exit(__rt_main())
}

/// A panicking program says where and why on stderr and ends with status 101, as a std program does.
#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    eprintln!("{info}");
    process::exit(101)
}
