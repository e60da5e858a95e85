use super::*;
use proptest::prelude::*;

const PAGE: u64 = 4096;
const PAGES: u64 = 200;

/// A payload like a file mapping: `page` is the file page of the area's first page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Map {
    kind: u8,
    page: u64,
}

impl VmaData for Map {
    fn split(&mut self, offset: u64) -> Map {
        Map { page: self.page + offset / PAGE, ..*self }
    }
    fn can_merge(&self, len: u64, next: &Map) -> bool {
        self.kind == next.kind && self.page + len / PAGE == next.page
    }
    fn guard_gap(&self) -> u64 {
        if self.kind == 9 { 2 * PAGE } else { 0 }
    }
}

fn set() -> VmaSet<Map> {
    VmaSet::new(0..PAGES * PAGE)
}

fn pages(range: Range<u64>) -> Range<u64> {
    range.start * PAGE..range.end * PAGE
}

fn areas(set: &VmaSet<Map>) -> Vec<(u64, u64, u8)> {
    set.iter().map(|v| (v.start / PAGE, v.end / PAGE, v.data.kind)).collect()
}

#[test]
fn inserting_merges_on_both_sides() {
    let mut s = set();
    let map = |page| Map { kind: 1, page };
    s.insert(pages(10..20), map(10)).unwrap();
    s.insert(pages(30..40), map(30)).unwrap();
    s.insert(pages(20..30), map(20)).unwrap();
    assert_eq!(areas(&s), [(10, 40, 1)]);
    s.insert(pages(5..10), map(5)).unwrap();
    assert_eq!(areas(&s), [(5, 40, 1)]);
    assert_eq!(s.find(5 * PAGE).unwrap().data.page, 5);
    assert_eq!(s.insert(pages(39..41), map(39)), Err(InsertError::Occupied));
    assert_eq!(s.mapped_bytes(), 35 * PAGE);
}

#[test]
fn carving_the_middle_leaves_two() {
    let mut s = set();
    s.insert(pages(10..20), Map { kind: 1, page: 100 }).unwrap();
    let mut gone = Vec::new();
    s.carve(pages(13..15), |vma| gone.push((vma.start / PAGE, vma.data.page))).unwrap();
    assert_eq!(gone, [(13, 103)]);
    assert_eq!(areas(&s), [(10, 13, 1), (15, 20, 1)]);
    assert_eq!(s.find(15 * PAGE).unwrap().data.page, 105);
}

#[test]
fn update_splits_and_merges_back() {
    let mut s = set();
    s.insert(pages(10..20), Map { kind: 1, page: 10 }).unwrap();
    let paint = |s: &mut VmaSet<Map>, range, kind| {
        s.update::<OutOfMemory>(pages(range), |_, map| {
            map.kind = kind;
            Ok(())
        })
        .unwrap();
    };
    paint(&mut s, 12..14, 2);
    assert_eq!(areas(&s), [(10, 12, 1), (12, 14, 2), (14, 20, 1)]);
    paint(&mut s, 0..100, 1);
    assert_eq!(areas(&s), [(10, 20, 1)]);
}

#[test]
fn the_gap_search_leaves_a_guard_gap_and_goes_top_down() {
    let mut s = set();
    s.insert(pages(100..110), Map { kind: 9, page: 0 }).unwrap();
    let find =
        |s: &mut VmaSet<Map>, len, within| s.find_free(&FreeSpace::top_down(len * PAGE, pages(within)));
    assert_eq!(find(&mut s, 5, 0..200), Some(195 * PAGE));
    assert_eq!(find(&mut s, 5, 0..110), Some(93 * PAGE));
    assert_eq!(find(&mut s, 98, 0..110), Some(0));
    assert_eq!(find(&mut s, 99, 0..110), None);
    let up = FreeSpace { align: 16 * PAGE, ..FreeSpace::bottom_up(PAGE, pages(97..200)) };
    assert_eq!(s.find_free(&up), Some(112 * PAGE));
}

#[test]
fn growing_in_place_stops_at_the_neighbour() {
    let mut s = set();
    s.insert(pages(10..20), Map { kind: 1, page: 0 }).unwrap();
    s.insert(pages(25..30), Map { kind: 2, page: 0 }).unwrap();
    assert_eq!(s.grow_up(19 * PAGE, 26 * PAGE), Err(InsertError::Occupied));
    assert_eq!(s.grow_up(19 * PAGE, 25 * PAGE), Ok(()));
    assert_eq!(s.grow_down(10 * PAGE, 4 * PAGE, |map, bytes| map.kind += (bytes / PAGE) as u8), Ok(()));
    assert_eq!(areas(&s), [(4, 25, 7), (25, 30, 2)]);
}

