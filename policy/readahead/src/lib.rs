//! Read-ahead: how much of a file to read beyond what was asked for.
//!
//! **Problem.** A device takes nearly as long for one page as for thirty-two. A program that reads a file from
//! front to back should find every page there already; one that reads here and there should not have the
//! cache filled with pages it never looks at.
//!
//! **Interface.** An open file has a [`Window`]. The cache calls [`Window::on_miss`] when a page is absent and
//! [`Window::on_mark`] when a page is used that carries the mark; both answer with a [`Plan`]: which pages
//! to read, and which of them gets the mark. What the cache holds is a question asked through a closure,
//! which is called only where the answer matters. No call allocates.
//!
//! **Idea.** Linux's on-demand read-ahead (Wu Fengguang, "Sequential File Prefetching in Linux", 2008). The window
//! doubles while it is right. Its mark lies where the program still has `async_size` pages in front of
//! itself, so that the next window is read while this one is used.
//!
//! ```text
//!           |<----- async_size ---->|
//!   |-------#=======================|
//!   start   mark                    start + size
//! ```
//!
//! A miss without history is random: only what was asked for is read and the window stays what it was. A miss
//! behind cached pages is a stream that lost its window (another one used the same file), and the cached
//! run tells how long it was. The same holds for a mark that is not the window's.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// Pages read ahead at most: Linux's 128 KiB of 4 KiB pages (`read_ahead_kb`).
pub const DEFAULT_MAX_PAGES: u32 = 32;

/// What to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plan {
    /// The first page.
    pub start: u64,
    /// How many; those that are cached already are passed over.
    pub pages: u32,
    /// The page whose use is reported through [`Window::on_mark`].
    pub mark: Option<u64>,
}

impl Plan {
    /// The page after the last one.
    pub fn end(&self) -> u64 {
        self.start.saturating_add(u64::from(self.pages))
    }
}

/// A file's read-ahead state. The default knows nothing yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Window {
    start: u64,
    size: u32,
    async_size: u32,
}

/// The first window of a stream: four times the request when that is small, and a power of two.
fn first_size(wanted: u32, max: u32) -> u32 {
    let size = wanted.checked_next_power_of_two().unwrap_or(max);
    if size <= max / 32 {
        size * 4
    } else if size <= max / 4 {
        size * 2
    } else {
        max
    }
}

/// The window after one of `size` pages.
fn next_size(size: u32, max: u32) -> u32 {
    if size < max / 16 {
        size * 4
    } else if size <= max / 2 {
        size * 2
    } else {
        max
    }
}

impl Window {
    /// Nothing is known yet.
    pub const DEFAULT: Window = Window { start: 0, size: 0, async_size: 0 };

    /// Page `index` is absent and needed, the first of `wanted` that the program asks for. `previous` is the
    /// last page it used. `cached_before(limit)` counts the cached pages right before `index`, to `limit`.
    /// `max` is the most pages to read ahead; 0 turns read-ahead off.
    pub fn on_miss(
        &mut self,
        index: u64,
        wanted: u32,
        max: u32,
        previous: Option<u64>,
        cached_before: impl FnOnce(u32) -> u32,
    ) -> Plan {
        let wanted = wanted.max(1);
        if max == 0 {
            return Plan { start: index, pages: wanted, mark: None };
        }
        let follows = previous.is_some_and(|last| index.wrapping_sub(last) <= 1);
        if index == 0 || wanted > max || follows {
            let size = first_size(wanted, max);
            let async_size = if size > wanted { size - wanted } else { size / 2 };
            return self.set(index, size, async_size);
        }
        let history = cached_before(max);
        if history <= wanted {
            return Plan { start: index, pages: wanted.min(max), mark: None };
        }
        // Cached from the very beginning: surely a stream.
        let history = if u64::from(history) >= index { history.saturating_mul(2) } else { history };
        self.set(index, history.saturating_add(wanted).min(max), 1)
    }

    /// The marked page `index` is used, the first of `wanted`. `absent_after(limit)` finds the first page after
    /// `index` that is not cached, if one of the next `limit` is not.
    pub fn on_mark(
        &mut self,
        index: u64,
        wanted: u32,
        max: u32,
        absent_after: impl FnOnce(u32) -> Option<u64>,
    ) -> Option<Plan> {
        if max == 0 {
            return None;
        }
        if self.size > 0 && index == self.end().saturating_sub(u64::from(self.async_size)) {
            let (start, size) = (self.end(), next_size(self.size, max));
            return Some(self.set(start, size, size));
        }
        let start = absent_after(max)?;
        let known = u32::try_from(start.saturating_sub(index)).unwrap_or(max);
        let size = next_size(known.saturating_add(wanted), max);
        Some(self.set(start, size, size))
    }

    /// The window around a page that a program touched through a mapping without a pattern: half before,
    /// half behind.
    pub fn around(&mut self, index: u64, max: u32) -> Plan {
        let start = index.saturating_sub(u64::from(max / 2));
        self.set(start, max.max(1), max / 4)
    }

    fn end(&self) -> u64 {
        self.start.saturating_add(u64::from(self.size))
    }

    fn set(&mut self, start: u64, size: u32, async_size: u32) -> Plan {
        *self = Window { start, size, async_size: async_size.min(size) };
        let mark = (self.async_size > 0).then(|| self.end() - u64::from(self.async_size));
        Plan { start, pages: size, mark }
    }
}

#[cfg(test)]
mod tests;
