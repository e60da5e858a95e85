use super::*;
use proptest::prelude::*;

const BYTES: u64 = 24;

type Model = Vec<[Option<Kind>; BYTES as usize]>;

fn kind() -> impl Strategy<Value = Option<Kind>> {
    prop_oneof![Just(Some(Kind::Read)), Just(Some(Kind::Write)), Just(None)]
}

fn conflict(model: &Model, owner: usize, start: u64, end: u64, kind: Kind) -> bool {
    model.iter().enumerate().any(|(other, bytes)| {
        let held = &bytes[start as usize..=end as usize];
        let blocks = |k: &Option<Kind>| *k == Some(Kind::Write) || (kind == Kind::Write && k.is_some());
        other != owner && held.iter().any(blocks)
    })
}

fn check_shape(ranges: &Ranges<usize>) {
    let locks: Vec<_> = ranges.iter().copied().collect();
    for (i, a) in locks.iter().enumerate() {
        assert!(a.start <= a.end);
        for b in &locks[i + 1..] {
            assert!(a.start <= b.start, "ordered");
            if a.owner == b.owner {
                assert!(a.end < b.start, "disjoint");
                assert!(a.kind != b.kind || a.end + 1 < b.start, "joined");
            }
        }
    }
}

proptest! {
    #[test]
    fn behaves_like_a_byte_map(ops in prop::collection::vec((0usize..3, 0..BYTES, 0..BYTES, kind()), 0..60)) {
        let mut ranges = Ranges::new();
        let mut model: Model = vec![[None; BYTES as usize]; 3];
        for (owner, a, b, kind) in ops {
            let (start, end) = (a.min(b), a.max(b));
            if let Some(kind) = kind {
                let blocked = ranges.conflict(&Lock { start, end, kind, owner }).is_some();
                prop_assert_eq!(blocked, conflict(&model, owner, start, end, kind));
                if blocked {
                    continue;
                }
            }
            ranges.set(owner, start, end, kind).unwrap();
            model[owner][start as usize..=end as usize].fill(kind);
            check_shape(&ranges);
            for (owner, bytes) in model.iter().enumerate() {
                for (at, expected) in bytes.iter().enumerate() {
                    let held = ranges.iter().find(|l| l.owner == owner && l.start <= at as u64 && at as u64 <= l.end);
                    prop_assert_eq!(held.map(|l| l.kind), *expected);
                }
            }
        }
    }
}

#[test]
fn the_last_byte_does_not_overflow() {
    let mut ranges = Ranges::new();
    ranges.set(1, 10, u64::MAX, Some(Kind::Write)).unwrap();
    ranges.set(1, 0, 9, Some(Kind::Write)).unwrap();
    assert_eq!(ranges.iter().count(), 1);
    ranges.set(1, 5, u64::MAX, None).unwrap();
    assert_eq!(ranges.iter().next().map(|l| (l.start, l.end)), Some((0, 4)));
    assert!(ranges.remove_owner(1));
    assert!(ranges.is_empty());
}

#[test]
fn cycles_are_found() {
    let mut graph = WaitGraph::new();
    graph.add(1, 2);
    graph.add(2, 3);
    assert!(graph.would_deadlock(3, 1, 10));
    assert!(!graph.would_deadlock(4, 1, 10));
    assert!(!graph.would_deadlock(3, 1, 2), "the limit ends the search");
    graph.remove(2);
    assert!(!graph.would_deadlock(3, 1, 10));
}
