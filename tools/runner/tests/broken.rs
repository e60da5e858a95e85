//! A kernel that is broken on request (`drivers/lkdtm`) notices: debug builds, one fault at a time.

use std::process::{Command, Output};

use runner::arch::Arch;

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");
const MOUNTED: &str = "mkdir -p /d; mount -t debugfs none /d";

fn run(arch: Arch, script: &str) -> Output {
    let script = format!("{MOUNTED}; {script}");
    let mut command = Command::new(RUNNER);
    command.args(["exec", "--debug", "--timeout", "60", "--arch", arch.name(), "--", "sh", "-c", &script]);
    command.output().expect("the runner ends")
}

/// An oops ends the program that met it; the machine goes on and has it in its log.
#[test]
fn an_oops_costs_one_program() {
    if std::env::var_os("OCHRE_TEST_KERNEL").is_some() {
        return;
    }
    for arch in Arch::ALL {
        for (fault, report) in [("BUG", "kernel BUG: dumptest"), ("EXCEPTION", "BUG: ")] {
            let script = format!(
                "sh -c 'echo {fault} > /d/provoke-crash/DIRECT'; echo $?; checks processes | grep -v '^ok '; dmesg"
            );
            let output = run(arch, &script);
            let out = String::from_utf8_lossy(&output.stdout);
            assert!(out.starts_with("139\n"), "{arch} {fault}: {out}");
            assert!(out.contains(", 0 failed"), "{arch} {fault}: {out}");
            assert!(out.contains(report) && out.contains("Call Trace:"), "{arch} {fault}: {out}");
        }
    }
}

/// What nobody can go on from is a panic that says what was found.
#[test]
fn checks_fire() {
    const FAULTS: [(&str, &str); 8] = [
        ("PANIC", "dumptest"),
        ("EXHAUST_STACK", "kernel stack overflow"),
        ("WRITE_AFTER_FREE", "BUG kmalloc-1k: Poison overwritten"),
        ("SLAB_LINEAR_OVERFLOW", "BUG kmalloc-1k: Right Redzone overwritten"),
        ("SLAB_FREE_DOUBLE", "BUG kmalloc-1k: Object already free"),
        ("SLEEP_IN_ATOMIC", "sleeping function called from atomic context"),
        ("LOCK_ORDER", "lock order: taking Inode (144) while holding PageTable (160)"),
        ("PREEMPT_LEAK", "preemption is off (0x1) on the way to user mode"),
    ];
    if std::env::var_os("OCHRE_TEST_KERNEL").is_some() {
        return;
    }
    for arch in Arch::ALL {
        for (fault, report) in FAULTS {
            let output = run(arch, &format!("echo {fault} > /d/provoke-crash/DIRECT"));
            let err = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(125), "{arch} {fault}: {err}");
            assert!(err.contains(report), "{arch} {fault}: {err}");
        }
    }
}
