//! Names for the kernel's own addresses.
//!
//! The table is room in the image, all zeros, that the runner fills after linking (`lib/symtab` is the format):
//! addresses are known only then, and a second link with the names in it would double the time of a build. A
//! kernel that was built without the runner has no names and shows addresses.

use core::fmt;
use symtab::Symbols;

/// Room for the functions of a release build, and for those of a debug build, which inlines little.
const ROOM: usize = if cfg!(debug_assertions) { 256 << 10 } else { 112 << 10 };

/// SAFETY: 1. the runner finds it by this name, which no other item has; 2. the linker scripts put the section
/// into the read-only data, where nothing else is addressed by its place.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".symbols")]
#[used]
static OCHRE_SYMBOLS: [u8; ROOM] = [0; ROOM];

/// The table; `None` when nobody filled it.
pub fn table() -> Option<Symbols<'static>> {
    // The compiler sees zeros; what is there is decided after it.
    Symbols::parse(core::hint::black_box(&OCHRE_SYMBOLS[..]))
}

/// An address as `name+0x12/0x34`, the offset and the size of the function; in digits when it has no name.
pub struct Place(pub usize);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match table().and_then(|table| table.find(self.0 as u64)) {
            Some(found) => write!(f, "{}+{:#x}/{:#x}", found.name.as_str(), found.offset, found.size),
            None => write!(f, "{:#x}", self.0),
        }
    }
}
