//! Requests by sector and by arrival: the two orders every disk scheduler trades off.
//!
//! Records live in one table indexed by id ([`Nodes`]), made once; a [`Sorted`] is a tree and a list through
//! it, so that moving a request costs no memory. A request is in one `Sorted` at a time.

use crate::{Dir, Id, NoMemory, Request, Side};
use alloc::vec::Vec;
use rbtree::{Arena, Links, NIL, Tree};

/// One request in a scheduler's table.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    pub start: u64,
    pub end: u64,
    /// When it should have been started (nanoseconds), or what else a scheduler keeps by arrival.
    pub expires_ns: u64,
    pub dir: Dir,
    pub mergeable: bool,
    /// Whose queue it is in: an index that the scheduler chooses.
    pub home: u32,
    links: Links,
    previous: u32,
    next: u32,
}

const EMPTY: Node = Node {
    start: 0,
    end: 0,
    expires_ns: 0,
    dir: Dir::Read,
    mergeable: false,
    home: NIL,
    links: Links::NEW,
    previous: NIL,
    next: NIL,
};

/// The table.
#[derive(Debug)]
pub struct Nodes {
    all: Vec<Node>,
}

impl Arena for Nodes {
    fn links(&self, node: u32) -> &Links {
        &self.all[node as usize].links
    }

    fn links_mut(&mut self, node: u32) -> &mut Links {
        &mut self.all[node as usize].links
    }

    fn less(&self, a: u32, b: u32) -> bool {
        self.all[a as usize].start < self.all[b as usize].start
    }
}

impl Nodes {
    /// Room for ids below `depth`.
    pub fn new(depth: u32) -> Result<Nodes, NoMemory> {
        let mut all = Vec::new();
        all.try_reserve_exact(depth as usize).map_err(|_| NoMemory)?;
        all.resize(depth as usize, EMPTY);
        Ok(Nodes { all })
    }

    /// Fills in a record before it is added to a queue.
    pub fn set(&mut self, id: Id, request: &Request, expires_ns: u64, home: u32) {
        let &Request { dir, start, mergeable, .. } = request;
        self.all[id.index()] = Node { start, end: request.end(), expires_ns, dir, mergeable, home, ..EMPTY };
    }

    pub fn get(&self, id: Id) -> &Node {
        &self.all[id.index()]
    }

    pub fn get_mut(&mut self, id: Id) -> &mut Node {
        &mut self.all[id.index()]
    }

    pub fn depth(&self) -> u32 {
        self.all.len() as u32
    }
}

/// A first-in, first-out list through the table.
#[derive(Clone, Copy, Debug)]
pub struct List {
    first: u32,
    last: u32,
    len: u32,
}

impl Default for List {
    fn default() -> List {
        List::new()
    }
}

impl List {
    pub const fn new() -> List {
        List { first: NIL, last: NIL, len: 0 }
    }

    pub fn len(&self) -> usize {
        self.len as usize
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The one that came first.
    pub fn first(&self) -> Option<Id> {
        (self.first != NIL).then_some(Id(self.first))
    }

    /// The one that came last.
    pub fn last(&self) -> Option<Id> {
        (self.last != NIL).then_some(Id(self.last))
    }

    pub fn push(&mut self, nodes: &mut Nodes, id: Id) {
        let node = &mut nodes.all[id.index()];
        (node.previous, node.next) = (self.last, NIL);
        match self.last {
            NIL => self.first = id.0,
            last => nodes.all[last as usize].next = id.0,
        }
        self.last = id.0;
        self.len += 1;
    }

    /// Takes one out, which is in this list.
    pub fn remove(&mut self, nodes: &mut Nodes, id: Id) {
        let (previous, next) = (nodes.all[id.index()].previous, nodes.all[id.index()].next);
        match previous {
            NIL => self.first = next,
            previous => nodes.all[previous as usize].next = next,
        }
        match next {
            NIL => self.last = previous,
            next => nodes.all[next as usize].previous = previous,
        }
        self.len -= 1;
    }
}

/// Requests of one kind, ordered by sector (a tree) and by arrival (a list).
#[derive(Clone, Copy, Debug, Default)]
pub struct Sorted {
    tree: Tree,
    list: List,
}

impl Sorted {
    pub const fn new() -> Sorted {
        Sorted { tree: Tree::new(), list: List::new() }
    }

    pub fn len(&self) -> usize {
        self.list.len()
    }

    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds a record that [`Nodes::set`] has filled in.
    pub fn add(&mut self, nodes: &mut Nodes, id: Id) {
        self.tree.insert(nodes, id.0);
        self.list.push(nodes, id);
    }

    pub fn remove(&mut self, nodes: &mut Nodes, id: Id) {
        self.tree.remove(nodes, id.0);
        self.list.remove(nodes, id);
    }

