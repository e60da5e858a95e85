//! The queue against a model, with honest policies and with a rogue.
extern crate std;

use super::*;
use alloc::boxed::Box;
use alloc::vec::Vec;
use proptest::prelude::*;
use sched_api::{
    Carry, Class, Dequeue, Enqueue, Params, PolicyInfo, QueueConfig, QueueId, SchedKind, SchedPolicy, Slot,
};
use sched_faulty::{Crime, faulty};

const MS: u64 = 1_000_000;
const ROOM: usize = 64;

fn make(info: &PolicyInfo, id: u64) -> Box<dyn SchedPolicy> {
    (info.make)(QueueConfig { id: QueueId(id), cpus: 1, slots: ROOM }).unwrap()
}

fn queue(policy: Box<dyn SchedPolicy>) -> CpuQueue<usize> {
    let mut queue = CpuQueue::new(0, policy);
    queue.reserve(ROOM).unwrap();
    queue
}

/// An owner of a queue: remembers where its tasks are and checks what the queue says.
struct Owner {
    queue: CpuQueue<usize>,
    now: u64,
    tasks: Vec<OwnedTask>,
    current: Option<usize>,
    policies_made: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    In(Slot),
    Delayed(Slot),
    Out(Carry),
    Gone,
}

struct OwnedTask {
    params: Params,
    place: Place,
    ran_ns: u64,
}

impl Owner {
    fn new(policy: Box<dyn SchedPolicy>) -> Owner {
        Owner { queue: queue(policy), now: 0, tasks: Vec::new(), current: None, policies_made: 1 }
    }

    fn spawn(&mut self, params: Params) -> usize {
        let id = self.tasks.len();
        self.tasks.push(OwnedTask { params, place: Place::Gone, ran_ns: 0 });
        self.add(id, Enqueue::New);
        id
    }

    fn add(&mut self, id: usize, why: Enqueue) {
        let added = self.queue.add(self.now, id, &self.tasks[id].params, why).expect("there is room");
        self.tasks[id].place = Place::In(added.slot);
        if added.preempts {
            self.pick();
        }
    }

    fn wake(&mut self, id: usize) {
        match self.tasks[id].place {
            Place::Out(carry) => self.add(id, Enqueue::Wake { carry, sync: false }),
            Place::Delayed(slot) => {
                self.tasks[id].place = Place::In(slot);
                if self.queue.wake_delayed(self.now, slot) {
                    self.pick();
                }
            }
            _ => {}
        }
    }

    fn remove(&mut self, id: usize, why: Dequeue) {
        let (Place::In(slot) | Place::Delayed(slot)) = self.tasks[id].place else { return };
        if why == Dequeue::Sleep && matches!(self.tasks[id].place, Place::Delayed(_)) {
            return;
        }
        self.tasks[id].place = match self.queue.remove(self.now, slot, why) {
            Some(Removed::Gone(task, carry)) => {
                assert_eq!(task, id, "another task came out");
                if why == Dequeue::Exit { Place::Gone } else { Place::Out(carry) }
            }
            Some(Removed::Delayed) => Place::Delayed(slot),
            None => panic!("task {id} was not in the queue"),
        };
        if self.current == Some(id) {
            self.current = None;
            self.pick();
        }
    }

    fn set_params(&mut self, id: usize, params: Params) {
        if let Place::Delayed(_) = self.tasks[id].place {
            self.remove(id, Dequeue::Move);
        }
        self.tasks[id].params = params;
        if let Place::In(slot) = self.tasks[id].place
            && self.queue.set_params(self.now, slot, &params)
        {
            self.pick();
        }
    }

    fn pick(&mut self) {
        let mut left = Vec::new();
        let picked = self.queue.pick(self.now, &mut |id, carry| left.push((id, carry)));
        for (id, carry) in left {
            assert!(matches!(self.tasks[id].place, Place::Delayed(_)), "task {id} left and does not sleep");
            self.tasks[id].place = Place::Out(carry);
        }
        self.current = picked.map(|(_, id)| id);
        if let Some((slot, id)) = picked {
            assert_eq!(self.tasks[id].place, Place::In(slot), "task {id} runs and may not");
        }
        assert_eq!(self.current.is_none(), self.runnable() == 0, "idle exactly when nobody wants the CPU");
    }

