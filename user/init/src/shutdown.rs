//! The end of the machine.

use rt::process::{self, Reboot};
use rt::{eprintln, nr, time};

use crate::{mounts, signals};

const PATIENCE_NS: u64 = 300_000_000;
const STEP_NS: u64 = 10_000_000;

/// Ends all processes, writes everything back, and switches off or restarts.
pub fn shut_down(how: Reboot) -> ! {
    if process::kill(-1, nr::SIGTERM).is_ok() {
        wait_for_children();
        let _ = process::kill(-1, nr::SIGKILL);
    }
    mounts::put_away();
    let error = process::reboot(how);
    eprintln!("init: cannot end the machine: {error}");
    process::exit(1) // the kernel panics when process 1 ends, which ends the run all the same
}

/// Until all have ended; some, such as interactive shells, ignore SIGTERM.
fn wait_for_children() {
    let mut waited_ns = 0;
    while waited_ns < PATIENCE_NS {
        signals::reap(|_, _| {});
        if process::wait(-1, nr::WNOHANG).is_err() {
            return;
        }
        time::sleep_ns(STEP_NS);
        waited_ns += STEP_NS;
    }
}