/// Many small areas with too small gaps between them: the search must pass over them, not through them.
#[test]
fn the_bound_keeps_searches_from_walking_every_area() {
    let mut s: VmaSet<Map> = VmaSet::new(0..1 << 40);
    for i in 0..20_000u64 {
        s.insert(pages(1000 + 2 * i..1001 + 2 * i), Map { kind: (i % 2) as u8, page: 0 }).unwrap();
    }
    let want = FreeSpace::top_down(2 * PAGE, pages(0..41_001));
    assert_eq!(s.find_free(&want), Some(40_999 * PAGE));
    let inside = FreeSpace::top_down(2 * PAGE, pages(0..40_000));
    assert_eq!(s.find_free(&inside), Some(998 * PAGE));
    assert!(
        s.store
            .chunks
            .iter()
            .rev()
            .skip(300)
            .all(|chunk| chunk.max_gap <= PAGE || chunk.areas[0].start == 1000 * PAGE)
    );
}

/// The oracle: what each page is.
struct Oracle(Vec<Option<Map>>);

impl Oracle {
    fn areas(&self) -> Vec<(u64, u64, Map)> {
        let mut out: Vec<(u64, u64, Map)> = Vec::new();
        for (page, map) in self.0.iter().enumerate() {
            let Some(map) = *map else { continue };
            match out.last_mut() {
                Some(last) if last.1 == page as u64 && last.2.can_merge((last.1 - last.0) * PAGE, &map) => {
                    last.1 += 1;
                }
                _ => out.push((page as u64, page as u64 + 1, map)),
            }
        }
        out
    }

    fn find_free(&self, want: &FreeSpace) -> Option<u64> {
        let fits = |&start: &u64| {
            let low = start.checked_sub(want.guard / PAGE);
            let Some(low) = low.filter(|low| low * PAGE >= want.within.start) else { return false };
            let end = start + want.len / PAGE;
            if end * PAGE > want.within.end || start * PAGE % want.align != 0 {
                return false;
            }
            let free = |page: u64| self.0[page as usize].is_none();
            // Two pages below a guarded area's first page are not free either.
            let guarded = (end..(end + 2).min(PAGES)).find(|&page| !free(page));
            let hits_guard = guarded.is_some_and(|page| self.starts_guarded(page));
            (low..end).all(free) && !hits_guard && !(low..end).any(|p| self.in_guard(p))
        };
        match want.direction {
            Direction::TopDown => (0..PAGES).rev().find(fits),
            Direction::BottomUp => (0..PAGES).find(fits),
        }
        .map(|page| page * PAGE)
    }

    fn starts_guarded(&self, page: u64) -> bool {
        self.0[page as usize].is_some_and(|map| map.kind == 9)
    }

    fn in_guard(&self, page: u64) -> bool {
        let above = (page..(page + 3).min(PAGES)).find(|&p| self.0[p as usize].is_some());
        above.is_some_and(|p| p <= page + 2 && self.starts_guarded(p))
    }
}

#[derive(Debug, Clone)]
enum Op {
    Insert(u64, u64, u8),
    Carve(u64, u64),
    Paint(u64, u64, u8),
    GrowUp(u64, u64),
    GrowDown(u64, u64),
    Find { len: u64, align: u32, low: u64, high: u64, down: bool, guard: u64, insert: bool },
}

fn op() -> impl Strategy<Value = Op> {
    let kind = prop_oneof![5 => 0u8..3, 1 => Just(9u8)];
    prop_oneof![
        6 => (0..PAGES, 1..12u64, kind.clone()).prop_map(|(at, len, kind)| Op::Insert(at, len, kind)),
        2 => (0..PAGES, 1..40u64).prop_map(|(at, len)| Op::Carve(at, len)),
        2 => (0..PAGES, 1..40u64, kind).prop_map(|(at, len, kind)| Op::Paint(at, len, kind)),
        1 => (0..PAGES, 1..9u64).prop_map(|(at, by)| Op::GrowUp(at, by)),
        1 => (0..PAGES, 1..9u64).prop_map(|(at, by)| Op::GrowDown(at, by)),
        4 => (1..20u64, 0..4u32, 0..PAGES, 0..=PAGES, any::<bool>(), 0..3u64, any::<bool>()).prop_map(
            |(len, align, low, high, down, guard, insert)| Op::Find { len, align, low, high, down, guard, insert }
        ),
    ]
}

