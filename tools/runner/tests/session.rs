//! A person at the shell: job control, editors, and every way to leave.

mod support;

use runner::arch::Arch;
use runner::testing::Target;
use support::{Console, PROMPT, Person, SIZE};

const CTRL_A: &str = "\x01";
const CTRL_C: &str = "\x03";
const CTRL_D: &str = "\x04";
const CTRL_Z: &str = "\x1a";
const CTRL_BACKSLASH: &str = "\x1c";
const ESCAPE: &str = "\x1b";

/// Both architectures, one of them also with debug checks.
fn targets() -> [Target; 3] {
    let target = |arch, debug| Target { arch, debug };
    [target(Arch::Riscv64, false), target(Arch::X86_64, false), target(Arch::Riscv64, true)]
}

/// A person at the prompt of a fresh machine.
fn boot(target: Target, more: &[&str]) -> Person {
    let mut arguments = vec!["boot", "--arch", target.arch.name()];
    arguments.extend(target.debug.then_some("--debug"));
    arguments.extend(more);
    let mut person = Person::start(&arguments);
    person.console.expect(PROMPT);
    person
}

/// Runs `first`, then `script` in a subshell; waits until the second begins: keys that come earlier are for the line
/// editor, or come before a trap is set.
fn start(console: &mut Console, first: &str, script: &str) {
    console.send(&format!("({first}; echo be\"\"gun; {script})\n"));
    console.expect("begun\n");
}

#[test]
fn a_session_has_job_control() {
    for target in targets() {
        let mut person = boot(target, &[]);
        let console = &mut person.console;
        let who = console.ask("who");
        assert!(who.contains("root") && who.contains("ttyS0"), "{target}: {who}");
        for (key, status) in [(CTRL_C, "130"), (CTRL_BACKSLASH, "131")] {
            start(console, "true", "exec sleep 100");
            console.send(key);
            console.expect(PROMPT);
            assert_eq!(console.ask("echo $?"), status, "{target}");
        }

        // The job says when it is in the foreground: only then are keys for it.
        start(console, "trap 'echo wo\"\"ken' CONT", "while true; do sleep 0.1; done");
        console.send(CTRL_Z);
        console.expect("Stopped");
        console.expect(PROMPT);
        assert!(console.ask("jobs").contains("Stopped"), "{target}");
        // The job says so before the shell's next prompt, or after it.
        if !console.ask("bg").contains("woken") {
            console.expect("woken");
        }
        let jobs = console.ask("jobs");
        assert!(jobs.contains("Running"), "{target}: {jobs}");
        console.ask("kill -STOP %1; sleep 1");
        for command in ["fg", "fg %1"] {
            console.send(&format!("{command}\n"));
            console.expect("woken");
            console.send(CTRL_Z);
            console.expect("Stopped");
            console.expect(PROMPT);
        }
        console.send("fg\n");
        console.expect("woken");
        console.send(CTRL_C);
        console.expect(PROMPT);
        assert_eq!(console.ask("jobs"), "", "{target}");

        // A background job that wants to read is stopped.
        console.ask("cat &");
        let stopped = (0..20).any(|_| console.ask("sleep 1; jobs").contains("Stopped (tty input)"));
        assert!(stopped, "{target}: a background job read the terminal");
        console.ask("kill %1");
        // A pipeline is one job: the signal reaches all of it.
        start(console, "true", "sleep 100 | sleep 100 | cat");
        console.send(CTRL_C);
        console.expect(PROMPT);
        // The prompt waits for the shell that made it, not for the others' ends.
        let gone = (0..20).any(|_| !console.ask("sleep 1; ps").contains("sleep 100"));
        assert!(gone, "{target}");

        // Ctrl-D ends input, and the shell with it; the machine is then switched off.
        console.send("echo re\"\"ady; cat; echo aft\"\"er\n");
        console.expect("ready\n");
        console.send("line\n");
        console.expect("line\nline\n");
        console.send(CTRL_D);
        console.expect("after\n");
        console.expect(PROMPT);
        console.send(CTRL_D);
        let (status, text) = person.leave();
        assert!(status.success(), "{target}: {status}: {text}");
    }
}

