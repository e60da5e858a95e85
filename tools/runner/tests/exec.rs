//! `exec` and the agent, on every architecture.
//!
//! These state what the runner promises; the kernel's own tests are in other files.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use runner::arch::Arch;
use runner::guest::Finished;
use runner::testing;

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");

fn sh(arch: Arch, script: &str) -> Finished {
    testing::sh(RUNNER, arch, script).expect("the guest runs it")
}

/// The runner itself, as a person calls it.
fn exec(arch: Arch, options: &[&str], argv: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(RUNNER);
    command.args(["exec", "--arch", arch.name()]).args(options);
    if let Some(kernel) = std::env::var_os("OCHRE_TEST_KERNEL") {
        command.arg("--kernel").arg(kernel);
    }
    command.arg("--").args(argv).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("the runner starts");
    let mut stdin = child.stdin.take().expect("piped");
    let _ = stdin.write_all(input); // the program may end before it has read everything
    drop(stdin);
    child.wait_with_output().expect("the runner ends")
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn streams_and_status_are_passed() {
    for arch in Arch::ALL {
        let output = exec(arch, &[], &["sh", "-c", "cat; echo to stderr >&2; exit 3"], b"to stdin\n");
        assert_eq!(text(&output.stdout), "to stdin\n");
        assert_eq!(text(&output.stderr), "to stderr\n");
        assert_eq!(output.status.code(), Some(3));
    }
}

#[test]
fn a_hang_ends_with_125_and_one_line() {
    let begin = Instant::now();
    let output = exec(Arch::default(), &["--timeout", "20"], &["sh", "-c", "echo before; sleep 1000"], b"");
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(text(&output.stdout), "before\n");
    assert!(text(&output.stderr).ends_with("did not end within 20 s\n"), "{}", text(&output.stderr));
    assert!(begin.elapsed() < Duration::from_secs(60));
}

#[test]
fn every_byte_arrives() {
    let bytes: Vec<u8> = (0..20_000u32).map(|i| (i * i >> 7) as u8).collect();
    for arch in Arch::ALL {
        let output = exec(arch, &[], &["cat"], &bytes);
        assert!(output.stdout == bytes, "{arch}: {} bytes came back", output.stdout.len());
    }
}

#[test]
fn many_programs_run_in_one_guest() {
    for arch in Arch::ALL {
        for (script, code, out) in [
            ("echo one", 0, "one\n"),
            ("exit 200", 200, ""),
            ("kill -9 $$", 137, ""),
            ("kill -TERM $$", 143, ""),
            ("no-such-program", 127, ""),
            ("sleep 1000 & echo left behind", 0, "left behind\n"),
            ("yes x | head -c 100000 | wc -c", 0, "100000\n"),
            ("head -n 1 <&0; echo $?", 0, "0\n"),
        ] {
            let finished = sh(arch, script);
            assert_eq!(
                (finished.code, finished.out.as_str()),
                (code, out),
                "{arch}: {script}\n{}",
                finished.err
            );
        }
    }
}

#[test]
fn stdin_reaches_programs_of_a_shared_guest() {
    for arch in Arch::ALL {
        let input = "line\n".repeat(2000);
        let finished =
            testing::sh_with_input(RUNNER, arch, "wc -l", input.as_bytes()).expect("the guest runs it");
        assert_eq!(finished.out.trim(), "2000");
        // A program that does not read its input leaves nothing behind for the next one.
        let ignored =
            testing::sh_with_input(RUNNER, arch, "echo deaf", input.as_bytes()).expect("the guest runs it");
        assert_eq!(ignored.out, "deaf\n");
        assert_eq!(sh(arch, "cat").out, "");
    }
}
