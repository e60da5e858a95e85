//! For guest tests: one machine per build of the kernel and process, which runs every test's programs.
//!
//! Interface: [`sh`] runs a shell script in the guest and answers what it wrote and its status. The environment
//! variable `OCHRE_TEST_KERNEL` (a file, or `linux` for Debian's) names another kernel: a test states what Linux does,
//! so it must pass there, too.

use std::collections::BTreeMap;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use anyhow::Result;
use wire::Command;

use crate::arch::Arch;
use crate::guest::{Finished, Guest};
use crate::machine::Machine;
use crate::{exec, places, progress, symbols};

/// How long one script may take; emulation on a loaded host is slow.
const LIMIT: Duration = Duration::from_secs(300);

/// Which build of the kernel a test runs on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target {
    /// The architecture.
    pub arch: Arch,
    /// With debug checks, or optimised.
    pub debug: bool,
}

impl From<Arch> for Target {
    fn from(arch: Arch) -> Self {
        Self { arch, debug: false }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.arch, if self.debug { "debug" } else { "release" })
    }
}

impl Target {
    /// All of them; another kernel, from the environment, has no debug build.
    pub fn all() -> Vec<Self> {
        let builds: &[bool] = if other_kernel().is_some() { &[false] } else { &[false, true] };
        Arch::ALL.into_iter().flat_map(|arch| builds.iter().map(move |&debug| Self { arch, debug })).collect()
    }

    fn machine(self) -> Machine {
        // A bug that costs only one program would go unnoticed.
        let append = vec!["oops=panic".into()];
        Machine { kernel: other_kernel(), debug: self.debug, append, ..Machine::new(self.arch) }
    }
}

/// How many guests [`on_each`] runs at once: one guest seldom keeps two of the host's CPUs busy, and while one target's
/// kernel is built the other one's guest can run.
const AT_ONCE: usize = 2;

/// Calls `run` for each of `targets`, for some of them at once; answers in the order of `targets`. A panic of `run` is
/// passed on.
pub fn on_each<T: Send>(targets: &[Target], run: impl Fn(Target) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let worker = || {
        let mine = std::iter::from_fn(|| {
            let index = next.fetch_add(1, Ordering::Relaxed);
            targets.get(index).map(|&target| (index, run(target)))
        });
        mine.collect::<Vec<_>>()
    };
    let mut answers = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(worker)).collect();
        let joined = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|e| resume_unwind(e)));
        joined.flatten().collect::<Vec<_>>()
    });
    answers.sort_by_key(|&(index, _)| index);
    answers.into_iter().map(|(_, answer)| answer).collect()
}

fn other_kernel() -> Option<PathBuf> {
    std::env::var_os("OCHRE_TEST_KERNEL").map(Into::into)
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

fn shared(target: Target) -> Shared {
    static GUESTS: OnceLock<Mutex<BTreeMap<(&'static str, bool), Shared>>> = OnceLock::new();
    let mut guests = GUESTS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    guests.entry((target.arch.name(), target.debug)).or_default().clone()
}

/// Runs `script` with `input` on stdin in this process's guest of `target`, which is booted when there is none. A guest
/// that failed is replaced for the next caller. `runner` is the program of that name: `env!("CARGO_BIN_EXE_runner")`.
pub fn sh_with_input(
    runner: &str,
    target: impl Into<Target>,
    script: &str,
    input: &[u8],
) -> Result<Finished> {
    places::set_runner(runner);
    progress::set_quiet(true);
    let target = target.into();
    let shared = shared(target);
    let mut slot = shared.lock().unwrap_or_else(PoisonError::into_inner);
    let mut guest = match slot.take() {
        Some(guest) => guest,
        None => Guest::start(&target.machine(), &Command::default())?,
    };
    let result = guest.run(&command(&["sh", "-c", script]), input.to_vec(), LIMIT);
    match result {
        Ok(finished) => {
            *slot = Some(guest);
            Ok(finished)
        }
        Err(e) => {
            let console = symbols::annotate(guest.kernel(), &guest.last_words(40));
            Err(e.context(format!("on {target}: {script}\n{console}")))
        }
    }
}

/// As [`sh_with_input`], with an empty stdin.
pub fn sh(runner: &str, target: impl Into<Target>, script: &str) -> Result<Finished> {
    sh_with_input(runner, target, script, b"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_target_has_its_answer() {
        let targets = [Arch::Riscv64, Arch::X86_64, Arch::Riscv64].map(Target::from);
        assert_eq!(on_each(&targets, |target| target), targets);
        assert_eq!(on_each(&[], |target| target), []);
    }
}
