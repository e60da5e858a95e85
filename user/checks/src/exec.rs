//! Running programs.

use crate::names::scratch;
use crate::{Check, Outcome, ensure, equal};
use alloc::ffi::CString;
use alloc::vec::Vec;
use core::ffi::CStr;
use rt::nr::*;
use rt::process::Strings;
use rt::signal::{self, Action};
use rt::{Errno, Result, env, fs, io, process, syscall};

pub const CHECKS: &[Check] = &[
    ("errors", errors),
    ("arguments", arguments),
    ("script", script),
    ("script_nesting", script_nesting),
    ("close_on_exec", close_on_exec),
    ("signals_reset", signals_reset),
    ("damaged_programs", damaged_programs),
    ("auxiliary_vector", auxiliary_vector),
    ("proc_exe", proc_exe),
    ("from_a_thread", from_a_thread),
    ("by_descriptor", by_descriptor),
    ("too_many_arguments", too_many_arguments),
];

fn no_env() -> Strings<'static> {
    Strings::new([])
}

/// The standard output and exit code of a program.
fn output(path: &CStr, args: &[&CStr], vars: &[&CStr]) -> Result<(Vec<u8>, Option<i32>)> {
    let (read, write) = io::pipe(O_CLOEXEC)?;
    let (argv, envp) = (Strings::new(args.iter().copied()), Strings::new(vars.iter().copied()));
    let Some(pid) = process::fork()? else {
        let _ = io::dup2(write, 1);
        process::execve(path, &argv, &envp);
        process::exit(126)
    };
    io::close(write)?;
    let mut text = Vec::new();
    let mut buffer = [0; 512];
    loop {
        match io::read(read, &mut buffer)? {
            0 => break,
            n => text.extend_from_slice(&buffer[..n]),
        }
    }
    io::close(read)?;
    Ok((text, process::wait_exit(pid)?.exit_code()))
}

fn errors() -> Outcome {
    scratch()?;
    let argv = Strings::new([c"x"]);
    equal!(process::execve(c"no", &argv, &no_env()), Errno::ENOENT);
    equal!(process::execve(c"/tmp", &argv, &no_env()), Errno::EACCES);
    io::close(fs::open(c"plain", O_CREAT | O_WRONLY, 0o644)?)?;
    equal!(process::execve(c"plain", &argv, &no_env()), Errno::EACCES);
    fs::chmod(c"plain", 0o755)?;
    equal!(process::execve(c"plain", &argv, &no_env()), Errno::ENOEXEC);
    equal!(process::execve(c"plain/x", &argv, &no_env()), Errno::ENOTDIR);
    equal!(process::execve(c"", &argv, &no_env()), Errno::ENOENT);
    Ok(())
}

fn arguments() -> Outcome {
    let (text, code) =
        output(c"/bin/sh", &[c"sh", c"-c", c"echo \"$0|$1|$A\"; exit 3", c"zero", c"one  x"], &[c"A=b c"])?;
    equal!((text.as_slice(), code), (b"zero|one  x|b c\n".as_slice(), Some(3)));
    Ok(())
}

fn write_program(path: &CStr, content: &[u8]) -> Result<()> {
    let fd = fs::open(path, O_CREAT | O_WRONLY | O_TRUNC, 0o755)?;
    io::write_all(fd, content)?;
    io::close(fd)
}

fn script() -> Outcome {
    scratch()?;
    write_program(c"s", b"#!/bin/sh -e\necho \"$0 $*\"\n")?;
    equal!(output(c"./s", &[c"ignored", c"a", c"b"], &[])?.0, b"./s a b\n");
    write_program(c"t", b"#! /no/such/interpreter\n")?;
    equal!(process::execve(c"t", &Strings::new([c"t"]), &no_env()), Errno::ENOENT);
    write_program(c"u", b"#!\n")?;
    equal!(process::execve(c"u", &Strings::new([c"u"]), &no_env()), Errno::ENOEXEC);
    Ok(())
}

fn script_nesting() -> Outcome {
    scratch()?;
    write_program(c"s0", b"#!/bin/sh\necho done\n")?;
    for level in 1..8u8 {
        let name = CString::new([b's', b'0' + level]).map_err(|_| Errno::EINVAL)?;
        write_program(&name, &[b"#!./s".as_slice(), &[b'0' + level - 1], b"\n"].concat())?;
    }
    equal!(output(c"./s3", &[c"s3"], &[])?.0, b"done\n");
    equal!(process::execve(c"./s7", &Strings::new([c"s7"]), &no_env()), Errno::ELOOP);
    Ok(())
}

