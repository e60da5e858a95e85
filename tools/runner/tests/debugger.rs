//! `--gdb`: the machine waits, and gdb knows the kernel's names and lines.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use runner::arch::Arch;
use runner::shell;

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");

/// A gdb that knows the architecture.
fn debugger(arch: Arch) -> Option<&'static str> {
    let names = if arch.is_host() { &["gdb-multiarch", "gdb"][..] } else { &["gdb-multiarch"] };
    names.iter().copied().find(|name| shell::find(name).is_some())
}

#[test]
fn gdb_stops_the_kernel_at_a_function() {
    for arch in Arch::ALL {
        let Some(gdb) = debugger(arch) else {
            eprintln!("SKIPPED: no gdb for {arch} here (apt-get install gdb-multiarch)");
            continue;
        };
        let mut runner = Command::new(RUNNER)
            .args(["exec", "--gdb", "--arch", arch.name(), "--", "true"])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the runner starts");
        // The last line before it waits: `Waiting for: gdb KERNEL -ex 'target remote :PORT'`.
        let mut said =
            BufReader::new(runner.stderr.take().expect("it is piped")).lines().map_while(Result::ok);
        let line = said.find_map(|line| line.split_once("gdb ").map(|(_, rest)| rest.to_owned()));
        let line = line.unwrap_or_else(|| panic!("{arch}: it does not say how to attach gdb"));
        let (kernel, rest) = line.split_once(" -ex ").expect("a kernel, and a command");
        let target = rest.trim().trim_matches('\'');
        let commands =
            [target, "hbreak ochre_main", "continue", "backtrace", "info line", "delete", "detach"];
        let mut command = Command::new(gdb);
        command.args(["-nx", "-batch", kernel]).stdin(Stdio::null());
        for text in commands {
            command.args(["-ex", text]);
        }
        let output = command.output().expect("gdb ends");
        let text = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        for wanted in ["Breakpoint 1, ", "#0 ", "ochre_main", "main.rs"] {
            assert!(text.contains(wanted), "{arch}: no {wanted:?} in {text}\n{errors}");
        }
        let rest: Vec<String> = said.collect();
        let status = runner.wait().expect("it can be waited for");
        assert!(status.success(), "{arch}: {status}: {rest:?}");
    }
}
