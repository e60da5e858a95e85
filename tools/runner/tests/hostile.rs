//! Programs that mean no good: random system calls, broken programs, a storm of sensible calls, and programs that take
//! all there is.
//!
//! A kernel may answer them with errors and kill them; it may not panic or hang, and gets back what they took.

use std::process::Command;

use runner::arch::Arch;
use runner::testing::{self, Target};

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");

/// Slices of what is run by hand for hours: `cargo run -- exec -- fuzz run --calls 1000000` and so on. Root's calls
/// (`--root`) are for there: they may write to the line by which the guest answers.
const SLICES: [&str; 3] = ["run --calls 25000", "exec --calls 300", "storm --calls 2000 --workers 4"];

#[test]
fn random_calls_do_no_harm() {
    for (seed, target) in (1..).zip(Target::all()) {
        for slice in SLICES {
            let script = format!("fuzz {slice} --seed {seed}");
            let finished = testing::sh(RUNNER, target, &script).expect("the guest survives");
            assert_eq!(finished.code, 0, "{target}: {script}: {}{}", finished.out, finished.err);
        }
    }
}

/// With little memory and one CPU, and with more of both.
const SIZES: [(&str, &str); 2] = [("64M", "1"), ("256M", "4")];

/// Asks for a device of compressed memory that no memory could describe; then takes all there is of everything, one
/// thing after the other, and gets it back.
#[test]
fn greed_ends_in_an_error() {
    for arch in Arch::ALL {
        for (mem, smp) in SIZES {
            let script =
                "! echo 1T > /sys/block/zram0/disksize && hog all; echo status $?; echo the shell answers";
            let mut command = Command::new(RUNNER);
            command.args(["exec", "--arch", arch.name(), "--mem", mem, "--smp", smp, "--timeout", "300"]);
            let output = command.args(["--", "sh", "-c", script]).output().expect("the runner ends");
            let out = String::from_utf8_lossy(&output.stdout);
            let err = String::from_utf8_lossy(&output.stderr);
            assert!(out.ends_with("status 0\nthe shell answers\n"), "{arch} {mem} {smp}:\n{out}{err}");
        }
    }
}
