//! Known answers, repeatability, and large machines.
use crate::engine::{GroupTotals, Machine};
use crate::{POLICIES, workload};
use sched_api::PolicyInfo;

const MS: u64 = 1_000_000;

fn run(policy: &PolicyInfo, cpus: usize, text: &str, ms: u64, seed: u64) -> Machine {
    let mut machine = Machine::new(policy, cpus, seed, &[]);
    machine.start(&workload::parse(text).unwrap());
    machine.run_until(1_000 * MS, None);
    machine.reset_measurements();
    machine.run_until((1_000 + ms) * MS, None);
    machine
}

fn shares(groups: &[GroupTotals]) -> Vec<f64> {
    let used: u64 = groups.iter().map(|group| group.ran_ns).sum();
    groups.iter().map(|group| group.ran_ns as f64 * 100.0 / used as f64).collect()
}

fn near(got: &[f64], due: &[f64]) {
    for (got_one, due_one) in got.iter().zip(due) {
        assert!((got_one - due_one).abs() < 0.6, "{got:?} instead of {due:?}");
    }
}

#[test]
fn known_shares() {
    let table: [(&str, usize, &[f64]); 6] = [
        ("hog nice=0; hog nice=5", 1, &[75.3, 24.7]),
        ("hog penalty=1000000; hog", 1, &[33.3, 66.7]),
        ("hog x3; hog nice=5 x3", 1, &[75.3, 24.7]),
        ("rt prio=50; hog", 1, &[95.0, 5.0]),
        ("hog class=idle; hog", 1, &[0.3, 99.7]),
        ("hog x4; periodic run=1ms sleep=9ms x4", 8, &[90.9, 9.1]),
    ];
    for policy in &POLICIES {
        for (text, cpus, due) in table {
            near(&shares(&run(policy, cpus, text, 10_000, 1).totals()), due);
        }
    }
}

#[test]
fn a_seed_repeats_a_run_and_another_does_not() {
    let once = |seed| {
        let machine = run(&POLICIES[1], 3, "hog x4; random run=2ms sleep=3ms x5; fork-storm", 2_000, seed);
        machine.totals().iter().map(|group| (group.ran_ns, group.latency.max_ns())).collect::<Vec<_>>()
    };
    assert_eq!(once(7), once(7));
    assert_ne!(once(7), once(8));
}

#[test]
fn no_task_is_lost_on_many_cpus_while_policies_are_swapped() {
    let text = "hog x9; periodic run=1ms sleep=2ms x20; random run=300us sleep=1ms x20; pingpong run=20us x5; \
                fork-storm every=700us run=1ms; rt prio=5 run=1ms sleep=5ms x3; hog cpus=1-2 nice=3 x2";
    let mut machine = Machine::new(&POLICIES[0], 6, 3, &[]);
    machine.start(&workload::parse(text).unwrap());
    for step in 1..200 {
        machine.run_until(step * 10 * MS, Some(7 * MS));
        let (in_queues, by_state) = machine.queued();
        assert_eq!(in_queues, by_state);
    }
    assert!(machine.swaps() > 200);
    for group in machine.totals() {
        assert!(group.ran_ns > 0, "{} never ran", group.name);
    }
}

#[test]
fn work_spreads_over_idle_cpus() {
    let machine = run(&POLICIES[0], 4, "hog x4", 1_000, 1);
    let totals = &machine.totals()[0];
    assert_eq!((totals.least_ns, totals.most_ns), (1_000 * MS, 1_000 * MS));
}

#[test]
fn four_thousand_cpus() {
    let machine = run(&POLICIES[1], 4096, "hog x4000; random run=2ms sleep=5ms x300", 30, 1);
    let hogs = &machine.totals()[0];
    let share = hogs.ran_ns as f64 / (4000.0 * 30.0 * MS as f64);
    assert!(share > 0.97, "{share} of a CPU each");
}

#[test]
fn affinity_is_kept() {
    let machine = run(&POLICIES[0], 4, "hog cpus=2 x3; hog cpus=0-1", 3_000, 1);
    let totals = machine.totals();
    near(&[totals[0].ran_ns as f64 / 3e7, totals[1].ran_ns as f64 / 3e7], &[100.0, 100.0]);
}

#[test]
fn exit_status_of_the_command() {
    let status = |args: &[&str]| crate::main(&args.iter().map(|arg| arg.to_string()).collect::<Vec<_>>());
    assert_eq!(status(&["sched", "--help"]), 0);
    assert_eq!(status(&["sched", "--time", "100ms", "--warmup=0s", "--workload", "hog x2"]), 0);
    assert_eq!(status(&["sched", "--cpus", "0"]), 2);
    assert_eq!(status(&["sched", "--set", "latency_ns=1"]), 2);
    assert_eq!(status(&["sched", "--set", "nonsense=1"]), 2);
    assert_eq!(status(&["sched", "--workload", "hog cpus=7"]), 2);
    assert_eq!(status(&["sched", "--cpus"]), 2);
    assert_eq!(status(&["bake"]), 2);
    assert_eq!(status(&[]), 2);
}
