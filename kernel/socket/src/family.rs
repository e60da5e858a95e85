//! The table of address families.

use crate::{Party, Socket};
use abi::Errno;
use abi::errno::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use sync::SpinLock;
use sync::levels::DeviceTable;

/// An address family: what makes sockets of it.
pub trait Family: Sync {
    /// `AF_*`.
    fn number(&self) -> u16;

    /// socket(2). ESOCKTNOSUPPORT, EPROTONOSUPPORT.
    fn create(&self, kind: u32, protocol: i32, who: &Party) -> Result<Arc<dyn Socket>>;

    /// socketpair(2). EOPNOTSUPP where there is no such thing.
    fn pair(&self, kind: u32, protocol: i32, who: &Party) -> Result<(Arc<dyn Socket>, Arc<dyn Socket>)> {
        let _ = (kind, protocol, who);
        Err(Errno::EOPNOTSUPP)
    }
}

static FAMILIES: SpinLock<Vec<&'static dyn Family>, DeviceTable> = SpinLock::new(Vec::new());

/// Makes a family known. At boot, or when its module is loaded.
pub fn register_family(family: &'static dyn Family) {
    FAMILIES.lock().push(family);
}

/// The family of a number. EAFNOSUPPORT.
pub fn find_family(number: i32) -> Result<&'static dyn Family> {
    let found = FAMILIES.lock().iter().copied().find(|family| i32::from(family.number()) == number);
    found.ok_or(Errno::EAFNOSUPPORT)
}
