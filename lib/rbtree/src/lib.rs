//! A red-black tree whose nodes live in somebody else's array.
//!
//! **Problem.** A run queue keeps its tasks ordered by virtual time and must insert, remove and find
//! the first in O(log n) without allocating. Intrusive trees of pointers do that but need `unsafe`;
//! `BTreeMap` allocates and cannot carry a per-subtree summary.
//!
//! **Interface.** The owner keeps a `Vec` of its own records, one [`Links`] in each, and implements
//! [`Arena`]: how to reach the links of record `i`, how two records compare, and (optionally) how to
//! recompute a record's summary of its subtree. [`Tree`] is then four numbers; every operation takes
//! the arena as an argument. The order of equal records is the order of insertion.
//!
//! **Idea.** The textbook algorithm (Cormen et al., chapter 13) with parent indices and `NIL` in the
//! place of null. A summary must depend only on the record and its two children; the tree calls
//! [`Arena::summarize`] bottom-up after each change, so it is right whenever the caller looks.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

/// "No node": the null of this tree.
pub const NIL: u32 = u32::MAX;

/// The tree's own fields inside one record.
#[derive(Clone, Copy, Debug)]
pub struct Links {
    parent: u32,
    left: u32,
    right: u32,
    red: bool,
}

impl Links {
    /// Links of a record that is in no tree.
    pub const NEW: Links = Links { parent: NIL, left: NIL, right: NIL, red: false };

    /// Root of the left (smaller) subtree, or [`NIL`].
    pub fn left(&self) -> u32 {
        self.left
    }

    /// Root of the right (larger or equal) subtree, or [`NIL`].
    pub fn right(&self) -> u32 {
        self.right
    }
}

impl Default for Links {
    fn default() -> Self {
        Links::NEW
    }
}

/// The array that holds the nodes. Indices are the owner's; the tree never sees one that the owner
/// did not pass to [`Tree::insert`].
pub trait Arena {
    /// The links of record `node`.
    fn links(&self, node: u32) -> &Links;
    /// The links of record `node`, to change.
    fn links_mut(&mut self, node: u32) -> &mut Links;
    /// Whether record `a` sorts strictly before record `b`.
    fn less(&self, a: u32, b: u32) -> bool;
    /// Recomputes what `node` says about its subtree from itself and its children; answers whether
    /// that changed. Trees without summaries keep this default.
    fn summarize(&mut self, node: u32) -> bool {
        let _ = node;
        false
    }
}

/// One tree: its root, its first node (cached, because schedulers ask for it all the time) and its
/// size.
#[derive(Clone, Copy, Debug)]
pub struct Tree {
    root: u32,
    first: u32,
    len: u32,
}

impl Default for Tree {
    fn default() -> Self {
        Tree::new()
    }
}

impl Tree {
    /// An empty tree.
    pub const fn new() -> Tree {
        Tree { root: NIL, first: NIL, len: 0 }
    }

    /// Number of nodes.
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The topmost node, for searches that follow a summary.
    pub fn root(&self) -> Option<u32> {
        some(self.root)
    }

    /// The smallest node, in O(1).
    pub fn first(&self) -> Option<u32> {
        some(self.first)
    }

    /// The largest node, in O(log n).
    pub fn last(&self, arena: &impl Arena) -> Option<u32> {
        some(self.root).map(|root| rightmost(arena, root))
    }

    /// Adds record `node`, which must be in no tree, after its equals. O(log n).
    pub fn insert(&mut self, arena: &mut impl Arena, node: u32) {
        let mut parent = NIL;
        let mut at = self.root;
        let mut went_left_only = true;
        let mut left = false;
        while at != NIL {
            parent = at;
            left = arena.less(node, at);
            went_left_only &= left;
            at = child(arena, at, left);
        }
        *arena.links_mut(node) = Links { parent, red: true, ..Links::NEW };
        match parent {
            NIL => self.root = node,
            p => set_child(arena, p, left, node),
        }
        if went_left_only {
            self.first = node;
        }
        self.len += 1;
        arena.summarize(node);
        resummarize_while_changed(arena, parent);
        self.balance_after_insert(arena, node);
    }

