//! For guest tests: one machine per architecture and process, which runs every test's programs.
//!
//! Interface: [`sh`] runs a shell script in the guest and answers what it wrote and its status. The environment
//! variable `OCHRE_TEST_KERNEL` (a file, or `linux` for Debian's) names another kernel: a test states what Linux does,
//! so it must pass there, too.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Result;
use wire::Command;

use crate::arch::Arch;
use crate::guest::{Finished, Guest};
use crate::machine::Machine;
use crate::{exec, places, progress};

/// How long one script may take; emulation on a loaded host is slow.
const LIMIT: Duration = Duration::from_secs(300);

/// The machine that tests use, with the kernel that the environment asks for.
pub fn machine(arch: Arch) -> Machine {
    Machine { kernel: std::env::var_os("OCHRE_TEST_KERNEL").map(Into::into), ..Machine::new(arch) }
}

/// A command as `exec` gives it to the guest.
pub fn command(argv: &[&str]) -> Command {
    Command {
        input: true,
        cwd: b"/root".to_vec(),
        argv: argv.iter().map(|word| word.as_bytes().to_vec()).collect(),
        env: exec::environment().into_iter().map(String::into_bytes).collect(),
        ..Command::default()
    }
}

type Shared = Arc<Mutex<Option<Guest>>>;

fn shared(arch: Arch) -> Shared {
    static GUESTS: OnceLock<Mutex<BTreeMap<&'static str, Shared>>> = OnceLock::new();
    let mut guests = GUESTS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    guests.entry(arch.name()).or_default().clone()
}

/// Runs `script` with `input` on stdin in this process's guest of `arch`, which is booted when there is none. A guest
/// that failed is replaced for the next caller. `runner` is the program of that name: `env!("CARGO_BIN_EXE_runner")`.
pub fn sh_with_input(runner: &str, arch: Arch, script: &str, input: &[u8]) -> Result<Finished> {
    places::set_runner(runner);
    progress::set_quiet(true);
    let shared = shared(arch);
    let mut slot = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let mut guest = match slot.take() {
        Some(guest) => guest,
        None => Guest::start(&machine(arch), &Command::default())?,
    };
    let result = guest.run(&command(&["sh", "-c", script]), input.to_vec(), LIMIT);
    match result {
        Ok(finished) => {
            *slot = Some(guest);
            Ok(finished)
        }
        Err(e) => Err(e.context(format!("on {arch}: {script}\n{}", guest.last_words(40)))),
    }
}

/// As [`sh_with_input`], with an empty stdin.
pub fn sh(runner: &str, arch: Arch, script: &str) -> Result<Finished> {
    sh_with_input(runner, arch, script, b"")
}
