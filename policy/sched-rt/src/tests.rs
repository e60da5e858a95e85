//! What sched(7) promises.
use super::*;
use proptest::prelude::*;
use sched_api::{PolicyInfo, QueueConfig};
use sched_harness::{Behaviour, Machine, laws};
extern crate std;
use alloc::boxed::Box;

const MS: u64 = 1_000_000;

const INFO: PolicyInfo = PolicyInfo { name: "rt", about: "", make };

fn make(config: QueueConfig) -> Result<Box<dyn SchedPolicy>, NoMemory> {
    let mut rt = Rt::default();
    rt.reserve(config.slots)?;
    Ok(Box::new(rt))
}

fn ran_ms(machine: &Machine) -> Vec<u64> {
    machine.tasks.iter().map(|task| task.ran_ns / MS).collect()
}

#[test]
fn survives_anything() {
    laws::survives_anything(&[&INFO], laws::rt_params().boxed());
}

#[test]
fn the_most_urgent_runs_alone() {
    let mut machine = Machine::new(&INFO, 1);
    for priority in [10, 99, 50] {
        machine.spawn(Params::fifo(priority), Behaviour::Hog);
    }
    machine.run_for(1_000 * MS);
    assert_eq!(ran_ms(&machine), [0, 1000, 0]);
    machine.exit(1);
    machine.run_for(1_000 * MS);
    assert_eq!(ran_ms(&machine), [0, 1000, 1000]);
}

#[test]
fn fifo_runs_until_it_yields_and_then_goes_to_the_end() {
    let mut machine = Machine::new(&INFO, 1);
    (0..3).for_each(|_| _ = machine.spawn(Params::fifo(5), Behaviour::Hog));
    for _ in 0..4 {
        machine.run_for(300 * MS);
        machine.yield_now();
    }
    assert_eq!(ran_ms(&machine), [600, 300, 300]);
}

#[test]
fn round_robin_shares_in_slices_of_100_ms() {
    let mut machine = Machine::new(&INFO, 1);
    (0..3).for_each(|_| _ = machine.spawn(Params::round_robin(5), Behaviour::Hog));
    machine.run_for(3_000 * MS);
    assert_eq!(ran_ms(&machine), [1000, 1000, 1000]);
    assert!((29..=31).contains(&machine.switches), "{} switches", machine.switches);
}

#[test]
fn a_preempted_task_goes_on_before_its_equals() {
    let mut machine = Machine::new(&INFO, 1);
    machine.spawn(Params::fifo(5), Behaviour::Hog);
    machine.spawn(Params::fifo(5), Behaviour::Hog);
    machine.run_for(10 * MS);
    let urgent = machine.spawn(Params::fifo(6), Behaviour::Hog);
    machine.run_for(10 * MS);
    machine.sleep(urgent);
    machine.run_for(10 * MS);
    assert_eq!(ran_ms(&machine), [20, 0, 10]);
}

#[test]
fn lowered_to_the_front_raised_to_the_end() {
    let mut machine = Machine::new(&INFO, 1);
    (0..3).for_each(|_| _ = machine.spawn(Params::fifo(5), Behaviour::Hog)); // 0 runs; 1, 2 wait
    machine.set_params(0, Params::fifo(4));
    machine.run_for(10 * MS); // 1 runs
    machine.set_params(2, Params::fifo(4)); // before 0
    machine.set_params(1, Params::fifo(3)); // last
    machine.run_for(10 * MS); // 2 runs
    machine.set_params(1, Params::fifo(4)); // behind 2 and 0
    machine.sleep(2);
    machine.run_for(10 * MS); // 0 runs
    assert_eq!(ran_ms(&machine), [10, 10, 10]);
}

#[test]
fn movable_offers_the_most_urgent_waiter() {
    let mut rt = Rt::default();
    rt.reserve(4).unwrap();
    for (slot, priority) in [5, 9, 7, 9].into_iter().enumerate() {
        rt.enqueue(0, Slot(slot as u32), &Params::fifo(priority), Enqueue::New);
    }
    assert_eq!(rt.pick_next(0), Pick::Run(Slot(1)));
    assert_eq!(rt.movable(0, &mut |_| true), Some(Slot(3)));
    assert_eq!(rt.movable(0, &mut |slot| slot != Slot(3)), Some(Slot(2)));
    assert_eq!(rt.highest_priority(), 9);
}

/// Who runs in each millisecond when both classes always want the CPU, except when `fair_wants` says no.
fn compete(mut server: FairServer, ms: u64, fair_wants: impl Fn(u64) -> bool) -> Vec<bool> {
    let run = |t: u64| {
        if !fair_wants(t) {
            server.relax();
            return false;
        }
        let fair = server.is_fair_due(t * MS);
        if fair {
            server.fair_ran(MS);
        }
        fair
    };
    (0..ms).map(run).collect()
}

#[test]
fn the_fair_server_gives_5_percent_at_the_latest_moment() {
    let ran = compete(FairServer::default(), 10_000, |_| true);
    for (second, ran) in ran.chunks(1000).enumerate() {
        assert_eq!(ran.iter().filter(|fair| **fair).count(), 50, "second {second}");
        assert!(ran[950..].iter().all(|fair| *fair), "second {second}: not at the end");
    }
}

#[test]
fn the_fair_server_counts_from_when_the_competition_began() {
    let ran = compete(FairServer::default(), 3_000, |t| t >= 1_500);
    assert_eq!(ran.iter().position(|fair| *fair), Some(2_450));
}

#[test]
fn the_fair_server_can_be_switched_off_and_set() {
    let mut server = FairServer::default();
    assert!(server.configure(0, 1_000 * MS));
    assert!(compete(server, 5_000, |_| true).iter().all(|fair| !fair));
    assert!(server.configure(30 * MS, 100 * MS));
    assert_eq!(compete(server, 1_000, |_| true).iter().filter(|fair| **fair).count(), 300);
    assert!(!server.configure(2, 1) && !server.configure(0, 0) && !server.configure(0, u64::MAX));
}

proptest! {
    /// Driven by its own events, the server gives the fair class its budget, no more and no less.
    #[test]
    fn the_fair_servers_events_are_enough(runtime_ms in 1..50u64, period_ms in 50..500u64) {
        let mut server = FairServer::default();
        prop_assert!(server.configure(runtime_ms * MS, period_ms * MS));
        let (mut now, mut fair_ns) = (0, 0);
        let end = period_ms * MS * 20;
        while now < end {
            let fair = server.is_fair_due(now);
            let next = server.next_event(now, fair).unwrap();
            prop_assert!(next > now);
            if fair {
                server.fair_ran(next - now);
                fair_ns += next - now;
            }
            now = next;
        }
        prop_assert_eq!(fair_ns, runtime_ms * MS * 20);
    }
}
