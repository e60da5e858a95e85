//! One CPU, one policy, a virtual clock: what a policy's own tests run on.
//!
//! **Problem.** A policy's promises (shares, latency, nobody forgotten) are about what happens over
//! seconds of many calls in the right order. Every policy crate would have to play the mechanism.
//!
//! **Interface.** [`Machine`] plays it: [`Machine::spawn`] tasks that compute for ever or run and sleep
//! in turn, [`Machine::run_for`] some virtual time, read [`Machine::shares`] and latencies. It follows
//! the pseudo-code in [`SchedPolicy`]'s documentation and panics, naming the rule, when the policy
//! breaks one. [`laws`] holds the properties that every policy must have, ready to be called from a
//! `#[test]`.
//!
//! **Idea.** Nothing happens between two events (a timer that the policy asked for, a task that blocks
//! or wakes), so the clock jumps from one to the next; a second of scheduling takes microseconds.
#![forbid(unsafe_code)]

pub mod laws;

use sched_api::{
    Carry, Dequeue, Dequeued, Enqueue, Params, Pick, PolicyInfo, QueueConfig, QueueId, SchedPolicy, Slot,
};

/// How a task behaves.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Behaviour {
    /// Computes for ever.
    Hog,
    /// Runs for `run_ns`, then sleeps for `sleep_ns`, for ever.
    Periodic {
        /// CPU time of one burst.
        run_ns: u64,
        /// Time asleep after it.
        sleep_ns: u64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Asleep(Carry),
    Waiting,
    Running,
    /// Asleep, but still in the queue.
    Delayed,
    Exited,
}

/// One task and what was measured of it.
#[derive(Clone, Debug)]
pub struct Task {
    /// Its present parameters.
    pub params: Params,
    /// CPU time so far.
    pub ran_ns: u64,
    /// Longest time from waking (or being created) to running.
    pub worst_latency_ns: u64,
    /// Longest time spent waiting in the queue, for whatever reason.
    pub worst_wait_ns: u64,
    behaviour: Behaviour,
    state: State,
    burst_left_ns: u64,
    wake_at_ns: u64,
    waiting_since_ns: u64,
    fresh: bool,
}

/// One CPU with one policy.
pub struct Machine {
    /// Virtual time since the start.
    pub now_ns: u64,
    /// Every task ever spawned; the index is its number.
    pub tasks: Vec<Task>,
    /// How often the CPU went from one task to another.
    pub switches: u64,
    policy: Box<dyn SchedPolicy>,
    current: Option<usize>,
    queues_made: u64,
    cpus: u32,
}

impl Machine {
    /// A CPU that runs `policy`, on a machine that tells the policy it has `cpus` CPUs.
    pub fn new(policy: &PolicyInfo, cpus: u32) -> Machine {
        let mut machine = Machine {
            now_ns: 1_000_000_000,
            tasks: Vec::new(),
            switches: 0,
            policy: make(policy, 1, cpus, 0),
            current: None,
            queues_made: 1,
            cpus,
        };
        machine.check();
        machine
    }

    /// The policy, for its knobs and statistics.
    pub fn policy(&mut self) -> &mut dyn SchedPolicy {
        &mut *self.policy
    }

    /// Creates a task, runnable at once; answers its number.
    pub fn spawn(&mut self, params: Params, behaviour: Behaviour) -> usize {
        let id = self.tasks.len();
        self.policy.reserve(id + 1).expect("the host has memory");
        self.tasks.push(Task {
            params,
            ran_ns: 0,
            worst_latency_ns: 0,
            worst_wait_ns: 0,
            behaviour,
            state: State::Asleep(Carry::default()),
            burst_left_ns: burst(behaviour),
            wake_at_ns: u64::MAX,
            waiting_since_ns: 0,
            fresh: true,
        });
        self.enter(id, Enqueue::New);
        id
    }

    /// Creates a nice-0 task that computes for ever.
    pub fn hog(&mut self, nice: i8) -> usize {
        self.spawn(Params::nice(nice), Behaviour::Hog)
    }

    /// Wakes a sleeping task now; nothing happens to others.
    pub fn wake(&mut self, id: usize) {
        self.tasks[id].fresh = true;
        match self.tasks[id].state {
            State::Asleep(carry) => self.enter(id, Enqueue::Wake { carry, sync: false }),
            State::Delayed => {
                self.mark_waiting(id);
                let now = self.now_ns;
                let preempt = self.policy.wake_delayed(now, slot(id));
                self.check();
                self.reschedule_if(preempt);
            }
            _ => {}
        }
    }

