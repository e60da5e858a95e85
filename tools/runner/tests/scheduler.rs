//! The scheduler's watchdog, on kernels that were given policies that are wrong on purpose.

use std::process::Command;

use runner::arch::Arch;

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");

#[test]
fn a_faulty_policy_is_replaced() {
    for arch in Arch::ALL {
        let mut exec = Command::new(RUNNER);
        exec.args(["exec", "--debug", "--arch", arch.name(), "--append", "ochre.faulty_policies"]);
        // Without the policies the check has nothing to do, and passes.
        let script = "grep -q faulty-ghost /sys/kernel/sched/policy && checks lab/watchdog";
        let output = exec.args(["--", "sh", "-c", script]).output().expect("the runner starts");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{arch}: {out}{err}");
    }
}
