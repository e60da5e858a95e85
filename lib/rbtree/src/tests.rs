//! The tree against a sorted `Vec`, its colours and its summaries after every step.
use super::*;
use proptest::prelude::*;

#[derive(Clone, Default)]
struct Record {
    links: Links,
    key: u32,
    value: u32,
    /// Smallest `value` in the subtree.
    min: u32,
}

#[derive(Default)]
struct Records(Vec<Record>);

impl Arena for Records {
    fn links(&self, node: u32) -> &Links {
        &self.0[node as usize].links
    }
    fn links_mut(&mut self, node: u32) -> &mut Links {
        &mut self.0[node as usize].links
    }
    fn less(&self, a: u32, b: u32) -> bool {
        self.0[a as usize].key < self.0[b as usize].key
    }
    fn summarize(&mut self, node: u32) -> bool {
        let record = &self.0[node as usize];
        let of = |child: u32| self.0.get(child as usize).map_or(u32::MAX, |r| r.min);
        let min = record.value.min(of(record.links.left)).min(of(record.links.right));
        let changed = min != record.min;
        self.0[node as usize].min = min;
        changed
    }
}

/// Checks colours, parents and summaries below `node`; answers the black height.
fn check(records: &Records, node: u32, parent: u32) -> u32 {
    if node == NIL {
        return 0;
    }
    let links = *records.links(node);
    assert_eq!(links.parent, parent);
    assert!(!(links.red && is_red(records, parent)), "red under red");
    let left = check(records, links.left, node);
    let right = check(records, links.right, node);
    assert_eq!(left, right, "black height");
    let of = |child: u32| records.0.get(child as usize).map_or(u32::MAX, |r| r.min);
    let record = &records.0[node as usize];
    assert_eq!(record.min, record.value.min(of(links.left)).min(of(links.right)), "summary");
    left + u32::from(!links.red)
}

fn in_order(tree: &Tree, records: &Records) -> Vec<u32> {
    let mut out = Vec::new();
    let mut at = tree.first();
    while let Some(node) = at {
        out.push(node);
        at = tree.next(records, node);
    }
    out
}

fn backwards(tree: &Tree, records: &Records) -> Vec<u32> {
    let mut out = Vec::new();
    let mut at = tree.last(records);
    while let Some(node) = at {
        out.push(node);
        at = tree.prev(records, node);
    }
    out
}

#[derive(Clone, Debug)]
enum Op {
    Insert { key: u32, value: u32 },
    Remove { nth: usize },
    Change { nth: usize, value: u32 },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => (0..50u32, 0..1000u32).prop_map(|(key, value)| Op::Insert { key, value }),
        2 => any::<usize>().prop_map(|nth| Op::Remove { nth }),
        1 => (any::<usize>(), 0..1000u32).prop_map(|(nth, value)| Op::Change { nth, value }),
    ];
    prop::collection::vec(op, 1..300)
}

proptest! {
    #[test]
    fn behaves_like_a_sorted_list(ops in ops()) {
        let mut records = Records::default();
        let mut tree = Tree::new();
        let mut model: Vec<u32> = Vec::new(); // node numbers in the expected order
        for op in ops {
            match op {
                Op::Insert { key, value } => {
                    let node = records.0.len() as u32;
                    records.0.push(Record { key, value, ..Record::default() });
                    tree.insert(&mut records, node);
                    let at = model.partition_point(|&other| records.0[other as usize].key <= key);
                    model.insert(at, node);
                }
                Op::Remove { nth } if !model.is_empty() => {
                    let node = model.remove(nth % model.len());
                    tree.remove(&mut records, node);
                }
                Op::Change { nth, value } if !model.is_empty() => {
                    let node = model[nth % model.len()];
                    records.0[node as usize].value = value;
                    tree.refresh(&mut records, node);
                }
                _ => {}
            }
            prop_assert_eq!(tree.len(), model.len());
            prop_assert_eq!(&in_order(&tree, &records), &model);
            check(&records, tree.root().unwrap_or(NIL), NIL);
        }
        model.reverse();
        prop_assert_eq!(backwards(&tree, &records), model);
    }
}

#[test]
fn ten_thousand_sorted_insertions_stay_shallow() {
    let mut records = Records(vec![Record::default(); 10_000]);
    let mut tree = Tree::new();
    for node in 0..10_000 {
        records.0[node as usize].key = node;
        tree.insert(&mut records, node);
    }
    let black_height = check(&records, tree.root().unwrap(), NIL);
    assert!(black_height <= 14, "2 * log2(n + 1) bounds the height; black nodes are at most all of it");
    for node in 0..10_000 {
        assert_eq!(tree.first(), Some(node));
        tree.remove(&mut records, node);
    }
    assert!(tree.is_empty() && tree.root().is_none());
}
