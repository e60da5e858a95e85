//! What happens around the calls of threads that are traced: a line each in the kernel log, stops for ptrace(2).

use crate::table;
use core::fmt;
use kcore::{Ctx, ptrace};

/// Every entry of the table that traced threads use: calls the real entry and logs the call.
pub fn traced(ctx: &mut Ctx) -> isize {
    ptrace::call_enter(ctx);
    // The tracer may have put another call in its place, or none.
    let number = ctx.user.syscall_nr();
    let args = ctx.user.syscall_args();
    let value = table::call(ctx);
    if !ctx.process.is_traced() {
        return show_result(ctx, value);
    }
    let name = table::name(number);
    let args = Args(&args[..table::arguments(number).map_or(6, <[_]>::len)]);
    klog::pr_info!("[{}] {name}({args}) = {}", ctx.thread.tid(), Value(value));
    show_result(ctx, value)
}

/// The tracer sees the result and may change it.
fn show_result(ctx: &mut Ctx, value: isize) -> isize {
    ctx.user.set_return(value);
    ptrace::call_exit(ctx);
    ctx.user.return_value()
}

struct Args<'a>(&'a [usize]);

impl fmt::Display for Args<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (i, &arg) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            if arg < 4096 { write!(f, "{arg}")? } else { write!(f, "{arg:#x}")? }
        }
        Ok(())
    }
}

struct Value(isize);

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self.0 {
            -4095..0 => {
                let errno = abi::Errno::from_number(-self.0 as i32);
                write!(f, "-1 {}", errno.map_or("E?", |e| e.name()))
            }
            value if value > 0xffff => write!(f, "{value:#x}"),
            value => write!(f, "{value}"),
        }
    }
}
