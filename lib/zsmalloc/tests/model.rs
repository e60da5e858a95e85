//! A pool against a plain map, by random operations.

use proptest::prelude::*;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use zsmalloc::{Handle, OutOfMemory, PAGE, Page, Pool};

/// A page that counts how many of them there are.
struct Host(RefCell<Vec<u8>>, Rc<Cell<usize>>);

impl Page for Host {
    fn read(&self, offset: usize, to: &mut [u8]) {
        to.copy_from_slice(&self.0.borrow()[offset..offset + to.len()]);
    }

    fn write(&self, offset: usize, from: &[u8]) {
        self.0.borrow_mut()[offset..offset + from.len()].copy_from_slice(from);
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.1.set(self.1.get() - 1);
    }
}

fn pages(live: &Rc<Cell<usize>>, most: usize) -> impl FnMut() -> Option<Host> {
    let live = live.clone();
    move || {
        (live.get() < most).then(|| {
            live.set(live.get() + 1);
            Host(RefCell::new(vec![0xee; PAGE]), live.clone())
        })
    }
}

#[derive(Debug, Clone)]
enum Op {
    Store(usize, u8),
    Free(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let len = prop_oneof![1usize..=PAGE, Just(1344), Just(64), Just(PAGE)];
    prop_oneof![3 => (len, any::<u8>()).prop_map(|(len, byte)| Op::Store(len, byte)), 2 => any::<usize>().prop_map(Op::Free)]
}

/// Bytes that differ along the object, so that a piece in the wrong place shows.
fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(|at| seed.wrapping_add((at / 7) as u8)).collect()
}

proptest! {
    #[test]
    fn what_is_stored_is_there_and_nothing_else_is_kept(ops in prop::collection::vec(op(), 1..400)) {
        let live = Rc::new(Cell::new(0));
        let mut pool = Pool::new();
        let mut model: BTreeMap<usize, (Handle, Vec<u8>)> = BTreeMap::new();
        for (number, op) in ops.into_iter().enumerate() {
            match op {
                Op::Store(len, seed) => match pool.store(&bytes(len, seed), pages(&live, 120)) {
                    Ok(handle) => {
                        prop_assert!(model.values().all(|(other, _)| *other != handle));
                        model.insert(number, (handle, bytes(len, seed)));
                    }
                    // Pages that were asked for went back: the pool has no more than before.
                    Err(OutOfMemory) => prop_assert!(live.get() > 116),
                },
                Op::Free(which) => {
                    if let Some(key) = model.keys().nth(which % model.len().max(1)).copied() {
                        pool.free(model.remove(&key).expect("a key").0);
                    }
                }
            }
            prop_assert_eq!(pool.pages(), live.get());
        }
        for (handle, wanted) in model.values() {
            let mut found = vec![0; wanted.len()];
            pool.load(*handle, &mut found);
            prop_assert_eq!(&found, wanted);
        }
        let handles: Vec<Handle> = model.values().map(|(handle, _)| *handle).collect();
        handles.into_iter().for_each(|handle| pool.free(handle));
        prop_assert_eq!((pool.pages(), live.get()), (0, 0));
    }
}

#[test]
fn a_thousand_objects_take_about_their_size() {
    let live = Rc::new(Cell::new(0));
    let mut pool = Pool::new();
    for (size, count) in [(200, 1000), (1300, 1000), (1900, 1000)] {
        let before = pool.pages();
        for _ in 0..count {
            pool.store(&vec![1; size], pages(&live, usize::MAX)).expect("store");
        }
        let taken = (pool.pages() - before) * PAGE;
        assert!(taken < size * count * 135 / 100, "{size}: {taken}");
    }
}

#[test]
fn what_is_too_long_is_refused() {
    let live = Rc::new(Cell::new(0));
    let mut pool = Pool::new();
    assert_eq!(pool.store(&vec![0; PAGE + 1], pages(&live, 10)), Err(OutOfMemory));
    assert_eq!((pool.pages(), live.get()), (0, 0));
}