    fn swap(&mut self, info: &PolicyInfo) {
        self.policies_made += 1;
        let mut left = Vec::new();
        let new = make(info, self.policies_made);
        self.queue.swap_fair(self.now, new, &mut |id, carry| left.push((id, carry)));
        for (id, carry) in left {
            assert!(matches!(self.tasks[id].place, Place::Delayed(_)));
            self.tasks[id].place = Place::Out(carry);
        }
        self.pick();
    }

    fn run_for(&mut self, ns: u64) {
        let end = self.now + ns;
        let mut events = 0;
        while self.now < end {
            events += 1;
            assert!(events < 1_000 + ns / 1_000, "a timer storm: {:?}", self.queue);
            let at = self.queue.next_event(self.now).unwrap_or(u64::MAX);
            assert!(at > self.now, "the next event is not in the future");
            let next = at.min(end);
            if let Some(id) = self.current {
                self.tasks[id].ran_ns += next - self.now;
            }
            self.now = next;
            if self.queue.tick(self.now) {
                self.pick();
            }
        }
    }

    fn runnable(&self) -> usize {
        self.tasks.iter().filter(|task| matches!(task.place, Place::In(_))).count()
    }

    fn check(&self) {
        assert_eq!(self.queue.nr_running() as usize, self.runnable());
        let listed = self.queue.iter().filter(|(_, _, _, state)| *state != State::Delayed).count();
        assert_eq!(listed, self.runnable());
        for (id, task) in self.tasks.iter().enumerate() {
            if let Place::In(slot) | Place::Delayed(slot) = task.place {
                assert_eq!(self.queue.get(slot).map(|(id, ..)| *id), Some(id), "lost task {id}");
            }
        }
    }

    fn shares(&self) -> Vec<u64> {
        let total: u64 = self.tasks.iter().map(|task| task.ran_ns).sum();
        self.tasks.iter().map(|task| (task.ran_ns * 1000 + total / 2) / total.max(1)).collect()
    }
}

#[test]
fn classes_in_order() {
    let mut owner = Owner::new(make(&sched_cfs::INFO, 1));
    let fair = owner.spawn(Params::nice(-20));
    assert_eq!(owner.current, Some(fair));
    let rt = owner.spawn(Params::fifo(1));
    assert_eq!(owner.current, Some(rt));
    let stop = owner.spawn(Params::stopper());
    assert_eq!(owner.current, Some(stop));
    owner.spawn(Params::fifo(99));
    assert_eq!(owner.current, Some(stop));
    owner.remove(stop, Dequeue::Sleep);
    assert_eq!(owner.current, Some(3));
}

#[test]
fn a_real_time_hog_leaves_5_percent_to_the_fair_class() {
    for info in [sched_cfs::INFO, sched_eevdf::INFO] {
        let mut owner = Owner::new(make(&info, 1));
        owner.spawn(Params::fifo(50));
        owner.spawn(Params::nice(0));
        owner.spawn(Params::nice(0));
        owner.run_for(20_000 * MS);
        assert_eq!(owner.shares(), [950, 25, 25], "{}", info.name);
        assert_eq!(owner.queue.take_fault(), None);
    }
}

#[test]
fn real_time_tasks_that_sleep_enough_are_not_disturbed() {
    let mut owner = Owner::new(make(&sched_cfs::INFO, 1));
    owner.spawn(Params::nice(0));
    let rt = owner.spawn(Params::fifo(50));
    for _ in 0..500 {
        owner.run_for(8 * MS);
        assert_eq!(owner.current, Some(rt));
        owner.remove(rt, Dequeue::Sleep);
        owner.run_for(2 * MS);
        owner.wake(rt);
    }
    assert_eq!(owner.shares(), [200, 800]);
}

#[test]
fn alone_means_no_timer() {
    let mut owner = Owner::new(make(&sched_cfs::INFO, 1));
    assert_eq!(owner.queue.next_event(0), None);
    owner.spawn(Params::nice(0));
    assert_eq!(owner.queue.next_event(owner.now), None);
    owner.spawn(Params::nice(0));
    assert!(owner.queue.next_event(owner.now).is_some());
    owner.remove(0, Dequeue::Exit);
    assert_eq!(owner.queue.next_event(owner.now), None);
}

