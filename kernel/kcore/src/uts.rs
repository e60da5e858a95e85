//! Names of the system: uname(2), sethostname(2).

use crate::Result;
use abi::Errno;
use abi::process::{MACHINE, UTS_LEN};
use sync::SpinLock;
use sync::levels::Leaf;

/// What programs take for the version of Linux: libraries compare it with the oldest they run on.
pub const RELEASE: &str = "6.12.0-ochre";
/// `#1 SMP PREEMPT` and the date, as `uname -v` shows.
pub const VERSION: &str = "#1 SMP PREEMPT";

/// One string of `struct new_utsname`.
pub type Field = [u8; UTS_LEN + 1];

struct Names {
    host: Field,
    domain: Field,
}

static NAMES: SpinLock<Names, Leaf> =
    SpinLock::new(Names { host: field(b"ochre"), domain: field(b"(none)") });

const fn field(text: &[u8]) -> Field {
    let mut out = [0; UTS_LEN + 1];
    let mut i = 0;
    while i < text.len() && i < UTS_LEN {
        out[i] = text[i];
        i += 1;
    }
    out
}

/// `struct new_utsname`: sysname, nodename, release, version, machine, domainname.
pub fn uname() -> [Field; 6] {
    let names = NAMES.lock();
    [
        field(b"Linux"),
        names.host,
        field(RELEASE.as_bytes()),
        field(VERSION.as_bytes()),
        field(MACHINE.as_bytes()),
        names.domain,
    ]
}

/// EINVAL for more than 64 bytes.
pub fn set_host(name: &[u8]) -> Result<()> {
    NAMES.lock().host = checked(name)?;
    Ok(())
}

/// EINVAL for more than 64 bytes.
pub fn set_domain(name: &[u8]) -> Result<()> {
    NAMES.lock().domain = checked(name)?;
    Ok(())
}

fn checked(name: &[u8]) -> Result<Field> {
    if name.len() > UTS_LEN { Err(Errno::EINVAL) } else { Ok(field(name)) }
}
