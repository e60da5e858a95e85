use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn one_entry_at_zero_needs_no_node() {
    let mut array = XArray::new();
    array.insert(0, 'a').unwrap();
    assert_eq!((array.height, array.get(0), array.get(1)), (0, Some(&'a'), None));
    assert!(array.set_mark(0, Mark::One, true));
    array.insert(1 << 40, 'b').unwrap();
    assert!(array.has_mark(0, Mark::One) && !array.has_mark(1 << 40, Mark::One));
    assert_eq!(array.remove(0), Some('a'));
    assert!(!array.any_marked(Mark::One));
    assert_eq!(array.remove(1 << 40), Some('b'));
    assert_eq!(array.height, 0);
}

#[test]
fn the_last_index_works() {
    let mut array = XArray::new();
    array.insert(u64::MAX, 1).unwrap();
    array.insert(u64::MAX - 1, 2).unwrap();
    assert_eq!(array.iter().map(|(i, &v)| (i, v)).collect::<Vec<_>>(), [(u64::MAX - 1, 2), (u64::MAX, 1)]);
}

#[test]
fn a_run_is_one_entry() {
    let mut array = XArray::new();
    array.insert_order(512, 9, 'x').unwrap();
    assert_eq!(array.get(1023), Some(&'x'));
    assert_eq!(array.get(1024), None);
    assert_eq!(array.insert(700, 'y'), Err(InsertError::Occupied('y')));
    assert_eq!(array.insert_order(4, 3, 'y'), Err(InsertError::Occupied('y')));
    assert_eq!(array.next(600), Some((512, &'x')));
    assert!(array.set_mark(777, Mark::Zero, true) && array.has_mark(512, Mark::Zero));
    assert_eq!(array.range_marked(0, u64::MAX, Mark::Zero).count(), 1);
    assert_eq!(array.remove(801), Some('x'));
    assert!(array.is_empty());
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u64, u8),
    Replace(u64),
    Remove(u64),
    Mark(u64, u8, bool),
    RemoveRange(u64, u64),
}

fn index() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0u64..300, 2 => 0u64..20_000, 1 => any::<u64>(), 1 => Just(u64::MAX)]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        5 => (index(), prop_oneof![3 => Just(0u8), 1 => 0u8..14]).prop_map(|(i, o)| Op::Insert(i >> o << o, o)),
        1 => index().prop_map(Op::Replace),
        3 => index().prop_map(Op::Remove),
        3 => (index(), 0u8..3, any::<bool>()).prop_map(|(i, m, on)| Op::Mark(i, m, on)),
        1 => (index(), 0u64..200).prop_map(|(i, n)| Op::RemoveRange(i, i.saturating_add(n))),
    ]
}

#[derive(Debug, Clone)]
struct Entry {
    last: u64,
    value: usize,
    marks: [bool; MARKS],
}

/// The model: entries by their first index.
type Model = BTreeMap<u64, Entry>;

fn over(model: &Model, index: u64) -> Option<u64> {
    model.range(..=index).next_back().filter(|(_, e)| e.last >= index).map(|(&start, _)| start)
}

const ALL: [Mark; MARKS] = [Mark::Zero, Mark::One, Mark::Two];

fn apply(array: &mut XArray<usize>, model: &mut Model, serial: usize, op: Op) {
    match op {
        Op::Insert(start, order) => {
            let last = start + ((1 << order) - 1);
            let free = over(model, start).is_none() && model.range(start..=last).next().is_none();
            assert_eq!(array.insert_order(start, order, serial).is_ok(), free);
            if free {
                model.insert(start, Entry { last, value: serial, marks: [false; MARKS] });
            }
        }
        Op::Replace(index) => {
            let old = over(model, index).and_then(|start| model.get_mut(&start));
            let expected = old.map(|entry| std::mem::replace(&mut entry.value, serial));
            assert_eq!(array.replace(index, serial), Ok(expected));
            model.entry(over(model, index).unwrap_or(index)).or_insert(Entry {
                last: index,
                value: serial,
                marks: [false; MARKS],
            });
        }
        Op::Remove(index) => {
            let expected = over(model, index).and_then(|start| model.remove(&start)).map(|entry| entry.value);
            assert_eq!(array.remove(index), expected);
        }
        Op::Mark(index, mark, on) => {
            let entry = over(model, index).and_then(|start| model.get_mut(&start));
            assert_eq!(array.set_mark(index, ALL[mark as usize], on), entry.is_some());
            if let Some(entry) = entry {
                entry.marks[mark as usize] = on;
            }
        }
        Op::RemoveRange(first, last) => {
            let mut got = Vec::new();
            array.remove_range(first, last, |start, value| got.push((start, value)));
            let keys: Vec<u64> = over(model, first)
                .into_iter()
                .chain(
                    model
                        .range(first..=last)
                        .map(|(&start, _)| start)
                        .filter(|&s| Some(s) != over(model, first)),
                )
                .collect();
            let expected: Vec<_> = keys.iter().map(|key| (*key, model.remove(key).unwrap().value)).collect();
            assert_eq!(got, expected);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]
    #[test]
    fn behaves_like_a_sorted_map(ops in prop::collection::vec(op(), 0..120), probes in prop::collection::vec(index(), 20)) {
        let (mut array, mut model) = (XArray::new(), Model::new());
        for (serial, op) in ops.into_iter().enumerate() {
            apply(&mut array, &mut model, serial, op);
            prop_assert_eq!(array.len(), model.len());
            prop_assert!(array.iter().map(|(i, &v)| (i, v)).eq(model.iter().map(|(&i, e)| (i, e.value))));
            for mark in ALL {
                let expected = model.iter().filter(|(_, e)| e.marks[mark.index()]).map(|(&i, _)| i);
                prop_assert!(array.range_marked(0, u64::MAX, mark).map(|(i, _)| i).eq(expected));
                prop_assert_eq!(array.any_marked(mark), model.values().any(|e| e.marks[mark.index()]));
            }
        }
        for probe in probes {
            let entry = over(&model, probe).map(|start| &model[&start]);
            prop_assert_eq!(array.get(probe), entry.map(|e| &e.value));
            for mark in ALL {
                prop_assert_eq!(array.has_mark(probe, mark), entry.is_some_and(|e| e.marks[mark.index()]));
            }
        }
    }
}
