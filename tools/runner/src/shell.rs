//! Running the host's programs.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// The file of `program` in `PATH`.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|file| file.is_file())
}

/// Whether `program` is in `PATH`.
pub fn exists(program: &str) -> bool {
    find(program).is_some()
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// The command's standard output; an error has its standard error.
pub fn output(command: &mut Command) -> Result<String> {
    let name = name(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {name}"))?;
    if !output.status.success() {
        bail!("{name} failed ({}):\n{}", output.status, String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs the command for its effect, at most `limit` long; an error has what it wrote last.
pub fn run_for(command: &mut Command, limit: Duration) -> Result<()> {
    let name = name(command);
    let (mut reader, writer) = std::io::pipe()?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    // `command` holds the pipe's write ends, and would keep the reader from its end.
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let log = std::thread::spawn(move || {
        let mut log = Vec::new();
        let _ = reader.read_to_end(&mut log); // what was read until an error is still worth showing
        String::from_utf8_lossy(&log).into_owned()
    });
    let deadline = Instant::now() + limit;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            bail!("{name} did not end within {} s", limit.as_secs());
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    if status.success() {
        return Ok(());
    }
    let log = log.join().unwrap_or_default();
    let tail: Vec<&str> = log.lines().rev().take(15).collect();
    bail!("{name} failed ({status}):\n{}", tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
}
