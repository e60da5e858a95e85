//! The guest's first process.
//!
//! Problem: something must mount the file systems, hand the console to a shell with job control, collect
//! orphans and switch the machine off; and `exec` needs somebody inside who runs a program and reports.
//!
//! Interface: as `/init` of the initramfs. With [`wire::EXEC_FILE`] there it is the runner's agent
//! ([`agent`]), otherwise it runs root's shell on the console ([`shell`]) and powers off after it. `root=` on the kernel's
//! command line puts a disk in the initramfs's place first ([`root`]).
//! SIGUSR1, SIGUSR2 and SIGTERM mean halt, power off and reboot, as BusyBox's tools expect of process 1.
//! `init agent`, not as process 1, is the agent on descriptors 0 and 1: for trying it on any Linux.
//!
//! Idea: nothing here is particular to Ochre; it works the same under Linux.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod agent;
mod console;
mod control;
mod login;
mod mounts;
mod root;
mod shell;
mod shutdown;
mod signals;

use rt::{env, eprintln, fs, io, nr, process};

rt::entry!(main);

fn main() -> i32 {
    if process::getpid() == 1 {
        first_process()
    } else if env::arg(1) == Some("agent") {
        signals::set_up();
        agent::run(0, 1, wire::Command::default());
        0
    } else {
        eprintln!("init: this is the first process of a machine; `init agent` speaks the runner's protocol");
        1
    }
}

fn first_process() -> i32 {
    fill_standard_descriptors();
    signals::set_up();
    // The runner's notes are in the initramfs, which a root on a disk hides.
    let (request, terminal) = (exec_request(), console::described_terminal());
    root::switch();
    mounts::mount_all();
    set_host_name();
    match request {
        Some(command) => {
            let tty = console::open().unwrap_or(0);
            console::make_raw(tty);
            // Kernel messages would fall between the agent's frames; a kernel without this call has only panics to say.
            let _ = process::set_console_level(1);
            agent::run(tty, tty, command);
        }
        None => shell::run(terminal),
    }
    shutdown::shut_down(process::Reboot::PowerOff)
}

/// Without a console the kernel starts us without descriptors; pipes must not become 0, 1 or 2.
fn fill_standard_descriptors() {
    while let Ok(fd) = fs::open(c"/dev/null", nr::O_RDWR, 0) {
        if fd > 2 {
            let _ = io::close(fd);
            break;
        }
    }
}

fn set_host_name() {
    let name = fs::read_file(c"/etc/hostname").unwrap_or_default();
    let name = name.trim_ascii();
    if !name.is_empty() {
        let _ = process::sethostname(name); // only cosmetic
    }
}

/// What the runner wants executed, if anything; the request's file is removed, so that nobody sees it.
fn exec_request() -> Option<wire::Command> {
    let content = fs::read_file(c"/.ochre/exec").ok()?;
    let _ = fs::unlink(c"/.ochre/exec");
    let _ = fs::rmdir(c"/.ochre"); // unless there are other notes
    let command = wire::Command::from_bytes(&content);
    if command.is_none() {
        eprintln!("init: /.ochre/exec is damaged");
    }
    Some(command.unwrap_or_default())
}
