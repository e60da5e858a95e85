use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

#[test]
fn near_timers_are_exact_and_far_ones_late_within_an_eighth() {
    // (ticks ahead, granularity): FACTS from Linux's table for HZ=1000.
    for (ahead, width) in
        [(0, 1), (62, 1), (63, 8), (500, 8), (504, 64), (4031, 64), (4032, 512), (5000, 512)]
    {
        assert_eq!(granularity_at(ahead), width, "{ahead}");
    }
}

#[test]
fn a_timer_fires_once_and_its_id_goes_stale() {
    let mut wheel = TimerWheel::new(100);
    let id = wheel.add(100, 105, 'a').unwrap();
    let past = wheel.add(100, 7, 'b').unwrap();
    assert_eq!(wheel.next_expiry(), Some(100));
    assert_eq!(wheel.pop_expired(104), Some('b'));
    assert_eq!(wheel.pop_expired(104), None);
    assert_eq!(wheel.cancel(past), None);
    assert_eq!(wheel.pop_expired(105), Some('a'));
    let reused = wheel.add(105, 200, 'c').unwrap();
    assert_eq!(wheel.cancel(id), None);
    assert_eq!(wheel.cancel(reused), Some('c'));
    assert!(wheel.is_empty() && wheel.next_expiry().is_none());
}

#[test]
fn beyond_the_wheel_is_waited_for_in_turns() {
    let mut wheel = TimerWheel::new(0);
    let far = 1 << 40;
    wheel.add(0, far, ()).unwrap();
    let mut now = 0;
    let mut wakes = 0;
    while wheel.pop_expired(now).is_none() {
        now = wheel.next_expiry().unwrap();
        wakes += 1;
    }
    assert!(now >= far && now - far < far / 8 && wakes < 1200, "{now} {wakes}");
}

#[test]
fn equal_expiries_leave_the_queue_in_order() {
    let mut queue = TimerQueue::new();
    let ids: Vec<_> = (0..20).map(|i| queue.add(5, i).unwrap()).collect();
    assert_eq!(queue.cancel(ids[3]), Some(3));
    assert_eq!(queue.expiry(ids[4]), Some(5));
    assert_eq!(queue.expiry(ids[3]), None);
    let order: Vec<_> = std::iter::from_fn(|| queue.pop_expired(5)).collect();
    assert_eq!(order, (0..20).filter(|&i| i != 3).collect::<Vec<_>>());
}

#[derive(Debug, Clone)]
enum Op {
    Add(u64),
    Cancel(usize),
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let distance =
        prop_oneof![0u64..70, 0u64..600, 0u64..40_000, 0u64..100_000_000, any::<u32>().prop_map(u64::from)];
    prop_oneof![
        4 => distance.clone().prop_map(Op::Add),
        2 => any::<usize>().prop_map(Op::Cancel),
        3 => distance.prop_map(Op::Advance),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn the_wheel_is_never_early_and_late_only_by_its_granularity(
        start in prop_oneof![Just(0u64), any::<u32>().prop_map(u64::from)], ops in prop::collection::vec(op(), 0..150)
    ) {
        let (mut now, mut processed) = (start, start.wrapping_sub(1));
        let mut wheel = TimerWheel::new(now);
        let mut armed: BTreeMap<usize, (TimerId, u64, u64)> = BTreeMap::new();
        for (serial, op) in ops.into_iter().enumerate() {
            match op {
                Op::Add(distance) => {
                    let expires = now + distance;
                    let id = wheel.add(now, expires, serial).unwrap();
                    // The tick `now` may have been processed.
                    armed.insert(serial, (id, expires.max(processed.wrapping_add(1)), granularity_at(distance)));
                }
                Op::Cancel(which) if !armed.is_empty() => {
                    let serial = *armed.keys().nth(which % armed.len()).unwrap();
                    prop_assert_eq!(wheel.cancel(armed.remove(&serial).unwrap().0), Some(serial));
                }
                Op::Cancel(_) => {}
                Op::Advance(by) => {
                    now += by;
                    if by % 3 == 0 && wheel.next_expiry().is_none_or(|at| at > now) {
                        continue; // a tickless CPU: nobody looks at the wheel
                    }
                    processed = now;
                    // As the kernel does: sleep from one expiry to the next.
                    while let Some(at) = wheel.next_expiry().filter(|&at| at <= now) {
                        while let Some(serial) = wheel.pop_expired(at) {
                            let (_, expires, width) = armed.remove(&serial).unwrap();
                            prop_assert!(at >= expires, "early");
                            prop_assert!(at < expires + width, "{} late, width {}", at - expires, width);
                        }
                    }
                    prop_assert_eq!(wheel.pop_expired(now), None);
                    for (_, expires, width) in armed.values() {
                        prop_assert!(now < expires + width, "overdue");
                    }
                }
            }
            prop_assert_eq!(wheel.len(), armed.len());
            prop_assert_eq!(wheel.next_expiry().is_some(), !armed.is_empty());
        }
    }

    #[test]
    fn the_queue_is_ordered(ops in prop::collection::vec(op(), 0..300)) {
        let mut queue = TimerQueue::new();
        let mut model: BTreeMap<(u64, usize), TimerId> = BTreeMap::new();
        let mut now = 0;
        for (serial, op) in ops.into_iter().enumerate() {
            match op {
                Op::Add(distance) => {
                    let at = now + distance % 50;
                    model.insert((at, serial), queue.add(at, serial).unwrap());
                }
                Op::Cancel(which) if !model.is_empty() => {
                    let key = *model.keys().nth(which % model.len()).unwrap();
                    let id = model.remove(&key).unwrap();
                    prop_assert_eq!(queue.expiry(id), Some(key.0));
                    prop_assert_eq!(queue.cancel(id), Some(key.1));
                    prop_assert_eq!(queue.cancel(id), None);
                }
                Op::Cancel(_) => {}
                Op::Advance(by) => {
                    now += by % 20;
                    while let Some(serial) = queue.pop_expired(now) {
                        let ((expires, first), _) = model.pop_first().unwrap();
                        prop_assert_eq!(serial, first);
                        prop_assert!(expires <= now);
                    }
                }
            }
            prop_assert_eq!(queue.next_expiry(), model.keys().next().map(|key| key.0));
            prop_assert_eq!(queue.len(), model.len());
        }
    }
}
