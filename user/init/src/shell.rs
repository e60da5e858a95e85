//! A login shell on the console, as the leader of a session with a controlling terminal.

use core::ffi::CStr;

use alloc::ffi::CString;
use alloc::vec::Vec;

use rt::process::{self, Pid, Strings};
use rt::{Errno, eprintln, fs, io, tty};

use crate::control::Control;
use crate::{console, login, shutdown, signals};

const ENVIRONMENT: [&CStr; 4] = [
    c"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    c"HOME=/root",
    c"USER=root",
    c"LOGNAME=root",
];

/// Runs the shell and collects orphans until it ends, or until a signal asks for a reboot.
pub fn run(terminal: Option<console::Terminal>) {
    let shell = match process::fork() {
        Ok(Some(pid)) => pid,
        Ok(None) => process::exit(become_shell(terminal)),
        Err(e) => return eprintln!("init: cannot fork: {e}"),
    };
    wait_for(shell);
}

fn wait_for(shell: Pid) {
    let mut running = true;
    let mut control = Control::open();
    while running {
        let mut fds: Vec<_> = control.iter().map(Control::poll_fd).collect();
        match signals::wait(&mut fds) {
            // A kernel without ppoll: no signals for us then, only children.
            Err(Errno::ENOSYS) => running = process::wait_exit(shell).is_err_and(|e| e != Errno::ECHILD),
            _ => signals::reap(|pid, _| running &= pid != shell),
        }
        if fds.first().is_some_and(|fd| fd.revents != 0) {
            control.take_if(|control| !control.hear());
        }
        if let Some(how) = signals::requested_reboot(signals::take()) {
            shutdown::shut_down(how);
        }
    }
}

/// In the child; returns only when there is no shell to become.
fn become_shell(terminal: Option<console::Terminal>) -> i32 {
    let _ = process::setsid();
    if let Ok(fd) = console::open() {
        // None of this may keep the shell from starting: without job control it is still a shell.
        let _ = tty::set_controlling(fd);
        if let Some(t) = &terminal {
            let _ = tty::set_window_size(fd, t.rows, t.cols);
        }
        for standard in 0..=2 {
            let _ = io::dup2(fd, standard);
        }
        let _ = login::note(process::getpid());
    }
    signals::restore_in_child();
    let _ = fs::chdir(c"/root");
    let kind = terminal.map_or(b"linux".to_vec(), |t| t.kind);
    let term = CString::new([b"TERM=", kind.as_slice()].concat()).unwrap_or_default();
    let shell = roots_shell();
    let name = CString::new([b"SHELL=", shell.to_bytes()].concat()).unwrap_or_default();
    let env = Strings::new(ENVIRONMENT.into_iter().chain([term.as_c_str(), name.as_c_str()]));
    let error = process::execve(&shell, &Strings::new([shell.as_c_str(), c"-l"]), &env);
    eprintln!("init: {shell:?}: {error}");
    127
}

/// What `/etc/passwd` says; `/bin/sh` when it says nothing.
fn roots_shell() -> CString {
    let passwd = fs::read_file(c"/etc/passwd").unwrap_or_default();
    let root = passwd.split(|&b| b == b'\n').find(|line| line.starts_with(b"root:"));
    let shell = root.and_then(|line| line.split(|&b| b == b':').nth(6)).filter(|shell| !shell.is_empty());
    shell.and_then(|shell| CString::new(shell).ok()).unwrap_or(c"/bin/sh".into())
}