    /// The record's sectors have changed.
    pub fn moved(&mut self, nodes: &mut Nodes, id: Id, start: u64, end: u64) {
        if nodes.get(id).start != start {
            self.tree.remove(nodes, id.0);
            nodes.get_mut(id).start = start;
            self.tree.insert(nodes, id.0);
        }
        nodes.get_mut(id).end = end;
    }

    /// The one that came first.
    pub fn oldest(&self) -> Option<Id> {
        self.list.first()
    }

    /// The one with the lowest sector.
    pub fn lowest(&self) -> Option<Id> {
        self.tree.first().map(Id)
    }

    /// The next one in the order of sectors.
    pub fn after(&self, nodes: &Nodes, id: Id) -> Option<Id> {
        self.tree.next(nodes, id.0).map(Id)
    }

    /// The first one that begins at `sector` or behind it.
    pub fn from(&self, nodes: &Nodes, sector: u64) -> Option<Id> {
        let (mut at, mut found) = (self.tree.root(), None);
        while let Some(node) = at {
            let record = &nodes.all[node as usize];
            let child = if record.start >= sector {
                found = Some(Id(node));
                record.links.left()
            } else {
                record.links.right()
            };
            at = (child != NIL).then_some(child);
        }
        found
    }

    /// The last one that begins before `sector`.
    pub fn before(&self, nodes: &Nodes, sector: u64) -> Option<Id> {
        match self.from(nodes, sector) {
            Some(id) => self.tree.prev(nodes, id.0).map(Id),
            None => self.tree.last(nodes).map(Id),
        }
    }

    /// A record of this direction that sectors `start..end` could be joined to; at its front only with `front`.
    pub fn find_merge(
        &self,
        nodes: &Nodes,
        dir: Dir,
        start: u64,
        end: u64,
        front: bool,
    ) -> Option<(Id, Side)> {
        let fits = |id: Id| nodes.get(id).mergeable && nodes.get(id).dir == dir;
        if let Some(id) = self.before(nodes, start).filter(|id| nodes.get(*id).end == start)
            && fits(id)
        {
            return Some((id, Side::Back));
        }
        let id = self.from(nodes, end).filter(|id| front && nodes.get(*id).start == end)?;
        fits(id).then_some((id, Side::Front))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::IoPrio;
    use proptest::prelude::*;

    fn request(start: u64, sectors: u32) -> Request {
        let (dir, prio) = (Dir::Read, IoPrio::default());
        Request { dir, sync: true, start, sectors, owner: 0, prio, mergeable: true }
    }

    proptest! {
        /// The tree and the list agree with a vector, whatever comes and goes.
        #[test]
        fn agrees_with_a_vector(steps in prop::collection::vec((0u32..32, 0u64..64), 1..200)) {
            let mut nodes = Nodes::new(32).unwrap();
            let mut sorted = Sorted::new();
            let mut model: Vec<(u32, u64)> = Vec::new();
            for (id, sector) in steps {
                match model.iter().position(|(other, _)| *other == id) {
                    Some(at) => {
                        sorted.remove(&mut nodes, Id(id));
                        model.remove(at);
                    }
                    None => {
                        nodes.set(Id(id), &request(sector, 1), 0, 0);
                        sorted.add(&mut nodes, Id(id));
                        model.push((id, sector));
                    }
                }
                prop_assert_eq!(sorted.len(), model.len());
                prop_assert_eq!(sorted.oldest(), model.first().map(|(id, _)| Id(*id)));
                let start_of = |id: Option<Id>| id.map(|id| nodes.get(id).start);
                let lowest = model.iter().map(|(_, s)| *s).min();
                prop_assert_eq!(start_of(sorted.lowest()), lowest);
                let from = model.iter().map(|(_, s)| *s).filter(|s| *s >= sector).min();
                prop_assert_eq!(start_of(sorted.from(&nodes, sector)), from);
                let before = model.iter().map(|(_, s)| *s).filter(|s| *s < sector).max();
                prop_assert_eq!(start_of(sorted.before(&nodes, sector)), before);
            }
        }
    }

    #[test]
    fn merges() {
        let mut nodes = Nodes::new(4).unwrap();
        let mut sorted = Sorted::new();
        nodes.set(Id(1), &request(100, 8), 0, 0);
        sorted.add(&mut nodes, Id(1));
        let table = [
            (108, 116, true, Some((Id(1), Side::Back))),
            (92, 100, true, Some((Id(1), Side::Front))),
            (92, 100, false, None),
            (109, 116, true, None),
            (100, 108, true, None),
        ];
        for (start, end, front, expected) in table {
            assert_eq!(sorted.find_merge(&nodes, Dir::Read, start, end, front), expected, "{start}..{end}");
        }
    }
}
