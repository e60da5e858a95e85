//! Doubly linked lists of pages by number: a page is in one of `N` lists or in none.
//!
//! ```text
//!   front (most recent) <-> ... <-> back (least recent)
//! ```

use crate::{Key, OutOfMemory, Page};
use alloc::vec::Vec;

const NIL: u32 = u32::MAX;
const NOWHERE: u8 = u8::MAX;

#[derive(Debug, Clone, Copy)]
struct Node {
    key: Key,
    /// Towards the back.
    next: u32,
    /// Towards the front.
    previous: u32,
    list: u8,
    mark: u8,
}

/// `N` lists over one set of nodes.
#[derive(Debug)]
pub struct Lists<const N: usize> {
    nodes: Vec<Node>,
    heads: [u32; N],
    tails: [u32; N],
    lens: [usize; N],
}

impl<const N: usize> Default for Lists<N> {
    fn default() -> Lists<N> {
        Lists::new()
    }
}

impl<const N: usize> Lists<N> {
    pub const fn new() -> Lists<N> {
        Lists { nodes: Vec::new(), heads: [NIL; N], tails: [NIL; N], lens: [0; N] }
    }

    /// Makes room for page numbers below `pages`; never gives room back.
    pub fn reserve(&mut self, pages: usize) -> Result<(), OutOfMemory> {
        let more = pages.saturating_sub(self.nodes.len());
        self.nodes.try_reserve_exact(more).map_err(|_| OutOfMemory)?;
        let empty = Node { key: 0, next: NIL, previous: NIL, list: NOWHERE, mark: 0 };
        self.nodes.resize(pages.max(self.nodes.len()), empty);
        Ok(())
    }

    /// Page numbers that there is room for.
    pub fn room(&self) -> usize {
        self.nodes.len()
    }

    pub fn len(&self, list: usize) -> usize {
        self.lens[list]
    }

    /// Pages in all lists.
    pub fn total(&self) -> usize {
        self.lens.iter().sum()
    }

    /// The list that the page is in.
    #[inline]
    pub fn list_of(&self, page: Page) -> Option<usize> {
        self.nodes.get(page.0 as usize).map(|node| node.list as usize).filter(|list| *list < N)
    }

    pub fn key(&self, page: Page) -> Key {
        self.nodes.get(page.0 as usize).map_or(0, |node| node.key)
    }

    /// The policy's byte about the page; 0 when it is inserted.
    #[inline]
    pub fn mark(&self, page: Page) -> u8 {
        self.nodes.get(page.0 as usize).map_or(0, |node| node.mark)
    }

    #[inline]
    pub fn set_mark(&mut self, page: Page, mark: u8) {
        if let Some(node) = self.nodes.get_mut(page.0 as usize) {
            node.mark = mark;
        }
    }

    /// Puts a page to the front of a list, with a mark of 0; a page that is in a list already moves.
    pub fn insert_front(&mut self, list: usize, page: Page, key: Key) {
        self.remove(page);
        if let Some(node) = self.nodes.get_mut(page.0 as usize) {
            node.key = key;
            node.mark = 0;
            self.link_front(list, page.0);
        }
    }

    /// Moves a page that is in some list to the front of `list`; its mark stays.
    #[inline]
    pub fn to_front(&mut self, list: usize, page: Page) {
        if self.remove(page).is_some() {
            self.link_front(list, page.0);
        }
    }

    /// Takes a page out; the list that it was in.
    #[inline]
    pub fn remove(&mut self, page: Page) -> Option<usize> {
        let list = self.list_of(page)?;
        let Node { next, previous, .. } = self.nodes[page.0 as usize];
        match previous {
            NIL => self.heads[list] = next,
            previous => self.nodes[previous as usize].next = next,
        }
        match next {
            NIL => self.tails[list] = previous,
            next => self.nodes[next as usize].previous = previous,
        }
        self.nodes[page.0 as usize].list = NOWHERE;
        self.lens[list] -= 1;
        Some(list)
    }

    /// The page at the back.
    pub fn back(&self, list: usize) -> Option<Page> {
        Some(self.tails[list]).filter(|tail| *tail != NIL).map(Page)
    }

    /// Takes the page at the back out.
    pub fn pop_back(&mut self, list: usize) -> Option<Page> {
        let page = self.back(list)?;
        self.remove(page);
        Some(page)
    }

    /// The neighbour towards the front.
    pub fn before(&self, page: Page) -> Option<Page> {
        self.list_of(page)?;
        Some(self.nodes[page.0 as usize].previous).filter(|at| *at != NIL).map(Page)
    }

    #[inline]
    fn link_front(&mut self, list: usize, at: u32) {
        let head = self.heads[list];
        let node = &mut self.nodes[at as usize];
        node.list = list as u8;
        node.previous = NIL;
        node.next = head;
        match head {
            NIL => self.tails[list] = at,
            head => self.nodes[head as usize].previous = at,
        }
        self.heads[list] = at;
        self.lens[list] += 1;
    }
}
