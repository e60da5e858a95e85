//! `exec`: a program in the guest as if it were one of the host's.

use std::io::{IsTerminal, Write, stderr, stdin, stdout};
use std::time::Duration;

use anyhow::Result;

use crate::cli::ExecArgs;
use crate::guest::{Failure, Guest, Sinks};
use crate::{progress, symbols};

/// The status when the guest, not the program, failed.
pub const GUEST_FAILED: i32 = 125;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/ochre";

/// Boots, runs the program, and answers its exit status, or 125 when the guest failed.
pub fn run(args: &ExecArgs) -> Result<i32> {
    progress::set_quiet(!args.verbose && !stderr().is_terminal());
    let command = command(args);
    let mut guest = Guest::start(&args.machine, &command)?;
    guest.feed(stdin());
    let mut log = stderr();
    let sinks = Sinks {
        out: &mut stdout(),
        err: &mut stderr(),
        log: args.verbose.then_some(&mut log as &mut dyn Write),
    };
    let result = guest.follow(sinks, args.timeout.map(Duration::from_secs_f64));
    match result {
        Ok(code) => {
            guest.wait_for_end();
            Ok(code)
        }
        Err(e) => {
            report(&guest, &e, args);
            Ok(GUEST_FAILED)
        }
    }
}

fn command(args: &ExecArgs) -> wire::Command {
    let bytes = |s: &std::ffi::OsString| std::os::unix::ffi::OsStrExt::as_bytes(s.as_os_str()).to_vec();
    wire::Command {
        once: true,
        log: args.verbose,
        input: true,
        cwd: args.cwd.clone().into_bytes(),
        argv: args.command.iter().map(bytes).collect(),
        env: environment().into_iter().chain(args.env.iter().cloned()).map(String::into_bytes).collect(),
    }
}

/// What a program's environment is without further wishes.
pub fn environment() -> [String; 4] {
    let term = std::env::var("TERM").unwrap_or("linux".into());
    [PATH.to_owned(), "HOME=/root".to_owned(), "USER=root".to_owned(), format!("TERM={term}")]
}

/// The console's last words, with names for addresses, then one line about what went wrong.
fn report(guest: &Guest, error: &anyhow::Error, args: &ExecArgs) {
    let shown = match error.downcast_ref() {
        // With --verbose the console was shown as it came.
        _ if args.verbose => String::new(),
        Some(Failure::Panic(_)) => guest.panic_report(),
        Some(Failure::Boot(_) | Failure::Ended(_) | Failure::Mixed) => guest.last_words(60),
        Some(Failure::Timeout(_)) | None => String::new(),
    };
    if !shown.is_empty() {
        eprintln!("{}", symbols::annotate(guest.kernel(), &shown));
    }
    eprintln!("runner: {error:#}");
}
