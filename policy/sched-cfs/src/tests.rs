//! What CFS promises.
use super::*;
use proptest::strategy::Strategy;
use sched_harness::{Behaviour, Machine, laws};

const MS: u64 = 1_000_000;

fn near(shares: &[f64], due: &[f64]) {
    for (share, due) in shares.iter().zip(due) {
        assert!((share - due).abs() < 0.5, "{shares:?} instead of {due:?}");
    }
}

#[test]
fn survives_anything() {
    laws::survives_anything(&[&INFO], laws::fair_params().boxed());
}

#[test]
fn hogs_share_by_weight() {
    laws::hogs_share_by_weight(&INFO, 0.5);
}

/// A turn is a share of the period; who has had its turn waits until the others' virtual times have caught up, which
/// is a period, or what the least slice makes of it for the light. Six times that: sleepers come with credit, each
/// time, and CFS promises no bound for that.
#[test]
fn nobody_waits_for_long() {
    laws::nobody_waits_longer_than(&INFO, |weight, total, tasks| {
        let period_ns = (6 * MS).max(tasks * 3 * MS / 4);
        6 * period_ns.max(3 * MS / 4 * total / weight)
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
    let plain = machine.hog(0);
    machine.run_for(5_000 * MS);
    near(&machine.shares(), &[33.3, 66.7]);
    machine.set_params(0, Params::nice(0));
    machine.reset_measurements();
    machine.run_for(5_000 * MS);
    near(&machine.shares(), &[50.0, 50.0]);
    assert_eq!(plain, 1);
}

#[test]
fn sched_idle_gets_three_parts_in_a_thousand() {
    let mut machine = Machine::new(&INFO, 1);
    machine.hog(0);
    machine.spawn(Params { kind: SchedKind::Idle, ..Params::nice(0) }, Behaviour::Hog);
    machine.run_for(60_000 * MS);
    near(&machine.shares(), &[99.7, 0.3]);
    assert!(machine.tasks[1].ran_ns > 0, "least is not nothing");
}

#[test]
fn everybody_runs_within_the_latency_times_a_bit() {
    // (hogs, CPUs of the machine, latency in ms): 6 ms up to 8 tasks, then 0.75 ms each, times 4 at 8 CPUs.
    for (hogs, cpus, period_ms) in [(2, 1, 6.0), (8, 1, 6.0), (20, 1, 15.0), (3, 8, 24.0), (20, 8, 60.0)] {
        let mut machine = Machine::new(&INFO, cpus);
        (0..hogs).for_each(|_| _ = machine.hog(0));
        machine.run_for(200 * MS); // newcomers start late; let that pass
        machine.reset_measurements();
        machine.run_for(2_000 * MS);
        let worst = machine.tasks.iter().map(|task| task.worst_wait_ns).max().unwrap();
        let bound = period_ms * 1e6 * 1.4;
        assert!((worst as f64) < bound, "{hogs} hogs, {cpus} CPUs: waited {worst} ns, bound {bound}");
    }
}

#[test]
fn slices_are_shares_of_the_latency() {
    let mut machine = Machine::new(&INFO, 8); // latency 24 ms
    machine.hog(0);
    machine.hog(0);
    machine.run_for(12_000 * MS);
    let each_ms = 12_000.0 / machine.switches as f64;
    assert!((11.0..13.0).contains(&each_ms), "{each_ms} ms between switches");
}

#[test]
fn a_task_that_slept_runs_at_once_among_hogs() {
    let mut machine = Machine::new(&INFO, 1);
    (0..4).for_each(|_| _ = machine.hog(0));
    let light = machine.spawn(Params::nice(0), Behaviour::Periodic { run_ns: MS / 2, sleep_ns: 20 * MS });
    machine.run_for(100 * MS);
    machine.reset_measurements();
    machine.run_for(5_000 * MS);
    let worst = machine.tasks[light].worst_latency_ns;
    assert!(worst < 2 * MS, "waited {worst} ns");
}

#[test]
fn a_batch_task_does_not_preempt_when_it_wakes() {
    let preempts = |kind| {
        let mut cfs = Cfs::new(QueueId(1), 1);
        cfs.reserve(2).unwrap();
        cfs.enqueue(0, Slot(0), &Params::nice(0), Enqueue::New);
        cfs.pick_next(0);
        let wake = Enqueue::Wake { carry: Carry::default(), sync: false };
        cfs.enqueue(20 * MS, Slot(1), &Params { kind, ..Params::nice(0) }, wake)
    };
    assert!(preempts(SchedKind::Normal));
    assert!(!preempts(SchedKind::Batch));
}

#[test]
fn sleeping_cannot_be_saved_up() {
    let mut machine = Machine::new(&INFO, 1);
    let sleeper = machine.hog(0);
    let hog = machine.hog(0);
    machine.sleep(sleeper);
    machine.run_for(30_000 * MS);
    machine.wake(sleeper);
    machine.reset_measurements();
    machine.run_for(20 * MS);
    // Half a latency (3 ms) of credit, not thirty seconds.
    let ahead = machine.tasks[sleeper].ran_ns as i64 - machine.tasks[hog].ran_ns as i64;
    assert!(ahead < 10 * MS as i64, "{ahead} ns ahead");
}

#[test]
fn yield_lets_the_other_run() {
    let mut machine = Machine::new(&INFO, 1);
    machine.hog(0);
    machine.hog(0);
    machine.run_for(100 * MS);
    let before = machine.switches;
    machine.yield_now();
    assert_eq!(machine.switches, before + 1);
}

#[test]
fn knobs() {
    let mut machine = Machine::new(&INFO, 8);
    let get = |machine: &mut Machine, name: &str| machine.policy().tunable(name);
    assert_eq!(get(&mut machine, "latency_ns"), Some(24 * MS));
    assert_eq!(get(&mut machine, "min_granularity_ns"), Some(3 * MS));
    assert_eq!(get(&mut machine, "wakeup_granularity_ns"), Some(4 * MS));
    assert_eq!(get(&mut machine, "base_slice_ns"), None);
    assert_eq!(machine.policy().set_tunable("latency_ns", 0), Err(TunableError::OutOfRange));
    assert_eq!(machine.policy().set_tunable("nonsense", MS), Err(TunableError::Unknown));
    assert_eq!(machine.policy().set_tunable("latency_ns", 100 * MS), Ok(()));
    machine.hog(0);
    machine.hog(0);
    machine.run_for(10_000 * MS);
    assert!((195..=205).contains(&machine.switches), "50 ms slices: {} switches", machine.switches);
}

#[test]
fn moving_between_queues_keeps_the_order_of_merit() {
    let queue = |id| {
        let mut cfs = Cfs::new(QueueId(id), 1);
        cfs.reserve(4).unwrap();
        cfs
    };
    let (mut here, mut there) = (queue(1), queue(2));
    for slot in 0..2 {
        here.enqueue(0, Slot(slot), &Params::nice(0), Enqueue::New);
        there.enqueue(0, Slot(slot), &Params::nice(0), Enqueue::New);
    }
    there.pick_next(0);
    there.tick(500 * MS); // its virtual time is far from the other queue's
    here.pick_next(0);
    here.tick(2 * MS);
    let Dequeued::Gone(carry) = here.dequeue(2 * MS, Slot(0), Dequeue::Move) else { panic!() };
    there.enqueue(500 * MS, Slot(2), &Params::nice(0), Enqueue::Move { carry });
    let lead = ahead(there.tasks.at(2).vruntime, there.min_vruntime);
    assert_eq!(lead, -carry.lag_ns, "as far ahead of the least as it was at home");
}
