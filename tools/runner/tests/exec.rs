//! `exec` and the agent, on every architecture.
//!
//! These state what the runner promises; the kernel's own tests are in other files.

mod support;

use std::io::{Read, Write};
use std::process::{Child, Command, Output, Stdio};

use runner::arch::Arch;
use runner::guest::Finished;
use runner::{cargo, places, progress, setup, testing};
use support::{Person, RUNNER, assert_no_emulator};

const CTRL_C: &str = "\x03";

fn sh(arch: Arch, script: &str) -> Finished {
    testing::sh(RUNNER, arch, script).expect("the guest runs it")
}

/// The runner itself, as a person calls it.
fn start(arch: Arch, options: &[&str], argv: &[&str]) -> Child {
    let mut command = Command::new(RUNNER);
    command.args(["exec", "--arch", arch.name()]).args(options);
    if let Some(kernel) = std::env::var_os("OCHRE_TEST_KERNEL") {
        command.arg("--kernel").arg(kernel);
    }
    command.arg("--").args(argv).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().expect("the runner starts")
}

fn exec(arch: Arch, options: &[&str], argv: &[&str], input: &[u8]) -> Output {
    let mut child = start(arch, options, argv);
    let pid = child.id();
    let mut stdin = child.stdin.take().expect("piped");
    let input = input.to_vec();
    // In a thread: the program may write more than a pipe holds before it reads, and may end without reading.
    let feeder = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let output = child.wait_with_output().expect("the runner ends");
    feeder.join().expect("it does not panic");
    assert_no_emulator(pid);
    output
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
    for arch in Arch::ALL {
        let output = exec(arch, &["--timeout", "20"], &["sh", "-c", "echo before; sleep 1000"], b"");
        assert_eq!(output.status.code(), Some(125));
        assert_eq!(text(&output.stdout), "before\n");
        let message = "runner: the program in the guest did not end within 20 s\n";
        assert_eq!(text(&output.stderr), message, "{arch}");
    }
}

#[test]
fn a_panic_ends_with_125_and_its_trace_with_names() {
    for arch in Arch::ALL {
        // What a dying machine had not sent yet is lost.
        let script = "echo before; sleep 2; echo c > /proc/sysrq-trigger; echo after";
        let output = exec(arch, &[], &["sh", "-c", script], b"");
        assert_eq!(output.status.code(), Some(125), "{arch}");
        assert_eq!(text(&output.stdout), "before\n");
        let report = text(&output.stderr);
        for words in [
            "Kernel panic - not syncing: sysrq triggered crash",
            "Call Trace:",
            "trigger (kernel/kcore/src/sysrq.rs:",
        ] {
            assert!(report.contains(words), "{arch}: {words} in {report}");
        }
        let last = report.lines().last().unwrap_or_default();
        assert!(
            last.starts_with("runner: the guest's kernel panicked: sysrq triggered crash"),
            "{arch}: {last}"
        );
    }
}

#[test]
fn a_machine_without_a_program_panics() {
    let arch = Arch::X86_64;
    let output = exec(arch, &["--append", "rdinit=/missing init=/also/missing"], &["true"], b"");
    assert_eq!(output.status.code(), Some(125));
    let report = text(&output.stderr);
    assert!(report.contains("check access for rdinit=/missing failed: -2, ignoring"), "{report}");
    assert!(report.contains("Requested init /also/missing failed (error -2)"), "{report}");
}

/// Bytes of every value, without a pattern that a line's flow control or translation would leave alone.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 56) as u8
    };
    (0..len).map(|_| next()).collect()
}

#[test]
fn every_byte_arrives_on_both_streams() {
    let bytes = noise(200_000);
    for arch in Arch::ALL {
        let script = "tee /proc/self/fd/2";
        let output = exec(arch, &[], &["sh", "-c", script], &bytes);
        assert_eq!(output.status.code(), Some(0), "{arch}");
        assert!(output.stdout == bytes, "{arch}: {} bytes came back", output.stdout.len());
        assert!(output.stderr == bytes, "{arch}: {} bytes came back", output.stderr.len());
    }
}

#[test]
fn much_output_arrives() {
    for arch in Arch::ALL {
        let output = exec(arch, &[], &["sh", "-c", "seq 300000 | md5sum >&2; seq 300000"], b"");
        let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
        assert!(output.stdout == expected.as_bytes(), "{arch}: {} bytes came", output.stdout.len());
        assert_eq!(text(&output.stderr), "daef482d6c698625ab13d987d14e8781  -\n", "{arch}");
    }
}