    /// Puts a runnable task to sleep until [`wake`](Self::wake) (or, for a periodic one, until its time).
    pub fn sleep(&mut self, id: usize) {
        if !matches!(self.tasks[id].state, State::Waiting | State::Running) {
            return;
        }
        self.note_run();
        let was_running = self.current == Some(id);
        self.tasks[id].state = match self.policy.dequeue(self.now_ns, slot(id), Dequeue::Sleep) {
            Dequeued::Gone(carry) => State::Asleep(carry),
            Dequeued::Delayed => State::Delayed,
        };
        self.left(was_running);
    }

    /// Ends a task in whatever state it is.
    pub fn exit(&mut self, id: usize) {
        self.note_run();
        let was_running = self.current == Some(id);
        if self.is_in_queue(id) {
            let answer = self.policy.dequeue(self.now_ns, slot(id), Dequeue::Exit);
            assert!(matches!(answer, Dequeued::Gone(_)), "only a sleeper's dequeue may be delayed");
        }
        self.tasks[id].state = State::Exited;
        self.left(was_running);
    }

    /// Changes a task's parameters, queued or not.
    pub fn set_params(&mut self, id: usize, params: Params) {
        self.tasks[id].params = params;
        if self.is_in_queue(id) {
            self.note_run();
            let again = self.policy.set_params(self.now_ns, slot(id), &params);
            self.check();
            self.reschedule_if(again);
        }
    }

    /// The running task calls sched_yield(2).
    pub fn yield_now(&mut self) {
        if self.current.is_some() {
            self.note_run();
            self.policy.yield_current(self.now_ns);
            self.schedule();
        }
    }

    /// A higher class takes the CPU for `ns`.
    pub fn steal_cpu(&mut self, ns: u64) {
        self.note_run();
        if let Some(id) = self.current.take() {
            self.mark_waiting(id);
        }
        self.policy.put_prev(self.now_ns);
        self.check();
        self.now_ns += ns;
        self.schedule();
    }

    /// Replaces the policy with all tasks in the queue.
    pub fn swap(&mut self, policy: &PolicyInfo) {
        self.note_run();
        self.queues_made += 1;
        let mut new = make(policy, self.queues_made, self.cpus, self.tasks.len());
        for id in 0..self.tasks.len() {
            if !self.is_in_queue(id) {
                continue;
            }
            let Dequeued::Gone(carry) = self.policy.dequeue(self.now_ns, slot(id), Dequeue::Move) else {
                panic!("only a sleeper's dequeue may be delayed");
            };
            match self.tasks[id].state {
                State::Delayed => self.tasks[id].state = State::Asleep(carry),
                _ => {
                    let params = self.tasks[id].params;
                    new.enqueue(self.now_ns, slot(id), &params, Enqueue::Move { carry });
                }
            }
        }
        assert_eq!(self.policy.nr_running(), 0, "the old policy still has tasks");
        self.policy = new;
        if let Some(id) = self.current {
            self.policy.set_current(self.now_ns, slot(id));
        }
        self.check();
        self.schedule();
    }

    /// Lets `ns` of virtual time pass.
    pub fn run_for(&mut self, ns: u64) {
        let end = self.now_ns + ns;
        while self.now_ns < end {
            let timer = self.timer();
            self.now_ns = self.next_event().min(timer).clamp(self.now_ns, end);
            self.handle_events(timer);
        }
        self.note_run();
    }

    /// The part of all CPU time used so far that each task got, in percent.
    pub fn shares(&self) -> Vec<f64> {
        let total: u64 = self.tasks.iter().map(|task| task.ran_ns).sum();
        self.tasks.iter().map(|task| task.ran_ns as f64 * 100.0 / total.max(1) as f64).collect()
    }

    /// Forgets what was measured so far, not what the policy knows.
    pub fn reset_measurements(&mut self) {
        for task in &mut self.tasks {
            (task.ran_ns, task.worst_latency_ns, task.worst_wait_ns) = (0, 0, 0);
            task.waiting_since_ns = self.now_ns;
        }
    }

    /// The tasks that want the CPU.
    pub fn runnable(&self) -> Vec<usize> {
        let wants = |id: &usize| matches!(self.tasks[*id].state, State::Waiting | State::Running);
        (0..self.tasks.len()).filter(wants).collect()
    }

    fn enter(&mut self, id: usize, why: Enqueue) {
        self.note_run();
        self.mark_waiting(id);
        let params = self.tasks[id].params;
        let preempt = self.policy.enqueue(self.now_ns, slot(id), &params, why);
        self.check();
        self.reschedule_if(preempt || self.current.is_none());
    }

    fn mark_waiting(&mut self, id: usize) {
        self.tasks[id].state = State::Waiting;
        self.tasks[id].waiting_since_ns = self.now_ns;
    }

    fn left(&mut self, was_running: bool) {
        if was_running {
            self.current = None;
        }
        self.check();
        self.reschedule_if(was_running);
    }

