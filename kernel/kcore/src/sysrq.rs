//! Keys for a system in trouble: what a letter written to /proc/sysrq-trigger does.
//!
//! The letters and messages are Linux's (Documentation/admin-guide/sysrq.rst). A letter that nothing stands behind
//! prints the list of those that work, as there.

use crate::process::Process;
use crate::signal::{self, SigInfo};
use crate::{oom, pid};
use abi::signal::{SIGKILL, SIGTERM};
use alloc::sync::Arc;
use core::fmt::{self, Write};
use klog::{pr_err, pr_info};

struct Key {
    letter: u8,
    /// What it does, for the message when it is used.
    action: &'static str,
    /// Its word in the list of keys.
    help: &'static str,
    run: fn(),
}

const KEYS: &[Key] = &[
    Key { letter: b'b', action: "Resetting", help: "reboot(b)", run: || arch::power::reboot() },
    Key { letter: b'c', action: "Trigger a crash", help: "crash(c)", run: crash },
    Key {
        letter: b'e',
        action: "Terminate All Tasks",
        help: "terminate-all-tasks(e)",
        run: || signal_all(SIGTERM),
    },
    Key {
        letter: b'f',
        action: "Manual OOM execution",
        help: "memory-full-oom-kill(f)",
        run: || {
            let _ = oom::kill_largest(); // it says itself when there is nobody to kill
        },
    },
    Key { letter: b'i', action: "Kill All Tasks", help: "kill-all-tasks(i)", run: || signal_all(SIGKILL) },
    Key { letter: b'm', action: "Show Memory", help: "show-memory-usage(m)", run: show_memory },
    Key { letter: b'o', action: "Power Off", help: "poweroff(o)", run: || arch::power::off() },
    Key { letter: b't', action: "Show State", help: "show-task-states(t)", run: || show_tasks(|_| true) },
    Key {
        letter: b'w',
        action: "Show Blocked State",
        help: "show-blocked-tasks(w)",
        run: || show_tasks(|state| state == 'D'),
    },
];

/// Does what `letter` stands for. Process context; may sleep, and may not return.
pub fn trigger(letter: u8) {
    if letter.is_ascii_digit() {
        pr_err!("sysrq: Changing Loglevel");
        klog::set_console_level(letter - b'0');
        pr_err!("sysrq: Loglevel set to {}", letter - b'0');
        return;
    }
    match KEYS.iter().find(|key| key.letter == letter) {
        Some(key) => {
            pr_err!("sysrq: {}", key.action);
            (key.run)();
        }
        None => pr_err!("sysrq: HELP : loglevel(0-9) {}", Words(KEYS)),
    }
}

struct Words(&'static [Key]);

impl fmt::Display for Words {
    fn fmt(&self, out: &mut fmt::Formatter) -> fmt::Result {
        self.0.iter().try_for_each(|key| write!(out, "{} ", key.help))
    }
}

/// A panic of the machine, and not only of the writer's system call.
fn crash() {
    let _no_switch = sync::preempt_off(); // what fails here cannot be left behind
    panic!("sysrq triggered crash")
}

/// Every program but the first process.
fn signal_all(number: u32) {
    pid::for_each_process(|process: &Arc<Process>| {
        if !process.is_init() && process.mm().is_some() {
            // One that is ending anyway needs no signal.
            let _ = signal::send_forced(process, SigInfo::kernel(number));
        }
    });
}

/// /proc/meminfo in the log, a line at a time.
fn show_memory() {
    struct Log;
    impl Write for Log {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            text.lines().filter(|line| !line.trim().is_empty()).for_each(|line| pr_info!("{line}"));
            Ok(())
        }
    }
    let mut text = kernfs::TextBuf::default();
    if vm::write_meminfo(&mut text).is_ok()
        && let Ok(text) = core::str::from_utf8(text.as_bytes())
    {
        let _ = Log.write_str(text); // it cannot fail
    }
}

fn show_tasks(wanted: fn(char) -> bool) {
    pid::for_each_process(|process| {
        for thread in process.threads().iter().filter(|thread| wanted(thread.state_letter())) {
            let waiting_on = thread.task().map_or("", |task| task.waiting_on());
            pr_info!(
                "task:{} state:{} pid:{} tgid:{} ppid:{} {waiting_on}",
                alloc::string::String::from_utf8_lossy(thread.comm().as_ref()),
                thread.state_letter(),
                thread.tid(),
                process.pid(),
                process.parent_pid()
            );
        }
    });
}