fn close_on_exec() -> Outcome {
    let keep = io::fcntl(0, F_DUPFD, 50)?;
    let gone = io::fcntl(0, F_DUPFD_CLOEXEC, 60)?;
    equal!((keep, gone), (50, 60));
    let script = c"[ -e /proc/self/fd/50 ] && echo kept; [ -e /proc/self/fd/60 ] || echo closed";
    equal!(output(c"/bin/sh", &[c"sh", c"-c", script], &[])?.0, b"kept\nclosed\n");
    Ok(())
}

extern "C" fn ignore(_: i32) {}

/// Handlers are reset, ignored signals and the mask stay.
fn signals_reset() -> Outcome {
    signal::set_action(SIGUSR1, Action::Handle(ignore), 0, 0)?;
    signal::set_action(SIGUSR2, Action::Ignore, 0, 0)?;
    signal::mask(0, signal::bit(SIGWINCH))?;
    // A shell would clear the mask: the program itself looks.
    let (text, _) = output(c"/bin/grep", &[c"grep", c"^Sig", c"/proc/self/status"], &[])?;
    let field = |name: &str| {
        let text = core::str::from_utf8(&text).unwrap_or("");
        let line = text.lines().find(|line| line.starts_with(name))?;
        u64::from_str_radix(line.split_ascii_whitespace().nth(1)?, 16).ok()
    };
    let bits = |set: Option<u64>| {
        set.unwrap_or(0) & (signal::bit(SIGUSR1) | signal::bit(SIGUSR2) | signal::bit(SIGWINCH))
    };
    equal!(bits(field("SigCgt")), 0);
    equal!(bits(field("SigIgn")), signal::bit(SIGUSR2));
    equal!(bits(field("SigBlk")), signal::bit(SIGWINCH));
    Ok(())
}

