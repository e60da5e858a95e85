use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

const MAX: u32 = DEFAULT_MAX_PAGES;

/// A file whose pages come the moment they are asked for.
#[derive(Default)]
struct Cache {
    window: Window,
    pages: BTreeSet<u64>,
    mark: BTreeSet<u64>,
    previous: Option<u64>,
    /// Plans carried out, and misses among them.
    reads: Vec<Plan>,
    misses: usize,
}

impl Cache {
    fn carry_out(&mut self, plan: Plan) {
        self.pages.extend(plan.start..plan.end());
        self.mark.extend(plan.mark);
        self.reads.push(plan);
    }

    fn read(&mut self, first: u64, count: u32) {
        for index in first..first + u64::from(count) {
            let wanted = (first + u64::from(count) - index) as u32;
            if !self.pages.contains(&index) {
                self.misses += 1;
                let pages = &self.pages;
                let before = |limit: u32| {
                    (1..=u64::from(limit)).take_while(|n| index >= *n && pages.contains(&(index - n))).count()
                        as u32
                };
                let plan = self.window.on_miss(index, wanted, MAX, self.previous, before);
                self.carry_out(plan);
            }
            if self.mark.remove(&index) {
                let pages = &self.pages;
                let after =
                    |limit: u32| (index + 1..=index + u64::from(limit)).find(|at| !pages.contains(at));
                if let Some(plan) = self.window.on_mark(index, wanted, MAX, after) {
                    self.carry_out(plan);
                }
            }
            self.previous = Some(index);
        }
    }
}

#[test]
fn a_stream_misses_once_and_its_windows_double() {
    let mut cache = Cache::default();
    (0..400).for_each(|page| cache.read(page, 1));
    assert_eq!(cache.misses, 1);
    let sizes: Vec<u32> = cache.reads.iter().map(|plan| plan.pages).collect();
    assert_eq!(&sizes[..5], &[4, 8, 16, 32, 32]);
    let ends: Vec<u64> = cache.reads.windows(2).map(|two| two[1].start - two[0].end()).collect();
    assert!(ends.iter().all(|gap| *gap == 0), "windows follow each other without a gap");
}

#[test]
fn random_reads_read_what_they_want() {
    let mut cache = Cache::default();
    let mut at = 12_345u64;
    for _ in 0..200 {
        at = at.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        cache.read(1000 + (at >> 33) * 7, 1);
    }
    let extra: u32 = cache.reads.iter().map(|plan| plan.pages - 1).sum();
    assert!(extra < 64, "{extra} pages too many");
}

#[test]
fn two_streams_of_one_file_both_run_ahead() {
    let mut cache = Cache::default();
    for page in 0..300 {
        cache.read(page, 1);
        cache.read(100_000 + page, 1);
    }
    assert!(cache.misses < 30, "{} misses", cache.misses);
}

#[test]
fn off_means_off() {
    let mut window = Window::default();
    let plan = window.on_miss(5, 3, 0, Some(4), |_| unreachable!());
    assert_eq!(plan, Plan { start: 5, pages: 3, mark: None });
    assert_eq!(window.on_mark(5, 3, 0, |_| unreachable!()), None);
}

proptest! {
    #[test]
    fn plans_hold_the_page_and_stay_within_the_limit(
        calls in proptest::collection::vec((0..5000u64, 1..80u32, any::<bool>(), 0..40u32), 1..60),
        max in 0..200u32,
    ) {
        let mut window = Window::default();
        for (index, wanted, follows, history) in calls {
            let previous = follows.then(|| index.saturating_sub(1));
            let plan = window.on_miss(index, wanted, max, previous, |limit| history.min(limit));
            prop_assert!((plan.start..plan.end()).contains(&index));
            prop_assert!(max == 0 || plan.pages <= max.max(1), "{plan:?}");
            prop_assert!(plan.mark.is_none_or(|mark| (plan.start..plan.end()).contains(&mark)));
            let next = window.on_mark(index, wanted, max, |limit| (limit > 0).then_some(index + 1));
            prop_assert!(next.is_none_or(|plan| plan.pages <= max && plan.start > 0));
        }
    }

    #[test]
    fn no_number_overflows(index in any::<u64>(), wanted in any::<u32>(), max in any::<u32>(), history in any::<u32>()) {
        let mut window = Window::default();
        let _ = window.on_miss(index, wanted, max, index.checked_sub(1), |_| history);
        let _ = window.on_miss(index, wanted, max, None, |_| history);
        let _ = window.on_mark(index, wanted, max, |_| index.checked_add(1));
        let _ = window.around(index, max);
    }
}