    /// Takes record `node`, which must be in this tree, out of it. O(log n).
    pub fn remove(&mut self, arena: &mut impl Arena, node: u32) {
        if self.first == node {
            self.first = next(arena, node).unwrap_or(NIL);
        }
        let Links { left, right, red, .. } = *arena.links(node);
        // `hole` is what moved up into the place that lost a node (maybe NIL), `parent` the node above it.
        let (hole, parent, lost_red);
        if left == NIL || right == NIL {
            hole = if left == NIL { right } else { left };
            parent = arena.links(node).parent;
            lost_red = red;
            self.replace(arena, node, hole);
        } else {
            // The successor, which has no left child, takes the place and the colour of `node`:
            //
            //       node                 heir
            //       /  \                 /  \
            //      L    R      ->       L    R
            //          /                    /
            //       heir                 hole
            //          \
            //          hole
            let heir = leftmost(arena, right);
            hole = arena.links(heir).right;
            lost_red = arena.links(heir).red;
            if heir == right {
                parent = heir;
            } else {
                parent = arena.links(heir).parent;
                self.replace(arena, heir, hole);
                set_child(arena, heir, false, right);
                arena.links_mut(right).parent = heir;
            }
            self.replace(arena, node, heir);
            set_child(arena, heir, true, left);
            arena.links_mut(left).parent = heir;
            arena.links_mut(heir).red = red;
        }
        self.len -= 1;
        *arena.links_mut(node) = Links::NEW;
        // Not "while changed": the heir carries a summary from another place, so the whole path is redone.
        let mut at = parent;
        while at != NIL {
            arena.summarize(at);
            at = arena.links(at).parent;
        }
        if !lost_red {
            self.balance_after_remove(arena, hole, parent);
        }
    }

    /// The node after `node` in order.
    pub fn next(&self, arena: &impl Arena, node: u32) -> Option<u32> {
        next(arena, node)
    }

    /// The node before `node` in order.
    pub fn prev(&self, arena: &impl Arena, node: u32) -> Option<u32> {
        step(arena, node, false)
    }

    /// Call after changing what a record contributes to its summary (never its order) in place.
    pub fn refresh(&self, arena: &mut impl Arena, node: u32) {
        resummarize_while_changed(arena, node);
    }

    /// A red node under a red parent is pushed up by recolouring or removed by at most two rotations.
    fn balance_after_insert(&mut self, arena: &mut impl Arena, mut node: u32) {
        loop {
            let parent = arena.links(node).parent;
            if !is_red(arena, parent) {
                break;
            }
            let grand = arena.links(parent).parent; // exists: a red node is never the root
            let parent_is_left = arena.links(grand).left == parent;
            let uncle = child(arena, grand, !parent_is_left);
            if is_red(arena, uncle) {
                arena.links_mut(parent).red = false;
                arena.links_mut(uncle).red = false;
                arena.links_mut(grand).red = true;
                node = grand;
                continue;
            }
            if child(arena, parent, !parent_is_left) == node {
                self.rotate(arena, parent, parent_is_left);
                node = parent;
            }
            let parent = arena.links(node).parent;
            arena.links_mut(parent).red = false;
            arena.links_mut(grand).red = true;
            self.rotate(arena, grand, !parent_is_left);
        }
        let root = self.root;
        arena.links_mut(root).red = false;
    }