#[test]
fn a_running_task_changes_class_and_back() {
    let mut owner = Owner::new(make(&sched_eevdf::INFO, 1));
    let task = owner.spawn(Params::nice(0));
    owner.spawn(Params::nice(0));
    owner.run_for(100 * MS);
    owner.set_params(task, Params::round_robin(10));
    owner.run_for(100 * MS);
    assert_eq!(owner.current, Some(task));
    owner.set_params(task, Params { kind: SchedKind::Idle, ..Params::nice(0) });
    owner.run_for(100 * MS);
    assert_eq!(owner.current, Some(1));
    owner.check();
}

#[test]
fn movable_never_offers_the_running_or_a_foreign_task() {
    let mut owner = Owner::new(make(&sched_cfs::INFO, 1));
    owner.spawn(Params::nice(0));
    owner.spawn(Params::nice(0));
    owner.spawn(Params::fifo(3));
    let now = owner.now;
    let offered = owner.queue.movable(now, Class::Rt, &mut |_| true);
    assert_eq!(offered, None, "the one real-time task runs");
    let offered = owner.queue.movable(now, Class::Fair, &mut |id| *id == 1);
    assert_eq!(offered.map(|slot| Place::In(slot)), Some(owner.tasks[1].place));
}

// Policies that do wrong.

fn rogue(crime: Crime) -> Box<dyn SchedPolicy> {
    let config = QueueConfig { id: QueueId(1), cpus: 1, slots: ROOM };
    faulty(config, crime).expect("memory")
}

/// A task of ordinary weight that the starving rogue starves.
fn victim() -> Params {
    Params { kind: SchedKind::Batch, ..Params::nice(0) }
}

#[test]
fn a_rogue_is_taken_out_of_service_and_its_tasks_run_on() {
    for crime in [Crime::Ghost, Crime::Strike, Crime::Starve, Crime::Drop] {
        let mut owner = Owner::new(rogue(crime));
        owner.spawn(victim());
        (0..2).for_each(|_| _ = owner.spawn(Params::nice(0)));
        owner.run_for(15_000 * MS);
        let fault = owner.queue.take_fault().unwrap_or_else(|| panic!("{crime:?} went unnoticed"));
        assert!(owner.queue.fair_policy().is_none(), "{fault}");
        owner.tasks.iter_mut().for_each(|task| task.ran_ns = 0);
        owner.run_for(3_000 * MS);
        assert!(owner.shares().iter().all(|share| (320..346).contains(share)), "{:?}", owner.shares());
        owner.swap(&sched_cfs::INFO);
        owner.check();
        owner.tasks.iter_mut().for_each(|task| task.ran_ns = 0);
        owner.run_for(3_000 * MS);
        assert!(owner.shares().iter().all(|share| (320..346).contains(share)), "{:?}", owner.shares());
    }
}

#[test]
fn starvation_is_noticed_after_ten_seconds_and_not_before() {
    let mut owner = Owner::new(rogue(Crime::Starve));
    owner.spawn(victim());
    owner.spawn(Params::nice(0));
    owner.run_for(9_900 * MS);
    assert_eq!(owner.queue.take_fault(), None);
    owner.run_for(1_200 * MS);
    assert!(matches!(owner.queue.take_fault(), Some(Fault::Starves(Slot(0), _))));
}

#[test]
fn waiting_behind_real_time_tasks_is_not_the_policys_fault() {
    let mut owner = Owner::new(make(&sched_cfs::INFO, 1));
    owner.queue.fair_server().configure(0, 1_000 * MS);
    owner.spawn(Params::fifo(9));
    owner.spawn(Params::nice(0));
    owner.run_for(60_000 * MS);
    assert_eq!(owner.queue.take_fault(), None);
}

#[test]
fn one_that_delays_what_must_leave_is_taken_out_of_service() {
    let mut owner = Owner::new(rogue(Crime::Delay));
    (0..3).for_each(|_| _ = owner.spawn(Params::nice(0)));
    owner.remove(1, Dequeue::Exit);
    assert!(matches!(owner.queue.take_fault(), Some(Fault::BadDrop(_))));
    owner.check();
}

// Anything, in any order.

#[derive(Clone, Debug)]
enum Step {
    Spawn(Params),
    Wake(usize),
    Sleep(usize),
    Move(usize),
    Exit(usize),
    SetParams(usize, Params),
    Yield,
    Swap(bool),
    Run(u64),
}

