//! Properties that every policy must have, as functions to call from a test.

use crate::{Behaviour, Machine};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use sched_api::{Params, PolicyInfo, SchedKind};

const MS: u64 = 1_000_000;

/// One step of a random life of a run queue. Task numbers are taken modulo the number of tasks.
#[derive(Clone, Debug)]
enum Step {
    Spawn(Params),
    Wake(usize),
    Sleep(usize),
    Exit(usize),
    SetParams(usize, Params),
    Yield,
    StealCpu(u64),
    Swap(usize),
    Run(u64),
}

/// Any parameters of the fair class.
pub fn fair_params() -> impl Strategy<Value = Params> {
    let kind =
        prop_oneof![8 => Just(SchedKind::Normal), 1 => Just(SchedKind::Batch), 1 => Just(SchedKind::Idle)];
    let slice = prop_oneof![3 => Just(0u64), 1 => 0..200 * MS];
    let penalty = prop_oneof![3 => Just(0u32), 1 => 0..3_000_000u32];
    (kind, -20..20i8, slice, penalty).prop_map(|(kind, nice, slice_ns, penalty_ns_per_ms)| Params {
        kind,
        nice,
        rt_priority: 0,
        slice_ns,
        penalty_ns_per_ms,
    })
}

/// Any parameters of the real-time class.
pub fn rt_params() -> impl Strategy<Value = Params> {
    (1..100u8, any::<bool>()).prop_map(|(priority, rr)| match rr {
        true => Params::round_robin(priority),
        false => Params::fifo(priority),
    })
}

fn step(params: BoxedStrategy<Params>) -> impl Strategy<Value = Step> {
    let id = any::<usize>;
    prop_oneof![
        3 => params.clone().prop_map(Step::Spawn),
        6 => id().prop_map(Step::Wake),
        6 => id().prop_map(Step::Sleep),
        1 => id().prop_map(Step::Exit),
        2 => (id(), params).prop_map(|(id, params)| Step::SetParams(id, params)),
        2 => Just(Step::Yield),
        1 => (0..20 * MS).prop_map(Step::StealCpu),
        1 => id().prop_map(Step::Swap),
        8 => (0..30 * MS).prop_map(Step::Run),
    ]
}

fn take(machine: &mut Machine, step: Step, policies: &[&PolicyInfo]) {
    let nth = |n: usize, len: usize| n % len.max(1);
    let tasks = machine.tasks.len();
    match step {
        Step::Spawn(params) if tasks < 40 => _ = machine.spawn(params, Behaviour::Hog),
        Step::Wake(n) if tasks > 0 => machine.wake(nth(n, tasks)),
        Step::Sleep(n) if tasks > 0 => machine.sleep(nth(n, tasks)),
        Step::Exit(n) if tasks > 0 => machine.exit(nth(n, tasks)),
        Step::SetParams(n, params) if tasks > 0 => machine.set_params(nth(n, tasks), params),
        Step::Yield => machine.yield_now(),
        Step::StealCpu(ns) => machine.steal_cpu(ns),
        Step::Swap(n) => machine.swap(policies[nth(n, policies.len())]),
        Step::Run(ns) => machine.run_for(ns),
        _ => {}
    }
}

/// Whatever happens, in whatever order, policies swapped among `policies` included: no task is lost,
/// none runs that may not, the CPU is never idle with work waiting, and the counts are right.
///
/// # Panics
/// With the smallest sequence of steps found that breaks a rule.
pub fn survives_anything(policies: &[&PolicyInfo], params: BoxedStrategy<Params>) {
    let steps = prop::collection::vec(step(params), 1..120);
    let mut runner = TestRunner::new(Config { cases: 300, failure_persistence: None, ..Config::default() });
    let outcome = runner.run(&(steps, 1..9u32), |(steps, cpus)| {
        let mut machine = Machine::new(policies[0], cpus);
        for step in steps {
            take(&mut machine, step, policies);
        }
        Ok(())
    });
    outcome.unwrap();
}

/// Hogs of any nice levels get CPU in proportion to their weights, within `tolerance` of their due.
///
/// # Panics
/// With the smallest set of nice levels found for which it does not hold.
pub fn hogs_share_by_weight(policy: &PolicyInfo, tolerance: f64) {
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let nices = prop::collection::vec(-10..11i8, 2..12);
    let outcome = runner.run(&nices, |nices| {
        let mut machine = Machine::new(policy, 1);
        nices.iter().for_each(|nice| _ = machine.hog(*nice));
        machine.run_for(60_000 * MS);
        let total: u64 = nices.iter().map(|nice| Params::nice(*nice).weight()).sum();
        for (nice, share) in nices.iter().zip(machine.shares()) {
            let due = Params::nice(*nice).weight() as f64 * 100.0 / total as f64;
            prop_assert!((share - due).abs() <= tolerance, "nice {}: {} instead of {}", nice, share, due);
        }
        Ok(())
    });
    outcome.unwrap();
}

/// Whatever the nice levels of hogs, and with tasks that come and go among them, none waits for the CPU longer
/// than `bound_ns` says for a task of that weight in a queue of that total weight and that many tasks.
///
/// # Panics
/// With the smallest mix found in which one waits longer.
pub fn nobody_waits_longer_than(
    policy: &PolicyInfo,
    bound_ns: fn(weight: u64, total: u64, tasks: u64) -> u64,
) {
    let mut runner = TestRunner::new(Config { cases: 60, failure_persistence: None, ..Config::default() });
    let nices = prop::collection::vec(-10..11i8, 2..12);
    let sleepers = prop::collection::vec((1..5 * MS, 1..50 * MS), 0..4);
    let outcome = runner.run(&(nices, sleepers), |(nices, sleepers)| {
        let mut machine = Machine::new(policy, 1);
        nices.iter().for_each(|nice| _ = machine.hog(*nice));
        for (run_ns, sleep_ns) in &sleepers {
            machine.spawn(Params::nice(0), Behaviour::Periodic { run_ns: *run_ns, sleep_ns: *sleep_ns });
        }
        machine.run_for(500 * MS); // newcomers start late; let that pass
        machine.reset_measurements();
        machine.run_for(20_000 * MS);
        let weights = || machine.tasks.iter().map(|task| task.params.weight());
        let (total, tasks) = (weights().sum(), machine.tasks.len() as u64);
        for (weight, task) in weights().zip(&machine.tasks) {
            let bound = bound_ns(weight, total, tasks);
            prop_assert!(
                task.worst_wait_ns <= bound,
                "one of weight {} waited {} ns, bound {}",
                weight,
                task.worst_wait_ns,
                bound
            );
        }
        Ok(())
    });
    outcome.unwrap();
}