    /// The paths through `hole` are one black node short; recolour or rotate until they are not.
    fn balance_after_remove(&mut self, arena: &mut impl Arena, mut hole: u32, mut parent: u32) {
        while parent != NIL && !is_red(arena, hole) {
            let is_left = arena.links(parent).left == hole;
            let mut sibling = child(arena, parent, !is_left); // exists: its side is one black node longer
            if is_red(arena, sibling) {
                arena.links_mut(sibling).red = false;
                arena.links_mut(parent).red = true;
                self.rotate(arena, parent, is_left);
                sibling = child(arena, parent, !is_left);
            }
            let near = child(arena, sibling, is_left);
            let far = child(arena, sibling, !is_left);
            if !is_red(arena, near) && !is_red(arena, far) {
                arena.links_mut(sibling).red = true;
                hole = parent;
                parent = arena.links(hole).parent;
                continue;
            }
            if !is_red(arena, far) {
                arena.links_mut(near).red = false;
                arena.links_mut(sibling).red = true;
                self.rotate(arena, sibling, !is_left);
                sibling = near;
            }
            let far = child(arena, sibling, !is_left);
            arena.links_mut(sibling).red = arena.links(parent).red;
            arena.links_mut(parent).red = false;
            arena.links_mut(far).red = false;
            self.rotate(arena, parent, is_left);
            break;
        }
        if parent == NIL {
            hole = self.root;
        }
        if hole != NIL {
            arena.links_mut(hole).red = false;
        }
    }

    /// Turns `top` down to the left (`to_left`) or to the right; its child on the other side rises.
    ///
    /// ```text
    ///      top                     rising
    ///     /   \      to_left       /    \
    ///    a   rising    ->        top     c
    ///        /    \             /   \
    ///     inner    c           a   inner
    /// ```
    fn rotate(&mut self, arena: &mut impl Arena, top: u32, to_left: bool) {
        let rising = child(arena, top, !to_left);
        let inner = child(arena, rising, to_left);
        set_child(arena, top, !to_left, inner);
        if inner != NIL {
            arena.links_mut(inner).parent = top;
        }
        self.replace(arena, top, rising);
        set_child(arena, rising, to_left, top);
        arena.links_mut(top).parent = rising;
        arena.summarize(top);
        arena.summarize(rising);
    }

    /// Makes `new` (maybe NIL) the child, in the place of `old`, of `old`'s parent.
    fn replace(&mut self, arena: &mut impl Arena, old: u32, new: u32) {
        let parent = arena.links(old).parent;
        if parent == NIL {
            self.root = new;
        } else {
            let left = arena.links(parent).left == old;
            set_child(arena, parent, left, new);
        }
        if new != NIL {
            arena.links_mut(new).parent = parent;
        }
    }
}

fn some(node: u32) -> Option<u32> {
    (node != NIL).then_some(node)
}

fn is_red(arena: &impl Arena, node: u32) -> bool {
    node != NIL && arena.links(node).red
}

fn child(arena: &impl Arena, node: u32, left: bool) -> u32 {
    let links = arena.links(node);
    if left { links.left } else { links.right }
}

fn set_child(arena: &mut impl Arena, node: u32, left: bool, to: u32) {
    let links = arena.links_mut(node);
    if left {
        links.left = to;
    } else {
        links.right = to;
    }
}

fn leftmost(arena: &impl Arena, mut node: u32) -> u32 {
    while arena.links(node).left != NIL {
        node = arena.links(node).left;
    }
    node
}

fn rightmost(arena: &impl Arena, mut node: u32) -> u32 {
    while arena.links(node).right != NIL {
        node = arena.links(node).right;
    }
    node
}

fn next(arena: &impl Arena, node: u32) -> Option<u32> {
    step(arena, node, true)
}

/// In-order neighbour: down into the subtree on that side, or up until we leave one on the other side.
fn step(arena: &impl Arena, mut node: u32, forward: bool) -> Option<u32> {
    let inward = child(arena, node, !forward);
    if inward != NIL {
        return Some(if forward { leftmost(arena, inward) } else { rightmost(arena, inward) });
    }
    loop {
        let parent = arena.links(node).parent;
        if parent == NIL {
            return None;
        }
        if child(arena, parent, forward) == node {
            return Some(parent);
        }
        node = parent;
    }
}

fn resummarize_while_changed(arena: &mut impl Arena, mut node: u32) {
    while node != NIL && arena.summarize(node) {
        node = arena.links(node).parent;
    }
}
