use super::*;
use proptest::prelude::*;

#[derive(Clone, Copy)]
struct Meta {
    order: Option<u8>,
    next: u32,
    prev: u32,
}

/// Frame metadata as a `Vec`, the fake machine.
struct Table(Vec<Meta>);

impl Table {
    fn new(frames: u32) -> Table {
        Table(vec![Meta { order: None, next: NONE, prev: NONE }; frames as usize])
    }
}

impl Frames for Table {
    fn free_order(&self, frame: u32) -> Option<u8> {
        self.0[frame as usize].order
    }
    fn set_free_order(&mut self, frame: u32, order: Option<u8>) {
        self.0[frame as usize].order = order;
    }
    fn next(&self, frame: u32) -> u32 {
        self.0[frame as usize].next
    }
    fn prev(&self, frame: u32) -> u32 {
        self.0[frame as usize].prev
    }
    fn set_next(&mut self, frame: u32, next: u32) {
        self.0[frame as usize].next = next;
    }
    fn set_prev(&mut self, frame: u32, prev: u32) {
        self.0[frame as usize].prev = prev;
    }
}

/// Walks all lists; returns, per frame, whether it is free, and checks everything that must hold.
fn free_map(buddy: &Buddy, table: &Table) -> Vec<bool> {
    let mut free = vec![false; table.0.len()];
    let mut heads = 0;
    for order in 0..ORDERS {
        let (mut prev, mut at, mut blocks) = (NONE, buddy.heads[order], 0);
        while at != NONE {
            assert_eq!(table.free_order(at), Some(order as u8));
            assert_eq!(table.prev(at), prev);
            assert_eq!(at % (1 << order), 0);
            assert!(buddy.contains(at) && at + (1 << order) <= buddy.end);
            for slot in &mut free[at as usize..][..1 << order] {
                assert!(!*slot, "a frame is free twice");
                *slot = true;
            }
            (prev, at, blocks) = (at, table.next(at), blocks + 1);
        }
        assert_eq!(buddy.blocks()[order], blocks);
        heads += blocks;
    }
    assert_eq!(free.iter().filter(|&&f| f).count() as u32, buddy.free_frames());
    assert_eq!(table.0.iter().filter(|m| m.order.is_some()).count() as u32, heads);
    free
}

#[test]
fn splits_and_merges() {
    let (mut buddy, mut table) = (Buddy::new(0, 1024), Table::new(1024));
    buddy.free_range(&mut table, 0, 1024);
    assert_eq!(buddy.blocks()[10], 1);
    let a = buddy.alloc(&mut table, 0).unwrap();
    assert_eq!(a, 0);
    assert_eq!(buddy.blocks()[..10], [1; 10]);
    assert_eq!(buddy.alloc(&mut table, 10), None);
    buddy.free(&mut table, a, 0);
    assert_eq!(buddy.blocks()[10], 1);
    free_map(&buddy, &table);
}

#[test]
fn never_merges_across_the_ends_or_a_hole() {
    let (mut buddy, mut table) = (Buddy::new(3, 29), Table::new(32));
    buddy.free_range(&mut table, 3, 15);
    buddy.free_range(&mut table, 16, 29); // 15 is a hole
    let free = free_map(&buddy, &table);
    for (frame, &is_free) in free.iter().enumerate() {
        assert_eq!(is_free, (3..29).contains(&frame) && frame != 15);
    }
    assert_eq!(buddy.alloc(&mut table, 4), None);
    assert_eq!(buddy.alloc(&mut table, 3), Some(16));
}

#[test]
fn take_removes_exactly_one_frame() {
    let (mut buddy, mut table) = (Buddy::new(0, 64), Table::new(64));
    buddy.free_range(&mut table, 0, 64);
    assert!(buddy.take(&mut table, 37));
    assert!(!buddy.take(&mut table, 37));
    let free = free_map(&buddy, &table);
    assert!(free.iter().enumerate().all(|(f, &is_free)| is_free == (f != 37)));
    buddy.free(&mut table, 37, 0);
    assert_eq!(buddy.blocks()[6], 1);
}

#[test]
fn watermarks_follow_linux() {
    // 128 MiB: sqrt(131072 * 16) = 1448 KiB = 362 frames.
    let marks = Watermarks::for_zone(32768, 32768);
    assert_eq!(marks, Watermarks { min: 362, low: 452, high: 542 });
    let quarter = Watermarks::for_zone(8192, 32768);
    assert_eq!(quarter.min, 362 / 4);
    assert_eq!(Watermarks::for_zone(0, 0), Watermarks::default());
    // What the administrator asks for is shared by size, and is an eighth of memory at most.
    assert_eq!(Watermarks::with_min(8192, 32768, 1000), Watermarks { min: 250, low: 312, high: 374 });
    assert_eq!(Watermarks::with_min(32768, 32768, 0), Watermarks { min: 0, low: 32, high: 64 });
    assert_eq!(Watermarks::with_min(32768, 32768, u32::MAX).min, 4096);
}