    fn reschedule_if(&mut self, yes: bool) {
        if yes {
            self.schedule();
        }
    }

    fn schedule(&mut self) {
        self.note_run();
        let picked = loop {
            match self.policy.pick_next(self.now_ns) {
                Pick::Run(slot) => break Some(slot.index()),
                Pick::Nothing => break None,
                Pick::Drop(slot, carry) => {
                    let task = &mut self.tasks[slot.index()];
                    assert_eq!(task.state, State::Delayed, "dropped a task that does not sleep");
                    task.state = State::Asleep(carry);
                }
            }
        };
        match picked {
            None => assert!(self.runnable().is_empty(), "nothing picked with tasks runnable"),
            Some(id) => assert!(self.runnable().contains(&id), "picked a task that may not run: {id}"),
        }
        if picked != self.current {
            if let Some(previous) = self.current {
                self.mark_waiting(previous);
            }
            self.switches += 1;
        }
        self.current = picked;
        if let Some(id) = picked {
            self.start(id);
        }
        self.check();
    }

    fn start(&mut self, id: usize) {
        let now = self.now_ns;
        let task = &mut self.tasks[id];
        if task.state == State::Waiting {
            let waited = now - task.waiting_since_ns;
            task.worst_wait_ns = task.worst_wait_ns.max(waited);
            if std::mem::take(&mut task.fresh) {
                task.worst_latency_ns = task.worst_latency_ns.max(waited);
            }
        }
        task.state = State::Running;
        task.waiting_since_ns = now; // from here: when it was last charged
    }

    /// Charges the running task up to now.
    fn note_run(&mut self) {
        let now = self.now_ns;
        if let Some(id) = self.current {
            let task = &mut self.tasks[id];
            let ran = now - task.waiting_since_ns;
            task.ran_ns += ran;
            task.burst_left_ns = task.burst_left_ns.saturating_sub(ran);
            task.waiting_since_ns = now;
        }
    }

    /// When the policy wants its next tick.
    fn timer(&self) -> u64 {
        let timer = self.current.and_then(|_| self.policy.next_event(self.now_ns)).unwrap_or(u64::MAX);
        assert!(timer > self.now_ns, "the policy's next event is not in the future");
        timer
    }

    /// When the next task blocks or wakes.
    fn next_event(&self) -> u64 {
        let burst_end = self.current.map_or(u64::MAX, |id| {
            let task = &self.tasks[id];
            task.waiting_since_ns.saturating_add(task.burst_left_ns)
        });
        let wake = self.tasks.iter().map(|task| task.wake_at_ns).min().unwrap_or(u64::MAX);
        burst_end.min(wake)
    }

    fn handle_events(&mut self, timer_ns: u64) {
        self.note_run();
        if let Some(id) = self.current
            && self.tasks[id].burst_left_ns == 0
            && let Behaviour::Periodic { run_ns, sleep_ns } = self.tasks[id].behaviour
        {
            self.tasks[id].burst_left_ns = run_ns;
            self.tasks[id].wake_at_ns = self.now_ns + sleep_ns;
            self.sleep(id);
        }
        let due = |task: &Task, now: u64| task.wake_at_ns <= now && task.state != State::Exited;
        for id in 0..self.tasks.len() {
            if due(&self.tasks[id], self.now_ns) {
                self.tasks[id].wake_at_ns = u64::MAX;
                self.wake(id);
            }
        }
        if timer_ns <= self.now_ns && self.current.is_some() {
            let over = self.policy.tick(self.now_ns);
            self.reschedule_if(over);
        }
    }

    fn is_in_queue(&self, id: usize) -> bool {
        matches!(self.tasks[id].state, State::Waiting | State::Running | State::Delayed)
    }

    /// What must hold between any two calls.
    fn check(&mut self) {
        let runnable = self.runnable();
        assert_eq!(self.policy.nr_running() as usize, runnable.len(), "nr_running");
        let load: u64 = runnable.iter().map(|id| self.load_of(*id)).sum();
        assert_eq!(self.policy.load(), load, "load");
    }

    fn load_of(&self, id: usize) -> u64 {
        let params = &self.tasks[id].params;
        match params.class() {
            sched_api::Class::Fair => params.weight(),
            _ => sched_api::weight::NICE_0_WEIGHT,
        }
    }
}

fn make(policy: &PolicyInfo, id: u64, cpus: u32, slots: usize) -> Box<dyn SchedPolicy> {
    (policy.make)(QueueConfig { id: QueueId(id), cpus, slots }).expect("the host has memory")
}

fn slot(id: usize) -> Slot {
    Slot(id as u32)
}

fn burst(behaviour: Behaviour) -> u64 {
    match behaviour {
        Behaviour::Hog => u64::MAX,
        Behaviour::Periodic { run_ns, .. } => run_ns,
    }
}
