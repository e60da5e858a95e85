//! What one CPU has to tell the policy and has not told yet (Linux's folio batches).

use super::lru::Victim;

/// Entries of either kind.
const SIZE: usize = 31;

/// Pages that came, and places of pages that were used.
pub(super) struct Batch {
    pages: [Option<Victim>; SIZE],
    came: usize,
    hits: [u32; SIZE],
    used: usize,
}

impl Batch {
    pub const fn new() -> Batch {
        Batch { pages: [const { None }; SIZE], came: 0, hits: [0; SIZE], used: 0 }
    }

    pub fn add(&mut self, page: Victim) {
        if let Some(entry) = self.pages.get_mut(self.came) {
            *entry = Some(page);
            self.came += 1;
        }
    }

    pub fn hit(&mut self, place: u32) {
        if let Some(entry) = self.hits.get_mut(self.used) {
            *entry = place;
            self.used += 1;
        }
    }

    pub fn is_full(&self) -> bool {
        self.came == SIZE || self.used == SIZE
    }

    /// The pages that came; taken ones leave `None`.
    pub fn pages(&mut self) -> &mut [Option<Victim>] {
        &mut self.pages[..self.came]
    }

    pub fn hits(&self) -> &[u32] {
        &self.hits[..self.used]
    }
}
