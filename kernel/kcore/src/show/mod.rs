//! The texts of /proc/PID about processes and threads. Sources: proc_pid_*(5), Linux's fs/proc/array.c and
//! base.c. What a text says of memory or scheduling is written by the layer that owns it.

mod small;
mod stat;
mod status;

pub use small::{
    comm, io, limits, oom_adj, oom_score, oom_score_adj, personality, set_comm, set_oom_adj,
    set_oom_score_adj, stack, statm, syscall, timerslack_ns, wchan,
};
pub use stat::stat;
pub use status::status;

use crate::thread::COMM_LEN;
use crate::{Result, pid};
use core::fmt::{self, Write};
use kernfs::TextBuf;

/// /sys/kernel/debug/sched/debug.
pub fn sched_debug(out: &mut dyn Write) -> fmt::Result {
    sched::show::debug(out, &mut |out, cpu| {
        let mut result = Ok(());
        pid::for_each_process(|process| {
            for thread in process.threads() {
                let Some(task) = thread.task().filter(|task| sched::show::cpu_of(task) == cpu) else {
                    continue;
                };
                let comm = thread.comm();
                result = result.and_then(|()| sched::show::task_row(out, &task, &comm, thread.tid()));
            }
        });
        result
    })
}

/// The name without its zeros.
fn comm_text(comm: &[u8; COMM_LEN]) -> &[u8] {
    let len = comm.iter().position(|&b| b == 0).unwrap_or(COMM_LEN);
    &comm[..len]
}

/// The name in a line of text: newline and backslash are escaped.
fn escaped_comm(out: &mut TextBuf, comm: &[u8; COMM_LEN]) -> Result<()> {
    comm_text(comm).iter().try_for_each(|byte| match byte {
        b'\n' => out.bytes(b"\\n"),
        b'\\' => out.bytes(b"\\\\"),
        byte => out.bytes(&[*byte]),
    })
}

/// Nanoseconds in clock ticks of user space (sysconf(_SC_CLK_TCK)).
fn ticks(ns: u64) -> u64 {
    ns / (1_000_000_000 / abi::time::USER_HZ)
}