#[test]
fn programs_that_use_the_whole_screen() {
    for target in targets() {
        let mut person = boot(target, &[]);
        let console = &mut person.console;
        assert_eq!(console.ask("stty size"), format!("{} {}", SIZE.0, SIZE.1), "{target}");
        assert_eq!(console.ask("tty"), "/dev/ttyS0", "{target}");
        let all = console.ask("stty -a");
        for words in ["rows 30", "columns 100", "intr = ^C", "susp = ^Z", " icanon", " echo "] {
            assert!(all.contains(words), "{target}: {words} in {all}");
        }

        console.send("vi notes\n");
        console.see("an empty file in vi", |screen| screen.contents().contains("\n~\n~\n"));
        console.send("ifirst line\nsecond line\nthird line");
        console.see("the text", |screen| screen.contents().contains("third line"));
        console.send(ESCAPE); // alone: with a letter close behind it would be another key
        console.see("command mode", |screen| screen.contents().contains("\n- notes [Modified]"));
        console.send("kdd"); // the second line goes
        console.see("two lines", |screen| !screen.contents().contains("second line"));
        console.send(":wq\n");
        console.expect(PROMPT);
        assert_eq!(console.ask("cat notes"), "first line\nthird line", "{target}");

        console.send("seq 200 | less\n");
        console.see("the first page", |screen| screen.contents().starts_with("1\n2\n3\n"));
        console.send("G");
        console.see("the last page", |screen| screen.contents().contains("\n199\n200\n"));
        console.send("q");
        console.expect(PROMPT);

        console.send("top\n");
        console.see("processes", |screen| {
            let text = screen.contents();
            text.contains("Mem: ") && text.contains("Load average: ") && text.contains("kthreadd")
        });
        console.send("q");
        console.expect(PROMPT);

        // Programs on a terminal whose size is changed are told.
        start(console, "trap 'echo to\"\"ld' WINCH", "stty rows 20 cols 60; true");
        console.expect("told");
        console.expect(PROMPT);
        assert_eq!(console.ask("stty size"), "20 60", "{target}");

        // So they are when the person's window gets another size.
        start(console, "trap 'stty size' WINCH", "while true; do sleep 0.1; done");
        person.resize(25, 90);
        let console = &mut person.console;
        console.expect("25 90\n");
        console.send(CTRL_C);
        console.expect(PROMPT);
        console.send("vi notes\n");
        console.see("vi's status at the bottom", |screen| {
            screen.rows(0, 90).nth(24).is_some_and(|row| row.contains("notes"))
        });
        person.resize(20, 60);
        let console = &mut person.console;
        console.see("vi's status at the new bottom", |screen| {
            screen.rows(0, 60).nth(19).is_some_and(|row| row.contains("notes"))
        });
        console.send(":q\n");
        console.expect(PROMPT);

        console.send("poweroff\n");
        let (status, text) = person.leave();
        assert!(status.success(), "{target}: {status}: {text}");
    }
}

#[test]
fn every_way_to_leave_restores_the_terminal() {
    let target = Target { arch: Arch::X86_64, debug: false };
    for leave in ["exit\n", "reboot\n", "poweroff -f\n"] {
        let mut person = boot(target, &["--machine", "microvm"]);
        person.console.send(leave);
        let (status, text) = person.leave();
        assert!(status.success(), "{leave:?}: {status}: {text}");
    }
    // Even from a machine that has stopped.
    for before in ["", "halt -f\n"] {
        let mut person = boot(target, &[]);
        person.console.send(before);
        if !before.is_empty() {
            person.console.expect("System halted");
        }
        person.console.send(CTRL_A);
        person.console.send("x");
        let (status, _) = person.leave();
        assert!(status.success(), "{before:?}: {status}");
    }
}
