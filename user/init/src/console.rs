//! The console's terminal: the one that `console=` names last, which can become a controlling terminal;
//! `/dev/console` itself cannot, on Linux.

use alloc::ffi::CString;
use alloc::vec::Vec;

use rt::io::Fd;
use rt::{Result, fs, nr, tty};

/// Opens it for reading and writing, without making it anyone's controlling terminal.
pub fn open() -> Result<Fd> {
    let flags = nr::O_RDWR | nr::O_NOCTTY | nr::O_CLOEXEC;
    from_command_line()
        .and_then(|path| fs::open(&path, flags, 0).ok())
        .map(Ok)
        .unwrap_or_else(|| fs::open(c"/dev/ttyS0", flags, 0).or_else(|_| fs::open(c"/dev/console", flags, 0)))
}

/// `/dev/X` for the last `console=X[,options]` of the kernel's command line.
fn from_command_line() -> Option<CString> {
    let line = fs::read_file(c"/proc/cmdline").ok()?;
    let value = line
        .split(|b| b.is_ascii_whitespace())
        .filter_map(|word| word.strip_prefix(b"console="))
        .next_back()?;
    let name = value.split(|&b| b == b',').next()?;
    CString::new([b"/dev/", name].concat()).ok()
}

/// Bytes pass unchanged in both directions.
pub fn make_raw(fd: Fd) {
    if let Ok(mut attributes) = tty::attributes(fd) {
        tty::make_raw(&mut attributes);
        let _ = tty::set_attributes(fd, &attributes); // a kernel without termios passes bytes unchanged anyway
    }
}

/// What the runner says about the person's terminal.
pub struct Terminal {
    pub rows: u16,
    pub cols: u16,
    /// The value of `TERM`.
    pub kind: Vec<u8>,
}

/// Reads and removes the runner's note: `rows cols TERM`.
pub fn described_terminal() -> Option<Terminal> {
    let content = fs::read_file(c"/.ochre/terminal").ok()?;
    let _ = fs::unlink(c"/.ochre/terminal");
    let _ = fs::rmdir(c"/.ochre");
    let mut words = content.trim_ascii().split(|&b| b == b' ');
    let mut number = || core::str::from_utf8(words.next()?).ok()?.parse().ok();
    let (rows, cols) = (number()?, number()?);
    Some(Terminal { rows, cols, kind: words.next()?.to_vec() })
}
