//! `boot`: a person at the guest's console.
//!
//! Idea: QEMU itself has the terminal, with its own escape key, Ctrl-A. We prepare the machine, wait, and whatever
//! becomes of QEMU give the terminal back as it was. A copy of what the console printed tells us about a panic. The
//! terminal's size goes to the guest on a line of its own, since the console is QEMU's.

use std::fs;
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;
use wire::Kind;

use crate::exec::GUEST_FAILED;
use crate::machine::Machine;
use crate::qemu::{self, Qemu};
use crate::terminal::Terminal;
use crate::tree::Tree;
use crate::{commands, initramfs, places, progress, symbols};

/// Boots and answers 0, or 125 when the kernel panicked or QEMU failed.
pub fn run(machine: &Machine) -> Result<i32> {
    let built = commands::build(machine)?;
    let terminal = Terminal::save();
    let dir = places::run_dir()?;
    let mut extra = Tree::default();
    if let Some(description) = terminal.describe() {
        extra.file(wire::TERMINAL_FILE, 0o600, description);
    }
    let initramfs = initramfs::write(dir.join("initramfs.cpio"), &[&built.tree, &extra])?;
    let mut arguments = qemu::arguments(&built.machine, &built.kernel, &initramfs)?;
    let log = dir.join("console.log");
    let console = format!(
        "stdio,id=console,mux=on,signal=off,logfile={}",
        log.display().to_string().replace(',', ",,")
    );
    arguments.extend(["-chardev", &console, "-serial", "chardev:console", "-mon", "console"].map(Into::into));
    let control = dir.join("control");
    arguments.extend(qemu::control_line(machine, &control));
    progress::step("Booting", format!("{} (Ctrl-A X leaves)", machine.arch));
    if machine.gdb {
        commands::explain_gdb(&built.kernel);
    }
    terminal.pass_line_feeds();
    let (qemu, _) = Qemu::start(machine.arch, arguments, false)?;
    follow_size(control);
    let status = loop {
        if let Some(status) = qemu.wait(Duration::from_secs(3600)) {
            break status;
        }
    };
    terminal.restore();
    let panicked = report_panic(&built.kernel, &fs::read(log).unwrap_or_default());
    Ok(if panicked || !status.success() { GUEST_FAILED } else { 0 })
}

/// Tells the first process of the guest the size of the person's terminal when that changes. Without the line nothing
/// is told: QEMU makes it when it starts, and somebody else's first process does not listen.
fn follow_size(control: PathBuf) {
    std::thread::spawn(move || {
        let line = (0..100).find_map(|_| {
            std::thread::sleep(Duration::from_millis(50));
            UnixStream::connect(&control).ok()
        });
        let Some(mut line) = line else { return };
        Terminal::follow_size(move |rows, cols| {
            let mut frame = Vec::new();
            let [[a, b], [c, d]] = [rows, cols].map(u16::to_le_bytes);
            wire::encode(Kind::Window, &[a, b, c, d], &mut frame);
            line.write_all(&frame).is_ok()
        });
    });
}

/// Shows a panic's addresses by name once more, below what the kernel printed.
fn report_panic(kernel: &Path, log: &[u8]) -> bool {
    let log = String::from_utf8_lossy(log);
    let Some(start) = log.find("Kernel panic") else { return false };
    let text = log[start..].replace('\r', "");
    let named = symbols::annotate(kernel, &text);
    if named != text {
        eprintln!("{named}");
    }
    true
}
