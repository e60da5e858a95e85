//! Caches that are no page cache: who has one gives some of it back when asked (Linux's register_shrinker).

use abi::Errno;
use abi::errno::Result;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use sync::SpinLock;
use sync::levels::Leaf;

/// A cache.
pub trait Shrinker: Send + Sync {
    /// Gives about `pages` pages back, as far as nobody uses them; how many. Called by any allocation that may sleep,
    /// whatever locks it holds: spin locks only, and no allocation.
    fn shrink(&self, pages: usize) -> usize;
}

static SHRINKERS: SpinLock<Vec<Weak<dyn Shrinker>>, Leaf> = SpinLock::new(Vec::new());

/// From now on the cache is asked, until it is gone. It must be droppable wherever [`Shrinker::shrink`] is called.
/// ENOMEM.
pub fn add_shrinker(cache: Weak<dyn Shrinker>) -> Result<()> {
    let mut shrinkers = SHRINKERS.lock();
    shrinkers.retain(|known| known.strong_count() > 0);
    shrinkers.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    shrinkers.push(cache);
    Ok(())
}

/// Asks each cache for its share of `pages` pages; how many came free.
pub fn shrink_caches(pages: usize) -> usize {
    let count = SHRINKERS.lock().len();
    if pages == 0 || count == 0 {
        return 0;
    }
    let nth = |number: usize| -> Option<Arc<dyn Shrinker>> { SHRINKERS.lock().get(number)?.upgrade() };
    (0..count).filter_map(nth).map(|cache| cache.shrink(pages.div_ceil(count))).sum()
}