#[test]
fn a_zone_refuses_below_its_marks() {
    let mut table = Table::new(4096);
    let mut zone = Zone::new(ZoneKind::Normal, 0, 4096);
    zone.add(&mut table, 0, 4096);
    zone.set_watermarks(Watermarks { min: 100, low: 200, high: 300 });
    let count = |zone: &mut Zone, table: &mut Table, reserve| {
        std::iter::from_fn(|| zone.alloc(table, 0, reserve)).count()
    };
    assert_eq!(count(&mut zone, &mut table, Reserve::Keep), 4096 - 200);
    assert!(!zone.is_low());
    assert_eq!(count(&mut zone, &mut table, Reserve::Dig), 100);
    assert_eq!(count(&mut zone, &mut table, Reserve::Deep), 50);
    assert!(zone.is_low());
    assert_eq!(count(&mut zone, &mut table, Reserve::Drain), 50);
}

proptest! {
    #[test]
    fn ranges_behave_like_a_bitmap(ops in prop::collection::vec((any::<bool>(), 0u64..200, 0u64..60), 0..40)) {
        let (mut set, mut model) = (Ranges::<64>::new(), vec![false; 300]);
        for (add, start, len) in ops {
            if add { set.add(start, start + len) } else { set.remove(start, start + len) }
            model[start as usize..(start + len) as usize].fill(add);
            let mut listed = vec![false; 300];
            let mut last = None;
            for (from, to) in set.iter() {
                prop_assert!(from < to && last.is_none_or(|last| from > last));
                listed[from as usize..to as usize].fill(true);
                last = Some(to);
            }
            prop_assert_eq!(&listed, &model);
        }
    }
}

#[test]
fn a_full_set_of_ranges_gives_up_the_smaller_piece() {
    let mut set = Ranges::<2>::new();
    set.add(0, 10);
    set.add(20, 30);
    set.remove(2, 3);
    assert!(set.iter().eq([(3, 10), (20, 30)]));
    set.add(50, 51);
    assert!(set.iter().eq([(3, 10), (20, 30)]));
    assert_eq!(set.take_top(4, 2, 29), Some(24));
    assert!(set.iter().eq([(3, 10), (28, 30)]) || set.iter().eq([(3, 10), (20, 24)]));
}

#[derive(Debug, Clone)]
enum Op {
    Alloc(u8),
    Free(usize),
    Split(usize),
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..=MAX_ORDER).prop_map(Op::Alloc),
        3 => any::<usize>().prop_map(Op::Free),
        1 => any::<usize>().prop_map(Op::Split),
    ]
}

proptest! {
    #[test]
    fn blocks_never_overlap_and_all_comes_back(
        start in 0u32..100, len in 1u32..5000, ops in prop::collection::vec(op(), 0..200)
    ) {
        let end = start + len;
        let (mut buddy, mut table) = (Buddy::new(start, end), Table::new(end));
        buddy.free_range(&mut table, start, end);
        let full = buddy.blocks().to_owned();
        let mut held: Vec<(u32, u8)> = Vec::new();
        for op in ops {
            match op {
                Op::Alloc(order) => match buddy.alloc(&mut table, order) {
                    Some(frame) => held.push((frame, order)),
                    None => prop_assert!(!buddy.has_block(order)),
                },
                Op::Free(which) if !held.is_empty() => {
                    let (frame, order) = held.swap_remove(which % held.len());
                    buddy.free(&mut table, frame, order);
                }
                Op::Split(which) if !held.is_empty() => {
                    let (frame, order) = held.swap_remove(which % held.len());
                    held.extend((0..1u32 << order).map(|i| (frame + i, 0)));
                }
                _ => {}
            }
            let mut used = free_map(&buddy, &table);
            for &(frame, order) in &held {
                prop_assert_eq!(frame % (1 << order), 0);
                for slot in &mut used[frame as usize..][..1 << order] {
                    prop_assert!(!*slot, "handed out twice");
                    *slot = true;
                }
            }
            prop_assert!(used[start as usize..].iter().all(|&u| u), "a frame was lost");
        }
        for (frame, order) in held {
            buddy.free(&mut table, frame, order);
        }
        prop_assert_eq!(buddy.blocks(), &full);
    }
}
