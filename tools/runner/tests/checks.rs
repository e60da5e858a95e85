//! The program `checks`, which states what Linux does, on every build of the kernel; and on the host's own Linux,
//! since a check that fails there would state something else.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use runner::arch::Arch;
use runner::testing::{self, Target};
use runner::{cargo, progress, setup};

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");

/// The groups that the guest passes. A group joins when it passes on every build.
const GROUPS: &[&str] = &[
    "errors",
    "names",
    "trees",
    "files",
    "direct",
    "overlay",
    "caching",
    "attributes",
    "pipes",
    "polling",
    "events",
    "watches",
    "locks",
    "memory",
    "processes",
    "exec",
    "signals",
    "sockets",
    "futexes",
    "inheritance",
    "times",
    "rseq",
    "sysv",
    "mqueue",
    "mounting",
    "namespaces",
    "scheduling",
    "lab",
    "terminals",
    "procfs",
    "procpid",
    "ptrace",
];

/// The report without the checks that passed.
fn failures(report: &str) -> String {
    report.lines().filter(|line| !line.starts_with("ok ")).collect::<Vec<_>>().join("\n")
}

/// Runs every group in a guest of `target`; what went wrong, one problem a line.
fn problems(target: Target) -> Vec<String> {
    let mut problems = Vec::new();
    for group in GROUPS {
        match testing::sh(RUNNER, target, &format!("checks {group}")) {
            Ok(finished) if !finished.out.contains(" passed, ") => {
                let said = format!("{}{}", finished.out, finished.err);
                problems.push(format!("{target}: checks {group} did not end: {said}"));
            }
            Ok(finished) => {
                let failed = finished.out.lines().filter(|line| line.starts_with("FAIL "));
                problems.extend(failed.map(|line| format!("{target}: {line}")));
            }
            Err(e) => problems.push(format!("{e:#}")),
        }
    }
    problems
}

#[test]
fn the_guest_does_what_linux_does() {
    let problems = testing::on_each(&Target::all(), problems).concat();
    assert!(problems.is_empty(), "{}", problems.join("\n"));
}

/// A directory in which every user may work, as in `/tmp`; gone with all that is in it at the end.
struct OpenDir(PathBuf);

impl OpenDir {
    fn new() -> OpenDir {
        let dir = std::env::temp_dir().join(format!("ochre-checks-{}", std::process::id()));
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).expect("a directory for the checks' files");
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o1777)).expect("its mode");
        OpenDir(dir)
    }
}

impl Drop for OpenDir {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn the_checks_hold_on_the_hosts_linux() {
    progress::set_quiet(true);
    let Some(arch) = Arch::ALL.into_iter().find(|arch| arch.is_host()) else { return };
    let toolchain = setup::toolchain(arch).expect("a toolchain");
    let programs = cargo::programs(arch, toolchain).expect("programs");
    let checks = programs.iter().find(|program| program.name == "checks").expect("checks is among them");
    let dir = OpenDir::new();
    let output = Command::new(&checks.path).env("CHECKS_TMP", &dir.0).output().expect("it starts");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", failures(&report));
}
