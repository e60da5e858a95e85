//! Calls that do not exist, counted by number: what a program wanted and did not get.

use alloc::collections::BTreeMap;
use core::fmt;
use kcore::Ctx;
use sync::SpinLock;
use sync::levels::Leaf;

/// Numbers above this are counted together, so that a program cannot fill the table.
const NUMBER_MAX: usize = 2048;

static COUNTS: SpinLock<BTreeMap<usize, u64>, Leaf> = SpinLock::new(BTreeMap::new());

/// The entry of every free slot of the table, and of numbers beyond it.
pub fn unimplemented(ctx: &mut Ctx) -> isize {
    let number = ctx.user.syscall_nr().min(NUMBER_MAX);
    *COUNTS.lock().entry(number).or_insert(0) += 1;
    abi::Errno::ENOSYS.as_return()
}

/// The text of /proc/ochre/enosys: `count number name`, a line each.
pub fn show(out: &mut dyn fmt::Write) -> fmt::Result {
    let counts = COUNTS.lock().clone();
    for (number, count) in counts {
        writeln!(out, "{count} {number} {}", crate::table::name(number))?;
    }
    Ok(())
}
