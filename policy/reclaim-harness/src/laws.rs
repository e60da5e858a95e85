//! What every policy must do whatever it is told.

use reclaim_api::{Key, Page, PolicyInfo};
use std::collections::BTreeMap;

/// Makes the tests that every policy has: `laws!(INFO)`.
#[macro_export]
macro_rules! laws {
    ($info:expr) => {
        proptest::proptest! {
            #[test]
            fn laws(
                ops in proptest::collection::vec((0..20u8, 0..60u64), 0..400),
                size in 1..24usize,
                named in proptest::bool::ANY,
            ) {
                $crate::check(&$info, &ops, size, named);
            }
        }

        #[test]
        fn a_loop_that_fits_is_all_hits() {
            let mut cache = $crate::Cache::new(&$info, 50);
            for round in 0..20 {
                for key in 0..50 {
                    assert_eq!(cache.access(key), round > 0);
                }
            }
        }
    };
}

/// Runs operations on a policy: `(kind, key)`, most of them accesses. Panics when it breaks a law:
///
/// - a victim is a page that is held, and there is one as long as one is held;
/// - `len` is the number of pages held;
/// - unknown pages are ignored.
pub fn check(info: &PolicyInfo, ops: &[(u8, u64)], size: usize, named: bool) {
    let mut size = size;
    let mut policy = (info.make)();
    policy.reserve(size, size).expect("memory");
    policy.hit(Page(3));
    policy.remove(Page(u32::MAX));
    assert_eq!(policy.evict(Some(7)), None, "nothing is held");
    let mut held: BTreeMap<Key, Page> = BTreeMap::new();
    for (kind, key) in ops {
        match kind {
            0 => {
                if let Some(page) = held.remove(key) {
                    policy.remove(page);
                }
            }
            1 if size < 40 => {
                size += 3;
                policy.reserve(size, size).expect("memory");
            }
            2 => refuse(&mut *policy, &held),
            _ => access(&mut *policy, &mut held, *key, size, named),
        }
        assert_eq!(policy.len(), held.len());
    }
    while let Some(page) = policy.evict(None) {
        let before = held.len();
        held.retain(|_, other| *other != page);
        assert_eq!(held.len() + 1, before, "each page goes once");
    }
    assert!(held.is_empty(), "every page can go");
}

fn access(
    policy: &mut dyn reclaim_api::Reclaim,
    held: &mut BTreeMap<Key, Page>,
    key: Key,
    size: usize,
    named: bool,
) {
    if let Some(page) = held.get(&key) {
        return policy.hit(*page);
    }
    while held.len() >= size {
        let page = policy.evict(named.then_some(key)).expect("a victim");
        let before = held.len();
        held.retain(|_, other| *other != page);
        assert_eq!(held.len() + 1, before, "the victim is held");
    }
    let free = (0..size as u32).map(Page).find(|page| !held.values().any(|other| other == page));
    let page = free.expect("a free number");
    policy.insert(page, key);
    held.insert(key, page);
}

/// A victim that cannot go.
fn refuse(policy: &mut dyn reclaim_api::Reclaim, held: &BTreeMap<Key, Page>) {
    let Some(page) = policy.evict(None) else { return };
    let key =
        held.iter().find(|(_, other)| **other == page).map(|(key, _)| *key).expect("the victim is held");
    policy.keep(page, key);
}
