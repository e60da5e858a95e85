use crate::{Ghosts, Lists, Page};
use proptest::prelude::*;
use std::collections::VecDeque;

#[test]
fn a_page_is_in_one_list() {
    let mut lists = Lists::<2>::new();
    lists.reserve(4).unwrap();
    lists.insert_front(0, Page(1), 10);
    lists.insert_front(0, Page(2), 20);
    lists.set_mark(Page(1), 7);
    lists.to_front(1, Page(1));
    assert_eq!((lists.len(0), lists.len(1), lists.mark(Page(1))), (1, 1, 7));
    assert_eq!(
        (lists.list_of(Page(1)), lists.list_of(Page(3)), lists.list_of(Page(9))),
        (Some(1), None, None)
    );
    lists.insert_front(0, Page(9), 1);
    assert_eq!((lists.total(), lists.pop_back(0), lists.pop_back(0)), (2, Some(Page(2)), None));
}

proptest! {
    #[test]
    fn lists_are_queues(ops in proptest::collection::vec((0..4u8, 0..12u32, 0..3usize), 0..200)) {
        let mut lists = Lists::<3>::new();
        lists.reserve(10).unwrap();
        let mut model: [VecDeque<u32>; 3] = Default::default();
        for (op, page, list) in ops {
            match op {
                0 if page < 10 => {
                    model.iter_mut().for_each(|queue| queue.retain(|p| *p != page));
                    model[list].push_front(page);
                    lists.insert_front(list, Page(page), u64::from(page));
                }
                1 => {
                    let there = model.iter().any(|queue| queue.contains(&page));
                    model.iter_mut().for_each(|queue| queue.retain(|p| *p != page));
                    if there {
                        model[list].push_front(page);
                    }
                    lists.to_front(list, Page(page));
                }
                2 => prop_assert_eq!(lists.pop_back(list), model[list].pop_back().map(Page)),
                _ => {
                    model.iter_mut().for_each(|queue| queue.retain(|p| *p != page));
                    lists.remove(Page(page));
                }
            }
            for (number, queue) in model.iter().enumerate() {
                prop_assert_eq!(lists.len(number), queue.len());
                let mut at = lists.back(number);
                for page in queue.iter().rev() {
                    prop_assert_eq!(at, Some(Page(*page)));
                    at = lists.before(Page(*page));
                }
            }
        }
    }

    #[test]
    fn ghosts_are_a_bounded_ordered_map(
        ops in proptest::collection::vec((0..4u8, 0..40u64, 0..2usize), 0..300),
        room in 1..20usize,
    ) {
        let mut ghosts = Ghosts::<2>::new();
        ghosts.reserve(room).unwrap();
        let mut room = room;
        let mut model: [VecDeque<u64>; 2] = Default::default();
        for (op, key, list) in ops {
            // Keys that share their low or high bits must not matter.
            let key = key << 32 | key % 3;
            match op {
                0 | 1 => {
                    model.iter_mut().for_each(|queue| queue.retain(|k| *k != key));
                    if model[0].len() + model[1].len() == room {
                        let from = if model[list].is_empty() { 1 - list } else { list };
                        model[from].pop_back();
                    }
                    model[list].push_front(key);
                    ghosts.push(list, key, key + 1);
                }
                2 => {
                    let at = model.iter().position(|queue| queue.contains(&key));
                    model.iter_mut().for_each(|queue| queue.retain(|k| *k != key));
                    prop_assert_eq!(ghosts.remove(key), at);
                }
                _ => {
                    prop_assert_eq!(ghosts.pop_oldest(list), model[list].pop_back());
                    room += usize::from(key % 7 == 0);
                    ghosts.reserve(room).unwrap();
                }
            }
            for (number, queue) in model.iter().enumerate() {
                prop_assert_eq!(ghosts.len(number), queue.len());
                for key in queue {
                    prop_assert_eq!(ghosts.find(*key), Some((number, key + 1)));
                }
            }
        }
    }
}
