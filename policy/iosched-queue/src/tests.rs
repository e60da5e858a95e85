use super::*;
use iosched_api::IoPrio;
use proptest::prelude::*;
use std::collections::BTreeMap;

fn request(dir: Dir, start: u64, sectors: u32) -> Request {
    Request {
        dir,
        sync: dir == Dir::Read,
        start,
        sectors,
        owner: 0,
        prio: IoPrio::default(),
        mergeable: true,
    }
}

proptest! {
    /// Every request that went in is started and completed once, with policies changed in between.
    #[test]
    fn none_is_lost(steps in prop::collection::vec((0u8..8, 0u64..1000, 1u32..9), 1..400)) {
        let info = iosched_deadline::INFO;
        let mut elevator: Elevator<u64> = Elevator::new(&info, 32).unwrap();
        let mut expected: BTreeMap<u64, u8> = BTreeMap::new();
        let mut under_way = Vec::new();
        let mut now = 0;
        for (number, (what, start, sectors)) in steps.into_iter().enumerate() {
            now += 1_000_000;
            match what {
                0..=3 => {
                    let dir = if what < 2 { Dir::Read } else { Dir::Write };
                    if elevator.insert(&request(dir, start, sectors), number as u64, now).is_ok() {
                        expected.insert(number as u64, 1);
                    }
                }
                4 | 5 => if let Order::Start(id, payload) = elevator.next(now) {
                    under_way.push((id, payload));
                },
                6 => if let Some((id, payload)) = under_way.pop() {
                    elevator.completed(id, now);
                    prop_assert_eq!(expected.remove(&payload), Some(1));
                },
                _ => drop(elevator.replace(&info, (info.make)(32).unwrap(), now)),
            }
        }
        loop {
            match elevator.next(now) {
                Order::Start(id, payload) => under_way.push((id, payload)),
                Order::WaitUntil(at) => now = at,
                Order::Nothing if under_way.is_empty() => break,
                Order::Nothing => {}
            }
            for (id, payload) in under_way.drain(..) {
                elevator.completed(id, now);
                prop_assert_eq!(expected.remove(&payload), Some(1));
            }
        }
        prop_assert!(expected.is_empty());
        prop_assert_eq!(elevator.faults(), 0);
        prop_assert_eq!(elevator.free.len(), 32);
    }
}

#[test]
fn joins_neighbours() {
    let mut elevator: Elevator<Vec<u64>> = Elevator::new(&iosched_deadline::INFO, 8).unwrap();
    elevator.insert(&request(Dir::Write, 8, 8), vec![8], 0).unwrap();
    let mut join = |start, side: &mut Option<Side>| {
        elevator.merge(Dir::Write, start, 8, 0, |payload, at| {
            payload.push(start);
            *side = Some(at);
            true
        })
    };
    let mut side = None;
    assert_eq!(join(16, &mut side), Merged::At(Side::Back));
    assert_eq!(join(0, &mut side), Merged::At(Side::Front));
    assert_eq!(join(40, &mut side), Merged::No);
    let Order::Start(id, payload) = elevator.next(0) else { panic!() };
    assert_eq!(payload, [8, 16, 0]);
    assert_eq!(
        (elevator.entries[id.index()].request.start, elevator.entries[id.index()].request.sectors),
        (0, 24)
    );
}
