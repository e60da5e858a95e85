//! What EEVDF promises.
use super::*;
use proptest::prelude::*;
use sched_api::QueueId;
use sched_harness::{Behaviour, Machine, laws};

const MS: u64 = 1_000_000;

fn near(shares: &[f64], due: &[f64]) {
    for (share, due) in shares.iter().zip(due) {
        assert!((share - due).abs() < 0.5, "{shares:?} instead of {due:?}");
    }
}

fn with_slice(slice_ns: u64) -> Params {
    Params { slice_ns, ..Params::nice(0) }
}

#[test]
fn survives_anything() {
    laws::survives_anything(&[&INFO], laws::fair_params().boxed());
}

#[test]
fn survives_being_swapped_for_cfs_and_back() {
    laws::survives_anything(&[&INFO, &sched_cfs::INFO], laws::fair_params().boxed());
}

#[test]
fn hogs_share_by_weight() {
    laws::hogs_share_by_weight(&INFO, 0.5);
}

/// The lag of a task stays within a slice either way (theorem 1 of the paper), so between two requests of `slice` it
/// waits for what the others are due meanwhile, and twice the lag.
#[test]
fn nobody_waits_for_long() {
    laws::nobody_waits_longer_than(&INFO, |weight, total, _| {
        const SLICE_NS: u64 = 700_000;
        2 * SLICE_NS * total / weight + 4 * MS
    });
}

#[test]
fn nice_0_against_nice_5() {
    let mut machine = Machine::new(&INFO, 1);
    machine.hog(0);
    machine.hog(5);
    machine.run_for(5_000 * MS);
    near(&machine.shares(), &[75.3, 24.7]);
}

#[test]
fn a_penalty_of_one_ms_per_ms_halves_against_an_equal() {
    let mut machine = Machine::new(&INFO, 1);
    machine.spawn(Params { penalty_ns_per_ms: 1_000_000, ..Params::nice(0) }, Behaviour::Hog);
    machine.hog(0);
    machine.run_for(5_000 * MS);
    near(&machine.shares(), &[33.3, 66.7]);
}

#[test]
fn shares_survive_swapping_policies_every_second() {
    let mut machine = Machine::new(&INFO, 1);
    machine.hog(0);
    machine.hog(5);
    machine.spawn(Params { penalty_ns_per_ms: 1_000_000, ..Params::nice(0) }, Behaviour::Hog);
    for second in 0..20 {
        machine.run_for(1_000 * MS);
        machine.swap(if second % 2 == 0 { &sched_cfs::INFO } else { &INFO });
    }
    let total = 1024.0 + 335.0 + 512.0;
    near(&machine.shares(), &[102_400.0 / total, 33_500.0 / total, 51_200.0 / total]);
}

#[test]
fn a_shorter_slice_runs_sooner_with_the_same_share() {
    let mut machine = Machine::new(&INFO, 1);
    let hasty = machine.spawn(with_slice(MS / 10), Behaviour::Hog);
    let patient = machine.spawn(with_slice(20 * MS), Behaviour::Hog);
    machine.hog(0);
    machine.run_for(30_000 * MS);
    near(&machine.shares(), &[33.3, 33.3, 33.3]);
    let wait = |id: usize| machine.tasks[id].worst_wait_ns;
    assert!(wait(hasty) < wait(patient), "{} against {}", wait(hasty), wait(patient));
}

#[test]
fn wake_up_latency_follows_the_slice() {
    let worst = |slice_ns| {
        let mut machine = Machine::new(&INFO, 1);
        (0..5).for_each(|_| _ = machine.spawn(with_slice(10 * MS), Behaviour::Hog));
        let light =
            machine.spawn(with_slice(slice_ns), Behaviour::Periodic { run_ns: MS / 10, sleep_ns: 33 * MS });
        machine.run_for(500 * MS);
        machine.reset_measurements();
        machine.run_for(10_000 * MS);
        machine.tasks[light].worst_latency_ns
    };
    let (short, long) = (worst(MS / 10), worst(50 * MS));
    assert!(short < MS, "a short slice preempts: {short} ns");
    assert!(long > 5 * MS, "a long one waits its turn: {long} ns");
}

#[test]
fn slices_are_clamped() {
    let mut machine = Machine::new(&INFO, 1);
    let slices = [(1, 100_000), (5_000_000_000, 100_000_000), (3_000_000, 3_000_000), (0, 700_000)];
    for (slot, (asked, got)) in slices.into_iter().enumerate() {
        machine.spawn(with_slice(asked), Behaviour::Hog);
        let mut seen = None;
        machine.policy().stats(Slot(slot as u32), &mut |name, value| {
            if name == "se.slice" {
                seen = Some(value);
            }
        });
        assert_eq!(seen, Some(Stat::Ns(got)));
    }
}

