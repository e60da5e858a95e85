use super::*;
use proptest::prelude::*;
use std::collections::BTreeMap;

type TestGraph = Graph<u8, u8>;

fn boosts(graph: &TestGraph, tasks: &[u8]) -> Vec<Priority> {
    tasks.iter().map(|task| graph.boost(task)).collect()
}

#[test]
fn an_owner_is_as_urgent_as_its_first_waiter() {
    let mut graph = TestGraph::new();
    let mut told = Vec::new();
    graph.keep(&1, &0, 5);
    for (task, base) in [(1, 10), (2, 30), (3, 20)] {
        graph.wait(&1, &task, base, &mut |task, boost| told.push((*task, boost))).unwrap();
    }
    assert_eq!(told, [(0, 10), (0, 30)]);
    assert_eq!(graph.pass_on(&1, &mut |_, _| {}), Some(2));
    assert_eq!(boosts(&graph, &[0, 2]), [0, 20]);
    assert!(!graph.contains(&0));
    assert_eq!(graph.pass_on(&1, &mut |_, _| {}), Some(3));
    assert_eq!(graph.pass_on(&1, &mut |_, _| {}), Some(1));
    assert_eq!(graph.pass_on(&1, &mut |_, _| {}), None);
    assert!(graph.owner(&1).is_none() && !graph.contains(&1));
}

#[test]
fn among_equals_the_first_comes_first() {
    let mut graph = TestGraph::new();
    graph.keep(&1, &0, 0);
    for task in [3, 1, 2] {
        graph.wait(&1, &task, 0, &mut |_, _| {}).unwrap();
    }
    let order: Vec<u8> = core::iter::from_fn(|| graph.pass_on(&1, &mut |_, _| {})).collect();
    assert_eq!(order, [3, 1, 2]);
}

#[test]
fn urgency_travels_along_a_chain_and_back() {
    let mut graph = TestGraph::new();
    for (lock, owner) in [(1, 1), (2, 2), (3, 3)] {
        graph.keep(&lock, &owner, owner);
    }
    graph.wait(&2, &1, 1, &mut |_, _| {}).unwrap();
    graph.wait(&3, &2, 2, &mut |_, _| {}).unwrap();
    graph.wait(&1, &9, 90, &mut |_, _| {}).unwrap();
    assert_eq!(boosts(&graph, &[1, 2, 3]), [90, 90, 90]);
    graph.set_base(&9, 40, &mut |_, _| {});
    assert_eq!(boosts(&graph, &[1, 2, 3]), [40, 40, 40]);
    assert_eq!(graph.give_up(&9, &mut |_, _| {}), Some(1));
    assert_eq!(boosts(&graph, &[1, 2, 3]), [0, 1, 2]);
}

#[test]
fn a_closed_chain_is_refused() {
    let mut graph = TestGraph::new();
    graph.keep(&1, &1, 0);
    assert_eq!(graph.wait(&1, &1, 0, &mut |_, _| {}), Err(Deadlock));
    graph.keep(&2, &2, 0);
    graph.keep(&3, &3, 0);
    graph.wait(&2, &1, 0, &mut |_, _| {}).unwrap();
    graph.wait(&3, &2, 0, &mut |_, _| {}).unwrap();
    assert_eq!(graph.wait(&1, &3, 50, &mut |_, _| {}), Err(Deadlock));
    assert_eq!(boosts(&graph, &[1, 2, 3]), [0, 0, 0]);
}

#[derive(Debug, Clone)]
enum Step {
    Keep(u8, u8),
    Wait(u8, u8),
    GiveUp(u8),
    PassOn(u8),
    Base(u8, Priority),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let (lock, task) = (|| 0..5u8, || 0..7u8);
    let step = prop_oneof![
        (lock(), task()).prop_map(|(l, t)| Step::Keep(l, t)),
        (lock(), task()).prop_map(|(l, t)| Step::Wait(l, t)),
        task().prop_map(Step::GiveUp),
        lock().prop_map(Step::PassOn),
        (task(), 0..100u8).prop_map(|(t, p)| Step::Base(t, p)),
    ];
    prop::collection::vec(step, 1..80)
}

/// The boost by its definition, however long that takes.
fn urgency(graph: &TestGraph, base: &BTreeMap<u8, Priority>, task: u8) -> Priority {
    let waiters =
        (0..7).filter(|other| graph.waits_for(other).is_some_and(|lock| graph.owner(lock) == Some(&task)));
    waiters.map(|other| urgency(graph, base, other)).max().unwrap_or(0).max(base[&task])
}

fn boost(graph: &TestGraph, base: &BTreeMap<u8, Priority>, task: u8) -> Priority {
    let waiters =
        (0..7).filter(|other| graph.waits_for(other).is_some_and(|lock| graph.owner(lock) == Some(&task)));
    waiters.map(|other| urgency(graph, base, other)).max().unwrap_or(0)
}

proptest! {
    #[test]
    fn boosts_are_what_they_are_defined_to_be(steps in steps()) {
        let mut graph = TestGraph::new();
        let mut base: BTreeMap<u8, Priority> = (0..7).map(|task| (task, task * 10)).collect();
        let mut told: BTreeMap<u8, Priority> = BTreeMap::new();
        for step in steps {
            let mut note = |task: &u8, boost| { told.insert(*task, boost); };
            match step {
                Step::Keep(lock, task) => graph.keep(&lock, &task, base[&task]),
                Step::Wait(lock, task) => {
                    let may = graph.owner(&lock).is_some() && graph.waits_for(&task).is_none();
                    if may && graph.wait(&lock, &task, base[&task], &mut note).is_err() {
                        prop_assert!(graph.waits_for(&task).is_none());
                    }
                }
                Step::GiveUp(task) => { graph.give_up(&task, &mut note); }
                Step::PassOn(lock) => {
                    let first = graph.first_waiter(&lock).copied();
                    prop_assert_eq!(graph.pass_on(&lock, &mut note), first);
                    prop_assert_eq!(graph.owner(&lock).copied(), first);
                }
                Step::Base(task, priority) => {
                    base.insert(task, priority);
                    graph.set_base(&task, priority, &mut note);
                }
            }
            for task in 0..7 {
                let wanted = boost(&graph, &base, task);
                prop_assert_eq!(graph.boost(&task), wanted);
                prop_assert_eq!(told.get(&task).copied().unwrap_or(0), wanted);
            }
        }
    }
}
