//! One node: 64 slots and the bitmaps that describe them.

use crate::{Inner, Leaf, MARKS, Mark, OutOfMemory, TryBox, try_box};

pub(crate) const SLOT_BITS: u32 = 6;
pub(crate) const SLOTS: usize = 1 << SLOT_BITS;

/// Slots `S` are `Option<T>` in a leaf (as small as the value allows) and [`Child`] further up.
#[derive(Debug)]
pub(crate) struct Node<S> {
    pub(crate) slots: [S; SLOTS],
    /// Slots where an entry or a subtree begins.
    pub(crate) present: u64,
    /// Slots that continue the entry of a lower slot.
    siblings: u64,
    pub(crate) marks: [u64; MARKS],
}

/// What a slot of an inner node, or the root, holds.
#[derive(Debug)]
pub(crate) enum Child<T> {
    Empty,
    Inner(TryBox<Inner<T>>),
    Leaf(TryBox<Leaf<T>>),
    Value(T),
}

impl<S> Node<S> {
    fn new(slots: [S; SLOTS]) -> Node<S> {
        Node { slots, present: 0, siblings: 0, marks: [0; MARKS] }
    }

    /// The slot where the entry over `slot` begins; `slot` itself when it continues none.
    #[inline]
    pub(crate) fn head(&self, slot: usize) -> usize {
        if self.siblings >> slot & 1 == 0 {
            return slot;
        }
        let heads = !self.siblings & (u64::MAX >> (63 - slot));
        63 - heads.leading_zeros() as usize
    }

    /// How many slots the entry that begins at `slot` has.
    pub(crate) fn run(&self, slot: usize) -> usize {
        match slot + 1 {
            SLOTS => 1,
            after => 1 + (self.siblings >> after).trailing_ones() as usize,
        }
    }

    pub(crate) fn is_free(&self, slot: usize, count: usize) -> bool {
        (self.present | self.siblings) & run_mask(slot, count) == 0
    }

    pub(crate) fn occupy(&mut self, slot: usize, count: usize) {
        self.present |= 1 << slot;
        self.siblings |= run_mask(slot, count) & !(1 << slot);
    }

    pub(crate) fn vacate(&mut self, slot: usize) {
        self.siblings &= !run_mask(slot, self.run(slot));
        self.present &= !(1 << slot);
        self.set_marks(slot, 0);
    }

    /// Whether slot `slot` has a mark.
    pub(crate) fn has_mark(&self, slot: usize, mark: Mark) -> bool {
        self.marks[mark.index()] >> slot & 1 != 0
    }

    /// Sets or clears a mark of one slot; whether any slot has it then.
    pub(crate) fn set_mark(&mut self, slot: usize, mark: Mark, on: bool) -> bool {
        let bits = &mut self.marks[mark.index()];
        *bits = *bits & !(1 << slot) | u64::from(on) << slot;
        *bits != 0
    }

    pub(crate) fn set_marks(&mut self, slot: usize, marks: u8) {
        for (m, bits) in self.marks.iter_mut().enumerate() {
            *bits = *bits & !(1 << slot) | u64::from(marks >> m & 1) << slot;
        }
    }

    /// Which marks any slot has.
    pub(crate) fn all_marks(&self) -> u8 {
        (0..MARKS).map(|m| u8::from(self.marks[m] != 0) << m).sum()
    }
}

fn run_mask(slot: usize, count: usize) -> u64 {
    (u64::MAX >> (SLOTS - count)) << slot
}

impl<T> Child<T> {
    /// Makes a node for `height` levels; the lowest ones are leaves.
    pub(crate) fn new_node(height: u32) -> Result<Child<T>, OutOfMemory> {
        Ok(match height {
            1 => Child::Leaf(try_box(Node::new([const { None }; SLOTS]))?),
            _ => Child::Inner(try_box(Node::new([const { Child::Empty }; SLOTS]))?),
        })
    }

    /// Puts a level on top: what was the whole becomes slot 0.
    pub(crate) fn wrap(&mut self, height: u32, marks: u8) -> Result<(), OutOfMemory> {
        let mut top = Child::new_node(height + 1)?;
        match (&mut top, core::mem::replace(self, Child::Empty)) {
            (Child::Leaf(leaf), Child::Value(value)) => {
                leaf[0].slots[0] = Some(value);
                leaf[0].occupy(0, 1);
                leaf[0].set_marks(0, marks);
            }
            (Child::Inner(inner), old) => {
                inner[0].slots[0] = old;
                inner[0].occupy(0, 1);
                inner[0].set_marks(0, marks);
            }
            (_, old) => *self = old,
        }
        if matches!(self, Child::Empty) {
            *self = top;
        }
        Ok(())
    }

    /// Whether a node has nothing in it.
    pub(crate) fn is_hollow(&self) -> bool {
        match self {
            Child::Empty => true,
            Child::Inner(node) => node[0].present == 0,
            Child::Leaf(node) => node[0].present == 0,
            Child::Value(_) => false,
        }
    }
}
