//! Address spaces whose last reference dropped where they must not be torn down.
//!
//! Truncation holds a file's lock and looks at every space that maps the file. A process that exits
//! meanwhile can leave it the last reference, and tearing the space down closes files, whose locks
//! come before the one that is held. Such spaces wait here until the next space is made.

use crate::AddressSpace;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use sync::SpinLock;
use sync::levels::Leaf;

/// Whether the list may have something: looked at on every fork.
static ANY: AtomicBool = AtomicBool::new(false);
static WAITING: SpinLock<Vec<AddressSpace>, Leaf> = SpinLock::new(Vec::new());

/// Gives a reference up without tearing the space down here. Without memory for the list it is torn
/// down all the same: a lock-order report in debug builds is the worst that comes of it.
pub(crate) fn release(space: Arc<AddressSpace>) {
    if let Some(space) = Arc::into_inner(space) {
        let mut waiting = WAITING.lock();
        let room = waiting.try_reserve(1).is_ok();
        if room {
            waiting.push(space);
            ANY.store(true, Relaxed);
        } else {
            drop(waiting);
            drop(space);
        }
    }
}

/// Tears the waiting spaces down. Process context, no locks held.
pub(crate) fn bury() {
    if !ANY.load(Relaxed) {
        return;
    }
    ANY.store(false, Relaxed);
    let dead = core::mem::take(&mut *WAITING.lock());
    drop(dead);
}