fn apply(s: &mut VmaSet<Map>, oracle: &mut Oracle, op: Op) {
    match op {
        Op::Insert(at, len, kind) => {
            let end = at + len;
            let fits = end <= PAGES && (at..end).all(|p| oracle.0[p as usize].is_none());
            let got = s.insert(pages(at..end), Map { kind, page: at });
            assert_eq!(got.is_ok(), fits);
            for p in (at..end).filter(|_| fits) {
                oracle.0[p as usize] = Some(Map { kind, page: p });
            }
        }
        Op::Carve(at, len) => {
            let mut gone = Vec::new();
            s.carve(pages(at..at + len), |vma| gone.push(vma)).unwrap();
            for vma in &gone {
                for p in vma.start / PAGE..vma.end / PAGE {
                    let was = oracle.0[p as usize].take().unwrap();
                    assert_eq!(was, Map { kind: vma.data.kind, page: vma.data.page + p - vma.start / PAGE });
                }
            }
            assert!(oracle.0[at as usize..((at + len).min(PAGES)) as usize].iter().all(Option::is_none));
        }
        Op::Paint(at, len, kind) => {
            s.update::<OutOfMemory>(pages(at..at + len), |_, map| {
                map.kind = kind;
                Ok(())
            })
            .unwrap();
            for slot in oracle.0[at as usize..((at + len).min(PAGES)) as usize].iter_mut().flatten() {
                slot.kind = kind;
            }
        }
        Op::GrowUp(at, by) => {
            let Some(vma) = s.find(at * PAGE).cloned() else { return };
            let end = vma.end / PAGE;
            let fits = end + by <= PAGES && (end..end + by).all(|p| oracle.0[p as usize].is_none());
            assert_eq!(s.grow_up(at * PAGE, (end + by) * PAGE).is_ok(), fits);
            for p in (end..end + by).filter(|_| fits) {
                let page = vma.data.page + p - vma.start / PAGE;
                oracle.0[p as usize] = Some(Map { kind: vma.data.kind, page });
            }
        }
        Op::GrowDown(at, by) => {
            let Some(vma) = s.find(at * PAGE).cloned() else { return };
            let start = vma.start / PAGE;
            // The payload starts earlier, too, which this file cannot do below its page 0.
            if start < by || vma.data.page < by {
                return;
            }
            let fits = (start - by..start).all(|p| oracle.0[p as usize].is_none());
            let got = s.grow_down(at * PAGE, (start - by) * PAGE, |map, bytes| map.page -= bytes / PAGE);
            assert_eq!(got.is_ok(), fits);
            for p in (start - by..start).filter(|_| fits) {
                oracle.0[p as usize] = Some(Map { kind: vma.data.kind, page: vma.data.page + p - start });
            }
        }
        Op::Find { len, align, low, high, down, guard, insert } => {
            let direction = if down { Direction::TopDown } else { Direction::BottomUp };
            let within = low * PAGE..high.max(low) * PAGE;
            let want =
                FreeSpace { len: len * PAGE, align: PAGE << align, within, direction, guard: guard * PAGE };
            let found = s.find_free(&want);
            assert_eq!(found, oracle.find_free(&want), "{want:?}");
            if let Some(start) = found.filter(|_| insert) {
                apply(s, oracle, Op::Insert(start / PAGE, len, 1));
            }
        }
    }
}

/// Areas that touch may or may not have been merged by grow_down, which cuts nothing: compare as pages.
fn same(s: &VmaSet<Map>, oracle: &Oracle) {
    let mut merged: Vec<(u64, u64, Map)> = Vec::new();
    for vma in s.iter() {
        match merged.last_mut() {
            Some(last)
                if last.1 == vma.start / PAGE && last.2.can_merge((last.1 - last.0) * PAGE, &vma.data) =>
            {
                last.1 = vma.end / PAGE;
            }
            _ => merged.push((vma.start / PAGE, vma.end / PAGE, vma.data)),
        }
    }
    assert_eq!(merged, oracle.areas());
    let total: u64 = s.iter().map(Vma::len).sum();
    assert_eq!(total, s.mapped_bytes());
    assert_eq!(s.iter().count(), s.len());
}

fn check_store(s: &VmaSet<Map>) {
    let mut end = 0;
    for chunk in &s.store.chunks {
        assert!(!chunk.areas.is_empty() && chunk.areas.len() <= CHUNK);
        for vma in &chunk.areas {
            assert!(end <= vma.start && vma.start < vma.end);
            assert!(chunk.max_gap >= vma.start - end);
            end = vma.end;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn behaves_like_a_map_of_pages(ops in prop::collection::vec(op(), 0..120)) {
        let mut s = set();
        let mut oracle = Oracle(vec![None; PAGES as usize]);
        for op in ops {
            apply(&mut s, &mut oracle, op);
            same(&s, &oracle);
            check_store(&s);
            for page in 0..PAGES {
                let found = s.find(page * PAGE + 7).map(|vma| vma.data.kind);
                prop_assert_eq!(found, oracle.0[page as usize].map(|map| map.kind));
            }
        }
        let copy = s.try_clone_with::<OutOfMemory>(|vma| Ok(Some(vma.data))).unwrap();
        prop_assert!(copy.iter().eq(s.iter()));
        check_store(&copy);
        s.clear(|_| ());
        prop_assert!(s.is_empty() && s.mapped_bytes() == 0);
    }
}
