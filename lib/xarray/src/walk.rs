//! The walks down the tree. `height` is always that of the `child` argument: 1 for a leaf.

use crate::node::{Child, SLOT_BITS};
use crate::{InsertError, Leaf, Mark};

/// The slot of `index` in a node of `height`.
fn slot_of(index: u64, height: u32) -> usize {
    (index >> ((height - 1) * SLOT_BITS)) as usize & 63
}

#[inline]
pub(crate) fn get<T>(root: &Child<T>, height: u32, index: u64) -> Option<&T> {
    let (mut child, mut height) = (root, height);
    loop {
        match child {
            Child::Empty => return None,
            Child::Value(value) => return Some(value),
            Child::Leaf(node) => return node[0].slots[node[0].head(index as usize & 63)].as_ref(),
            Child::Inner(node) => {
                child = &node[0].slots[node[0].head(slot_of(index, height))];
                height -= 1;
            }
        }
    }
}

/// The leaf that has the entry over `index`, if a leaf has it.
pub(crate) fn leaf<T>(root: &Child<T>, height: u32, index: u64) -> Option<&Leaf<T>> {
    let (mut child, mut height) = (root, height);
    loop {
        match child {
            Child::Empty | Child::Value(_) => return None,
            Child::Leaf(node) => return Some(&node[0]),
            Child::Inner(node) => {
                child = &node[0].slots[node[0].head(slot_of(index, height))];
                height -= 1;
            }
        }
    }
}

pub(crate) fn get_mut<T>(root: &mut Child<T>, height: u32, index: u64) -> Option<&mut T> {
    let (mut child, mut height) = (root, height);
    loop {
        match child {
            Child::Empty => return None,
            Child::Value(value) => return Some(value),
            Child::Leaf(node) => {
                let slot = node[0].head(index as usize & 63);
                return node[0].slots[slot].as_mut();
            }
            Child::Inner(node) => {
                let slot = node[0].head(slot_of(index, height));
                child = &mut node[0].slots[slot];
                height -= 1;
            }
        }
    }
}

/// How many indices the entry that begins at `start` stands for.
pub(crate) fn run_length<T>(root: &Child<T>, height: u32, start: u64) -> u64 {
    let (mut child, mut height) = (root, height);
    loop {
        match child {
            Child::Empty | Child::Value(_) => return 1,
            Child::Leaf(node) => return node[0].run(start as usize & 63) as u64,
            Child::Inner(node) => {
                let slot = node[0].head(slot_of(start, height));
                height -= 1;
                if let Child::Value(_) = node[0].slots[slot] {
                    return (node[0].run(slot) as u64) << (height * SLOT_BITS);
                }
                child = &node[0].slots[slot];
            }
        }
    }
}

pub(crate) fn insert<T>(
    child: &mut Child<T>,
    height: u32,
    index: u64,
    order: u8,
    value: T,
) -> Result<(), InsertError<T>> {
    if height == 0 {
        return match child {
            Child::Empty => {
                *child = Child::Value(value);
                Ok(())
            }
            _ => Err(InsertError::Occupied(value)),
        };
    }
    if let Child::Empty = child {
        match Child::new_node(height) {
            Ok(node) => *child = node,
            Err(_) => return Err(InsertError::OutOfMemory(value)),
        }
    }
    let slot = slot_of(index, height);
    // Slots of this node that the run takes, if the run is at home on this level.
    let level = u32::from(order) / SLOT_BITS + 1;
    let count = 1usize << (u32::from(order) % SLOT_BITS);
    let result = match child {
        Child::Leaf(node) if node[0].is_free(slot, count) => {
            node[0].slots[slot] = Some(value);
            node[0].occupy(slot, count);
            Ok(())
        }
        Child::Inner(node) if level == height && node[0].is_free(slot, count) => {
            node[0].slots[slot] = Child::Value(value);
            node[0].occupy(slot, count);
            Ok(())
        }
        Child::Inner(node) if level < height && node[0].head(slot) == slot => {
            let done = insert(&mut node[0].slots[slot], height - 1, index, order, value);
            if done.is_ok() && node[0].is_free(slot, 1) {
                node[0].occupy(slot, 1);
            }
            done
        }
        _ => Err(InsertError::Occupied(value)),
    };
    if result.is_err() && child.is_hollow() {
        *child = Child::Empty;
    }
    result
}