/// A program that ends at once with status 0, and can do nothing else wherever a damaged header makes it begin. (Our own
/// would do: but its code has calls of kill(2), and to begin at one of them killed more than the program.)
fn small_program() -> Result<Vec<u8>> {
    const BASE: u64 = 0x40_0000;
    const HEADERS: usize = 64 + 4 * 56;
    #[cfg(target_arch = "x86_64")] // mov $231, %eax; xor %edi, %edi; syscall
    const CODE: [u8; 12] = [0xb8, 0xe7, 0, 0, 0, 0x31, 0xff, 0x0f, 0x05, 0xcc, 0xcc, 0xcc];
    #[cfg(target_arch = "riscv64")] // li a7, 94; li a0, 0; ecall
    const CODE: [u8; 12] = [0x93, 0x08, 0xe0, 0x05, 0x13, 0x05, 0, 0, 0x73, 0, 0, 0];
    let len = (HEADERS + CODE.len()) as u64;
    // Machine and flags are ours.
    let mut program = fs::read_file(c"/proc/self/exe")?;
    program.truncate(64);
    program[16] = 2; // ET_EXEC
    program[24..32].copy_from_slice(&(BASE + HEADERS as u64).to_le_bytes());
    program[32..40].copy_from_slice(&64u64.to_le_bytes());
    program[40..48].fill(0);
    for (at, value) in [(52, 64u16), (54, 56), (56, 4), (58, 64), (60, 0), (62, 0)] {
        program[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    let (load, note, stack) = (1, 4, 0x6474_e551);
    for (kind, rights, at, in_file, in_memory) in [
        (load, 5u32, BASE, len, len),
        (load, 6, BASE + 0x2000, len, len + 0x1000),
        (note, 4, 0, 0, 0),
        (stack, 6, 0, 0, 0),
    ] {
        program.extend([kind, rights].map(u32::to_le_bytes).concat());
        program.extend([0, at, at, in_file, in_memory, 0x1000].map(u64::to_le_bytes).concat());
    }
    program.extend(CODE);
    Ok(program)
}

/// Programs with a damaged header are refused or killed, whatever the damage.
fn damaged_programs() -> Outcome {
    scratch()?;
    let whole = small_program()?;
    let argv = Strings::new([c"p"]);
    let null = fs::open(c"/dev/null", O_WRONLY, 0)?;
    let try_one = |content: &[u8]| -> Result<process::Status> {
        write_program(c"p", content)?;
        process::in_child(|| {
            let _ = io::dup2(null, 1);
            // What is damaged may run for ever; the timer outlives the exec.
            let limit = [0u64, 0, 1, 0];
            // SAFETY: 1. the kernel reads one itimerval.
            let _ = unsafe { rt::syscall!(__NR_setitimer, 0, limit.as_ptr(), 0) };
            process::execve(c"p", &argv, &no_env());
            99
        })
    };
    equal!(try_one(&whole)?.exit_code(), Some(0));
    for len in [0, 3, 4, 16, 63, 64, 65, 120, 287] {
        ensure!(try_one(&whole[..len])?.exit_code() != Some(0), "a program cut at {len} ran");
    }
    for at in (4..64).chain(64..64 + 56 * 4) {
        let mut damaged = whole.clone();
        for value in [0, 0xff, 0x80] {
            damaged[at] = value;
            try_one(&damaged)?;
        }
    }
    Ok(())
}

fn auxiliary_vector() -> Outcome {
    equal!(env::auxval(6), Some(4096));
    for kind in [3, 4, 5, 9, 11, 12, 13, 14, 16, 17, 23, 25, 31] {
        ensure!(env::auxval(kind).is_some(), "AT_ {kind} is missing");
    }
    equal!(env::auxval(4), Some(56));
    let random = env::auxval(25).unwrap_or(0);
    // SAFETY: 1. AT_RANDOM points to 16 bytes.
    let random = unsafe { *(random as *const [u8; 16]) };
    ensure!(random != [0; 16], "AT_RANDOM is zero");
    Ok(())
}

fn proc_exe() -> Outcome {
    scratch()?;
    let content = fs::read_file(c"/proc/self/exe")?;
    equal!(&content[..4], b"\x7fELF");
    write_program(c"s", b"#!/bin/sh\nreadlink /proc/$$/exe\n")?;
    let (script, _) = output(c"./s", &[c"s"], &[])?;
    let (shell, _) = output(c"/bin/sh", &[c"sh", c"-c", c"readlink /proc/$$/exe"], &[])?;
    equal!(script, shell);
    Ok(())
}

/// exec in a thread ends the others, and the process keeps its number.
fn from_a_thread() -> Outcome {
    let (read, write) = io::pipe(0)?;
    let Some(pid) = process::fork()? else {
        let _ = io::dup2(write, 1);
        let thread = rt::thread::spawn(|| {
            let argv = Strings::new([c"sh", c"-c", c"echo $$"]);
            process::execve(c"/bin/sh", &argv, &no_env());
        });
        rt::time::sleep_ns(50_000_000_000);
        drop(thread);
        process::exit(1)
    };
    equal!(process::wait_exit(pid)?.exit_code(), Some(0));
    let mut text = [0; 32];
    let len = io::read(read, &mut text)?;
    equal!(core::str::from_utf8(&text[..len]).unwrap_or("").trim().parse(), Ok(pid));
    Ok(())
}

fn by_descriptor() -> Outcome {
    let fd = fs::open(c"/bin/sh", O_RDONLY | O_CLOEXEC, 0)?;
    let argv = Strings::new([c"sh", c"-c", c"exit 4"]);
    let status = process::in_child(|| {
        // SAFETY: 1. the strings and vectors are terminated.
        let _ = unsafe {
            syscall!(__NR_execveat, fd, c"".as_ptr(), argv.as_ptr(), no_env().as_ptr(), AT_EMPTY_PATH)
        };
        126
    })?;
    equal!(status.exit_code(), Some(4));
    Ok(())
}

fn too_many_arguments() -> Outcome {
    let long = CString::new(alloc::vec![b'a'; 131_072]).map_err(|_| Errno::EINVAL)?;
    equal!(process::execve(c"/bin/sh", &Strings::new([long.as_c_str()]), &no_env()), Errno::E2BIG);
    let longest = CString::new(alloc::vec![b'a'; 131_071]).map_err(|_| Errno::EINVAL)?;
    let script = c"echo ${#0}";
    let (text, _) = output(c"/bin/sh", &[c"sh", c"-c", script, &longest], &[])?;
    equal!(text, b"131071\n");
    let many = Strings::new((0..200).map(|_| longest.as_c_str()));
    equal!(process::execve(c"/bin/sh", &many, &no_env()), Errno::E2BIG);
    Ok(())
}