#[test]
fn input_may_be_ignored_closed_or_endless() {
    for arch in Arch::ALL {
        // Closed at once.
        let output = exec(arch, &[], &["wc", "-c"], b"");
        assert_eq!(text(&output.stdout), "0\n");
        // More than anybody reads.
        let output = exec(arch, &[], &["head", "-c", "10"], &noise(3_000_000));
        assert!(output.stdout == noise(10), "{arch}");
        assert_eq!(output.status.code(), Some(0), "{arch}");
        // Still open when the program ends.
        let mut child = start(arch, &[], &["sh", "-c", "read line; echo \"$line\"; exit 4"]);
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(b"first\nsecond").expect("it takes it");
        let mut out = String::new();
        child.stdout.take().expect("piped").read_to_string(&mut out).expect("text");
        assert_eq!((out.as_str(), child.wait().expect("it ends").code()), ("first\n", Some(4)), "{arch}");
        drop(stdin);
    }
}

#[test]
fn arguments_and_environment_arrive_as_they_are() {
    for arch in Arch::ALL {
        let odd = ["a b", "c'd", "e\"f", "$HOME", "*", "", "ü", "new\nline", "--help", "-", "\\", "%s"];
        let script = "for i; do printf '<%s>' \"$i\"; done; echo; echo \"$A\" \"$PWD\"";
        let mut argv = vec!["sh", "-c", script, "name"];
        argv.extend(odd);
        let output = exec(arch, &["--env", "A=x = y  z", "--cwd", "/tmp"], &argv, b"");
        let expected: String = odd.iter().map(|word| format!("<{word}>")).collect();
        assert_eq!(text(&output.stdout), format!("{expected}\nx = y  z /tmp\n"), "{arch}");
    }
}

#[test]
fn two_runs_side_by_side() {
    let children = Arch::ALL.map(|arch| {
        let mut child = start(arch, &[], &["sh", "-c", "read a; echo $a; exec md5sum"]);
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(format!("{arch}\n").as_bytes()).expect("it takes it");
        (arch, child, stdin)
    });
    for (arch, child, mut stdin) in children {
        stdin.write_all(b"x").expect("it takes it");
        drop(stdin);
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(text(&output.stdout), format!("{arch}\n9dd4e461268c8034f5c8564e155c67a6  -\n"));
    }
}

#[test]
fn builds_side_by_side() {
    places::set_runner(RUNNER);
    progress::set_quiet(true);
    let arch = Arch::Riscv64;
    let toolchain = setup::toolchain(arch).expect("a compiler");
    let build = || (0..4).map(|_| cargo::kernel(arch, toolchain, false).expect("it builds")).last();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(build)).collect();
        let images: Vec<_> = threads.into_iter().map(|thread| thread.join().expect("it ends")).collect();
        assert!(images.iter().all(|image| *image == images[0] && image.is_some()));
    });
}

#[test]
fn ctrl_c_ends_the_guest_and_restores_the_terminal() {
    for arch in Arch::ALL {
        let mut person =
            Person::start(&["exec", "--arch", arch.name(), "--", "sh", "-c", "echo up; sleep 1000"]);
        person.console.expect("up");
        person.console.send(CTRL_C);
        let (status, text) = person.leave();
        assert_eq!(status.code(), Some(130), "{arch}: {text}");
    }
}

#[test]
fn wrong_options_are_explained() {
    let check = |arguments: &[&str], code: i32, words: &str| {
        let output = Command::new(RUNNER).args(arguments).output().expect("it starts");
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {message}");
        assert!(message.contains(words), "{arguments:?}: {words} in {message}");
    };
    check(&["exec"], 2, "-- <CMD>");
    check(&["exec", "--arch", "z80", "--", "true"], 2, "riscv64, x86_64");
    check(&["exec", "--smp", "0", "--", "true"], 2, "1..=512");
    check(&["exec", "--timeout", "soon", "--", "true"], 2, "a number of seconds is wanted");
    check(&["exec", "--env", "A", "--", "true"], 2, "NAME=VALUE is wanted");
    check(&["exec", "--kernel", "/missing", "--", "true"], 125, "there is no kernel /missing");
    check(&["exec", "--busybox", "/missing", "--", "true"], 125, "/missing");
    check(&["exec", "--qemu", "-nonsense", "--", "true"], 125, "-nonsense");
    check(&["exec", "--mem", "lots", "--", "true"], 125, "lots");
    check(&["bot"], 2, "unrecognized subcommand");
}

#[test]
fn help_shows_examples() {
    for command in [&[][..], &["boot"], &["exec"], &["path"], &["bench"], &["setup"]] {
        let output = Command::new(RUNNER).args(command).arg("--help").output().expect("it starts");
        assert!(output.status.success());
        assert!(text(&output.stdout).contains("Examples:"), "{command:?}");
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
