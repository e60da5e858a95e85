//! The contract between those who hold pages and a page-replacement policy.
//!
//! **Problem.** Which page goes when memory is short is an algorithm one wants to read in one sitting, compare
//! on recorded traces, and replace while the machine runs. How a page goes is not. So the two meet here.
//!
//! **Interface.** A policy implements [`Reclaim`]. The one who holds the pages calls it so:
//!
//! ```text
//!   access of key k
//!     held as page p:  policy.hit(p)
//!     not held:        while there is no room:  victim = policy.evict(Some(k))   p of the victim is free now
//!                      policy.insert(p, k)
//!   p goes for another reason (truncation): policy.remove(p)
//!   a victim that cannot go (dirty, in use): policy.keep(p, k)
//! ```
//!
//! A kernel reclaims in advance, in batches, and calls `evict(None)`; a simulator names the key that room is
//! needed for, which is what the papers assume. Hits may be reported late and only once for several in a row.
//!
//! **Idea.** A policy speaks of [`Page`]s, small dense numbers, so that its data about held pages is a `Vec`;
//! and of [`Key`]s, which name contents, so that it knows a page again that it has seen go. It allocates in
//! [`Reclaim::reserve`] only. It proposes: a wrong answer costs time and never a page, because the holder
//! checks each victim. [`Lists`] and [`Ghosts`] are what nearly all policies are made of.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod ghosts;
mod lists;
mod share;
#[cfg(test)]
mod tests;

pub use ghosts::Ghosts;
pub use lists::Lists;
pub use share::private_share;

use alloc::boxed::Box;

/// A page that is held: a number that the holder gave it, used again when it has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Page(pub u32);

/// What a page contains: a block number, or a hash of file and page number. Two contents with one key do no
/// harm beyond a worse choice.
pub type Key = u64;

/// There is no memory; nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

/// A page-replacement policy. No method but [`Reclaim::reserve`] allocates; calls about pages that are not
/// held, or numbers beyond what was reserved, are ignored.
pub trait Reclaim: Send {
    /// Pages will have numbers below `pages`, and `capacity` of them fit. Called before the first
    /// insertion and whenever one of the two changes.
    fn reserve(&mut self, pages: usize, capacity: usize) -> Result<(), OutOfMemory>;

    /// A page that was missed has come.
    fn insert(&mut self, page: Page, key: Key);

    /// A held page was used.
    fn hit(&mut self, page: Page);

    /// Chooses a page and forgets it, but for what it remembers of its key. `incoming` is the key that room is
    /// needed for, where that is known. `None` exactly when no page is held.
    fn evict(&mut self, incoming: Option<Key>) -> Option<Page>;

    /// The victim cannot go: it is held again, as one that was used.
    fn keep(&mut self, page: Page, key: Key);

    /// The page has gone for another reason; its contents will not come back.
    fn remove(&mut self, page: Page);

    /// Pages held.
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Numbers to look at, each with a name: lengths of lists, parameters that adapt.
    fn stats(&self, each: &mut dyn FnMut(&'static str, u64));
}

/// A policy by name.
#[derive(Clone, Copy)]
pub struct PolicyInfo {
    /// As `/sys/kernel/mm/reclaim/policy` shows it.
    pub name: &'static str,
    /// One line for a reader.
    pub title: &'static str,
    /// Where it was published.
    pub source: &'static str,
    /// Makes one that holds nothing and has reserved nothing.
    pub make: fn() -> Box<dyn Reclaim>,
}

impl core::fmt::Debug for PolicyInfo {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name)
    }
}
