//! What of a path is still to be walked, with the texts of symbolic links in front.
//!
//! ```text
//!   path   a/link/b        link -> x/y
//!   next   a, link                          left: b
//!   push(x/y)                               left: x/y, then b
//!   next   x, y, b
//! ```

use crate::component;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// One component and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Component<'a> {
    pub name: &'a [u8],
    pub hash: u64,
    /// Nothing but slashes follows.
    pub last: bool,
    /// A slash follows: whatever this names must be a directory.
    pub slash: bool,
}

#[derive(Debug)]
struct Link {
    text: Arc<[u8]>,
    at: usize,
}

/// The rest of a path.
#[derive(Debug)]
pub struct Cursor<'a> {
    path: &'a [u8],
    at: usize,
    /// Texts of links in front of the path, innermost last; none is walked to its end.
    links: Vec<Link>,
    seed: u64,
}

impl<'a> Cursor<'a> {
    /// The whole of `path`; `seed` keys the hashes.
    pub fn new(path: &'a [u8], seed: u64) -> Cursor<'a> {
        let mut cursor = Cursor { path, at: 0, links: Vec::new(), seed };
        cursor.at = skip_slashes(path, 0);
        cursor
    }

    /// The next component; `None` at the end.
    #[inline]
    pub fn next_component(&mut self) -> Option<Component<'_>> {
        if !self.links.is_empty() {
            self.drop_finished();
        }
        let nested = self.links.len() > 1;
        let Some(link) = self.links.last_mut() else {
            return take(self.path, &mut self.at, self.seed, true);
        };
        let outermost = !nested && self.at >= self.path.len();
        take(&link.text, &mut link.at, self.seed, outermost)
    }

    fn drop_finished(&mut self) {
        while self.links.last().is_some_and(|link| link.at >= link.text.len()) {
            self.links.pop();
        }
    }

    /// Puts a link's text in front of what is left.
    pub fn push(&mut self, text: Arc<[u8]>) {
        self.drop_finished();
        let at = skip_slashes(&text, 0);
        self.links.push(Link { text, at });
    }

    /// Whether nothing is left.
    pub fn is_done(&self) -> bool {
        self.at >= self.path.len() && self.links.iter().all(|link| link.at >= link.text.len())
    }
}

fn skip_slashes(text: &[u8], mut at: usize) -> usize {
    while text.get(at) == Some(&b'/') {
        at += 1;
    }
    at
}

/// Takes a component off `text`; `outermost`: nothing lies behind this text.
#[inline]
fn take<'t>(text: &'t [u8], at: &mut usize, seed: u64, outermost: bool) -> Option<Component<'t>> {
    let rest = text.get(*at..)?;
    if rest.is_empty() {
        return None;
    }
    let (len, hash) = component(seed, rest);
    let name = rest.get(..len)?;
    let end = *at + len;
    *at = skip_slashes(text, end);
    let done = *at >= text.len();
    Some(Component { name, hash, last: outermost && done, slash: !done || *at > end || !outermost })
}
