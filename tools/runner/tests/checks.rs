//! The program `checks`, which states what Linux does, on every build of the kernel; and on the host's own Linux,
//! since a check that fails there would state something else.

use std::process::Command;

use runner::arch::Arch;
use runner::testing::{self, Target};
use runner::{cargo, progress, setup};

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");

/// The report without the checks that passed.
fn failures(report: &str) -> String {
    report.lines().filter(|line| !line.starts_with("ok ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_guest_does_what_linux_does() {
    let reports =
        Target::all().into_iter().filter_map(|target| match testing::sh(RUNNER, target, "checks") {
            Ok(finished) if finished.code == 0 => None,
            Ok(finished) => Some(format!("{target}:\n{}\n{}", failures(&finished.out), finished.err)),
            Err(e) => Some(format!("{e:#}")),
        });
    let reports: Vec<String> = reports.collect();
    assert!(reports.is_empty(), "{}", reports.join("\n\n"));
}

#[test]
fn the_checks_hold_on_the_hosts_linux() {
    progress::set_quiet(true);
    let Some(arch) = Arch::ALL.into_iter().find(|arch| arch.is_host()) else { return };
    let toolchain = setup::toolchain(arch).expect("a toolchain");
    let programs = cargo::programs(arch, toolchain).expect("programs");
    let checks = programs.iter().find(|program| program.name == "checks").expect("checks is among them");
    let output = Command::new(&checks.path).output().expect("it starts");
    let report = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", failures(&report));
}
