//! The person's terminal: its state kept and given back, its size.

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::stdio;
use rustix::termios::{OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use signal_hook::consts::SIGWINCH;
use signal_hook::iterator::Signals;

use crate::cleanup;

/// A terminal's state at some moment.
#[derive(Clone)]
pub struct Terminal {
    attributes: Option<Termios>,
    /// QEMU makes its standard descriptors non-blocking, and they are ours and the shell's as well.
    flags: [Option<OFlags>; 3],
}

impl Terminal {
    /// Notes the state, to be restored however this process ends.
    pub fn save() -> Self {
        let terminal = Self {
            attributes: tcgetattr(stdio::stdin()).ok(),
            flags: [
                fcntl_getfl(stdio::stdin()).ok(),
                fcntl_getfl(stdio::stdout()).ok(),
                fcntl_getfl(stdio::stderr()).ok(),
            ],
        };
        let copy = terminal.clone();
        cleanup::at_exit(move || copy.restore());
        terminal
    }

    /// Stops the terminal from adding a carriage return to a line feed: the guest's terminal does that, when it
    /// should. (QEMU switches the rest to raw, and leaves this.)
    pub fn pass_line_feeds(&self) {
        if let Some(mut attributes) = self.attributes.clone() {
            attributes.output_modes.remove(OutputModes::ONLCR);
            let _ = tcsetattr(stdio::stdin(), OptionalActions::Drain, &attributes);
        }
    }

    /// Back to the noted state. What is not a terminal has none.
    pub fn restore(&self) {
        if let Some(attributes) = &self.attributes {
            let _ = tcsetattr(stdio::stdin(), OptionalActions::Drain, attributes);
        }
        let descriptors = [stdio::stdin(), stdio::stdout(), stdio::stderr()];
        for (descriptor, flags) in descriptors.into_iter().zip(self.flags) {
            if let Some(flags) = flags {
                let _ = fcntl_setfl(descriptor, flags);
            }
        }
    }

    /// Calls `changed` with rows and columns, now and whenever they change, on a thread of its own until it says no.
    /// Does nothing when there is no terminal.
    pub fn follow_size(mut changed: impl FnMut(u16, u16) -> bool + Send + 'static) {
        let Ok(mut signals) = Signals::new([SIGWINCH]) else { return };
        std::thread::spawn(move || {
            let mut tell = || match tcgetwinsize(stdio::stdout()) {
                Ok(size) => changed(size.ws_row, size.ws_col),
                Err(_) => false,
            };
            if tell() {
                let _ = signals.forever().all(|_| tell());
            }
        });
    }

    /// `rows cols TERM`, for the guest; nothing when there is no terminal.
    pub fn describe(&self) -> Option<String> {
        let size = isatty(stdio::stdout()).then(|| tcgetwinsize(stdio::stdout()).ok()).flatten()?;
        let kind = std::env::var("TERM").ok().filter(|kind| !kind.contains(char::is_whitespace));
        Some(format!("{} {} {}", size.ws_row, size.ws_col, kind.as_deref().unwrap_or("linux")))
    }
}