#[test]
fn a_short_sleep_does_not_cancel_a_debt() {
    // It sleeps for a moment just before each of its turns ends; without delayed dequeue it would be
    // placed at the average, free of debt, every time.
    let mut machine = Machine::new(&INFO, 1);
    machine.spawn(with_slice(3 * MS), Behaviour::Periodic { run_ns: 29 * MS / 10, sleep_ns: MS / 100 });
    machine.spawn(with_slice(3 * MS), Behaviour::Hog);
    machine.run_for(10_000 * MS);
    near(&machine.shares(), &[50.0, 50.0]);
}

#[test]
fn knobs() {
    let mut machine = Machine::new(&INFO, 8);
    assert_eq!(machine.policy().tunable("base_slice_ns"), Some(2_800_000));
    assert_eq!(machine.policy().tunable("latency_ns"), None);
    assert_eq!(machine.policy().set_tunable("base_slice_ns", 99), Err(TunableError::OutOfRange));
    assert_eq!(machine.policy().set_tunable("base_slice_ns", 10 * MS), Ok(()));
    machine.hog(0);
    machine.hog(0);
    machine.run_for(10_000 * MS);
    assert!((990..=1010).contains(&machine.switches), "10 ms slices: {}", machine.switches);
}

fn queue_of(weights: &[(i8, u64)]) -> Eevdf {
    let mut queue = Eevdf::new(QueueConfig { id: QueueId(1), cpus: 1, slots: 0 });
    queue.reserve(weights.len()).unwrap();
    for (slot, (nice, slice_ns)) in weights.iter().enumerate() {
        let params = Params { slice_ns: *slice_ns, ..Params::nice(*nice) };
        queue.enqueue(0, Slot(slot as u32), &params, Enqueue::New);
    }
    queue
}

proptest! {
    /// The theorem that gives EEVDF its name to trust: lag stays within one request (plus one tick of
    /// slack for newcomers), and the lags, weighted, add up to nothing.
    #[test]
    fn lag_is_bounded_by_the_longest_slice(
        weights in prop::collection::vec((-5..6i8, MS / 10..10 * MS), 2..10),
        steps in 10..400u32,
    ) {
        let mut queue = queue_of(&weights);
        let longest = weights.iter().map(|(_, slice)| *slice).max().unwrap();
        let mut now = 0;
        queue.pick_next(now);
        for _ in 0..steps {
            now = queue.next_event(now).unwrap();
            queue.tick(now);
            queue.pick_next(now);
            let average = queue.average();
            let mut sum = 0i128;
            for (slot, (nice, _)) in weights.iter().enumerate() {
                let task = queue.tasks.at(slot as u32);
                let weight = Params::nice(*nice).weight();
                let lag = ahead(average, task.vruntime);
                sum += i128::from(lag) * i128::from(weight);
                let bound = to_virtual_ns(longest + 2, weight) as i64 + 2;
                prop_assert!(lag.abs() <= bound, "lag {} over {}", lag, bound);
            }
            let load = i128::from(queue.load());
            prop_assert!(sum.abs() <= load, "rounding only: {}", sum);
        }
    }

    /// The search down the tree finds what a look at every task finds.
    #[test]
    fn picks_the_earliest_eligible_deadline(
        weights in prop::collection::vec((-20..20i8, MS / 10..100 * MS), 1..30),
        steps in 1..100u32,
    ) {
        let mut queue = queue_of(&weights);
        let mut now = 0;
        queue.pick_next(now);
        for _ in 0..steps {
            now = queue.next_event(now).unwrap_or(now + MS);
            queue.tick(now);
            queue.put_prev(now);
            let average = queue.average();
            let eligible = |slot: &u32| ahead(queue.tasks.at(*slot).vruntime, average) <= 0;
            let best = (0..weights.len() as u32).filter(eligible).min_by(|a, b| {
                ahead(queue.tasks.at(*a).deadline, queue.tasks.at(*b).deadline).cmp(&0)
            });
            let chosen = queue.choose();
            prop_assert_eq!(
                chosen.map(|slot| queue.tasks.at(slot).deadline),
                best.map(|slot| queue.tasks.at(slot).deadline)
            );
            queue.pick_next(now);
        }
    }
}

#[test]
fn lag_survives_a_move_to_another_queue() {
    let mut here = queue_of(&[(0, 0), (0, 0), (0, 0)]);
    let mut there = queue_of(&[(0, 0), (0, 0), (5, 0), (0, 0)]);
    here.pick_next(0);
    here.tick(MS / 2);
    there.dequeue(0, Slot(3), Dequeue::Exit);
    for slot in 0..2 {
        let Dequeued::Gone(carry) = here.dequeue(MS / 2, Slot(slot), Dequeue::Move) else { panic!() };
        there.enqueue(MS, Slot(3), &Params::nice(0), Enqueue::Move { carry });
        let lag = there.lag(there.tasks.at(3));
        assert!((lag - carry.lag_ns).abs() <= 2, "{lag} instead of {}", carry.lag_ns);
        there.dequeue(MS, Slot(3), Dequeue::Exit);
    }
}