/// Returns the value and the marks that are left in `child`.
pub(crate) fn remove<T>(child: &mut Child<T>, height: u32, index: u64) -> Option<(T, u8)> {
    let removed = match child {
        Child::Empty => None,
        Child::Value(_) => match core::mem::replace(child, Child::Empty) {
            Child::Value(value) => Some((value, 0)),
            _ => None,
        },
        Child::Leaf(node) => {
            let node = &mut node[0];
            let slot = node.head(slot_of(index, height));
            let value = node.slots[slot].take()?;
            node.vacate(slot);
            Some((value, node.all_marks()))
        }
        Child::Inner(node) => {
            let node = &mut node[0];
            let slot = node.head(slot_of(index, height));
            let (value, marks) = remove(&mut node.slots[slot], height - 1, index)?;
            match node.slots[slot] {
                Child::Empty => node.vacate(slot),
                _ => node.set_marks(slot, marks),
            }
            Some((value, node.all_marks()))
        }
    };
    if child.is_hollow() {
        *child = Child::Empty;
    }
    removed
}

/// Sets or clears one mark of the entry over `index`; whether anything in `child` has the mark afterwards. `None` if
/// there is no entry.
pub(crate) fn mark<T>(child: &mut Child<T>, height: u32, index: u64, mark: Mark, on: bool) -> Option<bool> {
    match child {
        Child::Empty => None,
        Child::Value(_) => Some(on),
        Child::Leaf(node) => {
            let node = &mut node[0];
            let slot = node.head(slot_of(index, height));
            node.slots[slot].as_ref()?;
            Some(node.set_mark(slot, mark, on))
        }
        Child::Inner(node) => {
            let node = &mut node[0];
            let slot = node.head(slot_of(index, height));
            let below = self::mark(&mut node.slots[slot], height - 1, index, mark, on)?;
            Some(node.set_mark(slot, mark, below))
        }
    }
}

/// Whether the entry over `index` has the mark, which something in the tree has.
pub(crate) fn has_mark<T>(root: &Child<T>, height: u32, index: u64, mark: Mark) -> bool {
    let (mut child, mut height) = (root, height);
    loop {
        match child {
            Child::Empty => return false,
            Child::Value(_) => return true,
            Child::Leaf(node) => return node[0].has_mark(node[0].head(index as usize & 63), mark),
            Child::Inner(node) => {
                let slot = node[0].head(slot_of(index, height));
                if !node[0].has_mark(slot, mark) {
                    return false;
                }
                child = &node[0].slots[slot];
                height -= 1;
            }
        }
    }
}

/// The first entry at, over or after `from`, with the mark if one is given. `base` is the first index of `child`.
pub(crate) fn next<T>(
    child: &Child<T>,
    height: u32,
    base: u64,
    from: u64,
    mark: Option<Mark>,
) -> Option<(u64, &T)> {
    match child {
        Child::Empty => None,
        Child::Value(value) => Some((base, value)),
        Child::Leaf(node) => {
            let node = &node[0];
            let first = node.head(slot_of(from, height));
            let bits = mark.map_or(node.present, |mark| node.marks[mark.index()]) & (u64::MAX << first);
            let slot = (bits != 0).then(|| bits.trailing_zeros() as usize)?;
            Some((base + slot as u64, node.slots[slot].as_ref()?))
        }
        Child::Inner(node) => {
            let node = &node[0];
            let width = (height - 1) * SLOT_BITS;
            let first = node.head(slot_of(from, height));
            let mut bits = mark.map_or(node.present, |mark| node.marks[mark.index()]) & (u64::MAX << first);
            while bits != 0 {
                let slot = bits.trailing_zeros() as usize;
                let start = base + ((slot as u64) << width);
                let found = next(&node.slots[slot], height - 1, start, from.max(start), mark);
                if found.is_some() {
                    return found;
                }
                bits &= bits - 1;
            }
            None
        }
    }
}