fn any_params() -> impl Strategy<Value = Params> {
    prop_oneof![
        6 => (-20..20i8).prop_map(Params::nice),
        1 => Just(Params { kind: SchedKind::Idle, ..Params::nice(0) }),
        1 => Just(victim()),
        1 => Just(Params { slice_ns: 100_000, ..Params::nice(3) }),
        1 => (1..100u8).prop_map(Params::fifo),
        1 => (1..100u8).prop_map(Params::round_robin),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    let id = any::<usize>;
    prop_oneof![
        3 => any_params().prop_map(Step::Spawn),
        6 => id().prop_map(Step::Wake),
        6 => id().prop_map(Step::Sleep),
        2 => id().prop_map(Step::Move),
        1 => id().prop_map(Step::Exit),
        2 => (id(), any_params()).prop_map(|(id, params)| Step::SetParams(id, params)),
        1 => Just(Step::Yield),
        1 => any::<bool>().prop_map(Step::Swap),
        6 => (0..40 * MS).prop_map(Step::Run),
    ]
}

fn take(owner: &mut Owner, step: Step) {
    let nth = |n: usize| n % owner.tasks.len().max(1);
    let any = !owner.tasks.is_empty();
    match step {
        Step::Spawn(params) if owner.tasks.len() < ROOM => _ = owner.spawn(params),
        Step::Wake(n) if any => owner.wake(nth(n)),
        Step::Sleep(n) if any => owner.remove(nth(n), Dequeue::Sleep),
        Step::Exit(n) if any => owner.remove(nth(n), Dequeue::Exit),
        Step::Move(n) if any => {
            let id = nth(n);
            owner.remove(id, Dequeue::Move);
            if let Place::Out(carry) = owner.tasks[id].place {
                owner.add(id, Enqueue::Move { carry });
            }
        }
        Step::SetParams(n, params) if any => owner.set_params(nth(n), params),
        Step::Yield => {
            owner.queue.yield_current(owner.now);
            owner.pick();
        }
        Step::Swap(cfs) => owner.swap(if cfs { &sched_cfs::INFO } else { &sched_eevdf::INFO }),
        Step::Run(ns) => owner.run_for(ns),
        _ => {}
    }
}

fn life(policy: Box<dyn SchedPolicy>, steps: Vec<Step>) -> Owner {
    let mut owner = Owner::new(policy);
    for step in steps {
        take(&mut owner, step);
        owner.check();
    }
    owner
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_task_is_lost_whatever_happens(steps in prop::collection::vec(any_step(), 1..150)) {
        let mut owner = life(make(&sched_eevdf::INFO, 1), steps);
        prop_assert_eq!(owner.queue.take_fault(), None, "an honest policy");
    }

    #[test]
    fn no_task_is_lost_by_a_rogue(
        steps in prop::collection::vec(any_step(), 1..150),
        crime in prop::sample::select(vec![
            Crime::Ghost, Crime::Strike, Crime::Starve, Crime::Drop, Crime::Delay,
        ]),
    ) {
        life(rogue(crime), steps);
    }
}

#[test]
fn the_forgotten_are_found_in_large_tables_too() {
    const MANY: usize = 5_000;
    let mut queue = CpuQueue::new(0, rogue(Crime::Starve));
    queue.reserve(MANY).unwrap();
    let mut left = |_, _| {};
    // All but one of the honest ones sleep again; the victim has a slot far behind.
    let mut add = |id: usize, params: &Params| queue.add(0, id, params, Enqueue::New).unwrap().slot;
    let hog = add(0, &Params::nice(0));
    let others: Vec<_> = (1..MANY - 1).map(|id| add(id, &Params::nice(0))).collect();
    let victim = add(MANY, &victim());
    assert!(victim.index() > 4_000);
    for slot in others {
        queue.remove(0, slot, Dequeue::Move);
    }
    let mut now = 0;
    let fault = loop {
        assert_eq!(queue.pick(now, &mut left).map(|(slot, _)| slot), Some(hog));
        now = queue.next_event(now).expect("somebody waits");
        queue.tick(now);
        if let Some(fault) = queue.take_fault() {
            break fault;
        }
    };
    assert!(matches!(fault, Fault::Starves(slot, _) if slot == victim), "{fault}");
    assert!((10_000..12_000).contains(&(now / MS)), "noticed after {} ms", now / MS);
}
