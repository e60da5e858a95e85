//! The machine: CPUs with run queues, tasks, and the order of events.
//!
//! It does what `kernel/sched` does, without locks and interrupts:
//!
//! ```text
//!   event (wake, end of a burst, timer) ──> queue ──> "run somebody else" ──> schedule(cpu)
//!                                                                              pick, or pull when idle
//!                                                                              next timer, end of burst
//! ```

use crate::rng::Rng;
use crate::stats::Histogram;
use crate::workload::{Group, Kind};
use sched_api::{
    Carry, Class, Dequeue, Enqueue, Params, PolicyInfo, QueueConfig, QueueId, SchedPolicy, Slot,
};
use sched_balance::{Cpus, MIGRATION_COST_NS, Wake};
use sched_queue::{CpuQueue, Removed};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

type TaskNumber = usize;

/// What happens at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A task is to wake, or to be born.
    Wake(TaskNumber),
    /// The timer of a CPU, unless it was programmed anew since.
    Timer { cpu: usize, serial: u64 },
    /// The running task of a CPU has done its burst, unless the CPU has scheduled since.
    BurstEnd { cpu: usize, serial: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Unborn,
    Asleep(Carry),
    /// On a queue: waiting or running.
    Queued(Slot),
    /// Asleep, but still on its queue.
    Delayed(Slot),
    Gone,
}

/// What a task does when its burst is done.
#[derive(Clone, Copy, Debug)]
enum Script {
    Hog,
    Periodic { run_ns: u64, sleep_ns: u64 },
    Random { run_ns: u64, sleep_ns: u64 },
    PingPong { run_ns: u64, peer: TaskNumber },
    Forker { every_ns: u64, child_ns: u64 },
    Once,
}

#[derive(Debug)]
struct Task {
    group: usize,
    params: Params,
    script: Script,
    allowed: Option<usize>,
    state: State,
    cpu: usize,
    burst_left_ns: u64,
    ran_ns: u64,
    /// When it last woke another since it slept, and how long it usually goes on then.
    woke_at_ns: Option<u64>,
    tail_ns: u64,
    /// Waits for the CPU since; and whether that is since it woke.
    waiting_since_ns: u64,
    just_woken: bool,
    left_cpu_at_ns: u64,
}

struct Cpu {
    queue: CpuQueue<TaskNumber>,
    running: Option<TaskNumber>,
    charged_at_ns: u64,
    /// Counts schedules and programmings, to tell stale events.
    timer_serial: u64,
    burst_serial: u64,
    event_ns: Option<u64>,
    balance_at_ns: u64,
}

/// What a group of tasks got.
#[derive(Clone, Debug, Default)]
pub struct GroupTotals {
    pub name: String,
    pub tasks: usize,
    pub ran_ns: u64,
    /// CPU time of the task with the least and of the one with the most.
    pub least_ns: u64,
    pub most_ns: u64,
    /// From waking to running.
    pub latency: Histogram,
}

/// What the machine did.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineTotals {
    pub switches: u64,
    pub moves: u64,
    pub longest_wait_ns: u64,
}

/// A simulated machine.
pub struct Machine {
    now_ns: u64,
    cpus: Vec<Cpu>,
    idle: Vec<u64>,
    overloaded: Vec<u64>,
    all: Vec<u64>,
    masks: Vec<Vec<u64>>,
    tasks: Vec<Task>,
    groups: Vec<Group>,
    latencies: Vec<Histogram>,
    events: BinaryHeap<Reverse<(u64, u64, Event)>>,
    /// Order of events at one time, and names of queues.
    serial: u64,
    resched: Vec<usize>,
    rng: Rng,
    policy: PolicyInfo,
    knobs: Vec<(String, u64)>,
    totals: MachineTotals,
    swaps: u64,
    next_swap_ns: u64,
}

impl Machine {
    /// A machine of `cpus` idle CPUs.
    pub fn new(policy: &PolicyInfo, cpus: usize, seed: u64, knobs: &[(String, u64)]) -> Machine {
        let words = cpus.div_ceil(64);
        let mut all = vec![u64::MAX; words];
        if cpus % 64 != 0 {
            all[words - 1] = (1 << (cpus % 64)) - 1;
        }
        let mut machine = Machine {
            now_ns: 0,
            cpus: Vec::new(),
            idle: all.clone(),
            overloaded: vec![0; words],
            all,
            masks: Vec::new(),
            tasks: Vec::new(),
            groups: Vec::new(),
            latencies: Vec::new(),
            events: BinaryHeap::new(),
            serial: 0,
            resched: Vec::new(),
            rng: Rng::new(seed),
            policy: *policy,
            knobs: knobs.to_vec(),
            totals: MachineTotals::default(),
            swaps: 0,
            next_swap_ns: 0,
        };
        for _ in 0..cpus {
            let policy = machine.make_policy(cpus, 0);
            machine.cpus.push(Cpu {
                queue: CpuQueue::new(0, policy),
                running: None,
                charged_at_ns: 0,
                timer_serial: 0,
                burst_serial: 0,
                event_ns: None,
                balance_at_ns: 0,
            });
        }
        machine
    }

    /// Makes the tasks of the workload; they begin at their times.
    pub fn start(&mut self, groups: &[Group]) {
        for group in groups {
            let index = self.groups.len();
            self.groups.push(group.clone());
            self.latencies.push(Histogram::default());
            let allowed = group.cpus.as_ref().map(|words| {
                let words = words.iter().zip(&self.all).map(|(a, b)| a & b).collect();
                self.masks.push(words);
                self.masks.len() - 1
            });
            (0..group.count).for_each(|_| self.make_member(index, group, allowed));
        }
    }

    fn make_member(&mut self, index: usize, group: &Group, allowed: Option<usize>) {
        let here = self.tasks.len();
        match group.kind {
            Kind::Hog => self.make(index, group, allowed, Script::Hog, u64::MAX, 0),
            Kind::Periodic { run_ns, sleep_ns } => {
                let phase_ns = self.rng.below(run_ns + sleep_ns);
                self.make(index, group, allowed, Script::Periodic { run_ns, sleep_ns }, run_ns, phase_ns);
            }
            Kind::Random { run_ns, sleep_ns } => {
                let (burst_ns, phase_ns) = (self.rng.exponential(run_ns), self.rng.below(run_ns + sleep_ns));
                self.make(index, group, allowed, Script::Random { run_ns, sleep_ns }, burst_ns, phase_ns);
            }
            Kind::PingPong { run_ns } => {
                self.make(index, group, allowed, Script::PingPong { run_ns, peer: here + 1 }, run_ns, 0);
                self.make(index, group, allowed, Script::PingPong { run_ns, peer: here }, run_ns, u64::MAX);
                self.tasks[here + 1].state = State::Asleep(Carry::default());
            }
            Kind::ForkStorm { every_ns, run_ns } => {
                let script = Script::Forker { every_ns, child_ns: run_ns };
                self.make(index, group, allowed, script, 1_000, 0);
            }
        }
    }

    /// One task; it is born `phase_ns` after its group begins (never, for `u64::MAX`: somebody wakes it).
    fn make(
        &mut self,
        index: usize,
        group: &Group,
        allowed: Option<usize>,
        script: Script,
        burst_ns: u64,
        phase_ns: u64,
    ) {
        let task = self.tasks.len();
        self.tasks.push(Task {
            group: index,
            params: group.params,
            script,
            allowed,
            state: State::Unborn,
            cpu: task % self.cpus.len(),
            burst_left_ns: burst_ns,
            ran_ns: 0,
            woke_at_ns: None,
            tail_ns: sched_balance::FIRST_TAIL_NS,
            waiting_since_ns: 0,
            just_woken: false,
            left_cpu_at_ns: 0,
        });
        if phase_ns != u64::MAX {
            self.at(group.start_ns + phase_ns, Event::Wake(task));
        }
    }

    /// Lets virtual time pass, up to `end_ns`.
    pub fn run_until(&mut self, end_ns: u64, swap_every_ns: Option<u64>) {
        if let Some(every_ns) = swap_every_ns {
            while self.next_swap_ns + every_ns <= end_ns {
                self.next_swap_ns += every_ns;
                self.run_events(self.next_swap_ns);
                self.swap_policy();
            }
        }
        self.run_events(end_ns);
        (0..self.cpus.len()).for_each(|cpu| self.charge(cpu));
    }

    fn run_events(&mut self, end_ns: u64) {
        while let Some(Reverse((at_ns, ..))) = self.events.peek()
            && *at_ns <= end_ns
            && let Some(Reverse((at_ns, _, event))) = self.events.pop()
        {
            self.now_ns = at_ns;
            self.handle(event);
            while let Some(cpu) = self.resched.pop() {
                self.schedule(cpu);
            }
        }
        self.now_ns = end_ns;
    }

    /// Forgets what was measured, not what the policies know.
    pub fn reset_measurements(&mut self) {
        self.tasks.iter_mut().for_each(|task| task.ran_ns = 0);
        self.latencies.iter_mut().for_each(|latency| *latency = Histogram::default());
        self.totals = MachineTotals::default();
        self.swaps = 0;
    }

    /// What each group got.
    pub fn totals(&self) -> Vec<GroupTotals> {
        // Children that were gone before the measurement began are of no interest.
        let counts = |task: &&Task| task.ran_ns > 0 || task.state != State::Gone;
        let group = |(index, group): (usize, &Group)| {
            let ran: Vec<u64> = self
                .tasks
                .iter()
                .filter(|task| task.group == index)
                .filter(counts)
                .map(|task| task.ran_ns)
                .collect();
            GroupTotals {
                name: group.text.clone(),
                tasks: ran.len(),
                ran_ns: ran.iter().sum(),
                least_ns: ran.iter().copied().min().unwrap_or(0),
                most_ns: ran.iter().copied().max().unwrap_or(0),
                latency: self.latencies[index].clone(),
            }
        };
        self.groups.iter().enumerate().map(group).collect()
    }

    /// What the machine did.
    pub fn machine_totals(&self) -> MachineTotals {
        self.totals
    }

    /// How often the policy was replaced.
    pub fn swaps(&self) -> u64 {
        self.swaps
    }

    /// Tasks on a queue, by the queues' own count, and by the tasks' states; for tests.
    pub fn queued(&self) -> (usize, usize) {
        let in_queues = self.cpus.iter().map(|cpu| cpu.queue.nr_running() as usize).sum();
        (in_queues, self.tasks.iter().filter(|task| matches!(task.state, State::Queued(_))).count())
    }

    // Events.

    fn at(&mut self, at_ns: u64, event: Event) {
        self.serial += 1;
        self.events.push(Reverse((at_ns, self.serial, event)));
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Wake(task) => self.wake(task, None),
            Event::Timer { cpu, serial } if serial == self.cpus[cpu].timer_serial => self.tick(cpu),
            Event::BurstEnd { cpu, serial } if serial == self.cpus[cpu].burst_serial => self.burst_end(cpu),
            _ => {}
        }
    }

    fn tick(&mut self, cpu: usize) {
        let now_ns = self.now_ns;
        self.charge(cpu);
        self.cpus[cpu].event_ns = None;
        if self.cpus[cpu].queue.tick(now_ns) {
            self.resched.push(cpu);
        } else {
            self.program(cpu);
        }
        if self.cpus[cpu].queue.nr_running() > 1 {
            self.push(cpu);
        }
        let fault = self.cpus[cpu].queue.take_fault();
        assert!(fault.is_none(), "policy {}: {}", self.policy.name, fault.unwrap());
    }

    /// The running task has done what it wanted to.
    fn burst_end(&mut self, cpu: usize) {
        self.charge(cpu);
        let Some(task) = self.cpus[cpu].running else { return };
        if self.tasks[task].burst_left_ns > 0 {
            return;
        }
        match self.tasks[task].script {
            Script::Hog => {}
            Script::Periodic { run_ns, sleep_ns } => self.nap(task, run_ns, sleep_ns),
            Script::Random { run_ns, sleep_ns } => {
                let (run_ns, sleep_ns) = (self.rng.exponential(run_ns), self.rng.exponential(sleep_ns));
                self.nap(task, run_ns, sleep_ns);
            }
            Script::PingPong { run_ns, peer } => {
                self.tasks[task].burst_left_ns = run_ns;
                self.wake(peer, Some(task));
                self.leave(task, Dequeue::Sleep);
            }
            Script::Forker { every_ns, child_ns } => {
                self.fork(task, child_ns);
                self.nap(task, 1_000, every_ns);
            }
            Script::Once => self.leave(task, Dequeue::Exit),
        }
        self.resched.push(cpu);
    }

    fn nap(&mut self, task: TaskNumber, next_run_ns: u64, sleep_ns: u64) {
        self.tasks[task].burst_left_ns = next_run_ns;
        self.leave(task, Dequeue::Sleep);
        self.at(self.now_ns + sleep_ns, Event::Wake(task));
    }

    fn fork(&mut self, parent: TaskNumber, run_ns: u64) {
        let child = self.tasks.len();
        let Task { group, params, allowed, cpu, .. } = self.tasks[parent];
        self.tasks.push(Task {
            group,
            params,
            script: Script::Once,
            allowed,
            state: State::Unborn,
            cpu,
            burst_left_ns: run_ns,
            ran_ns: 0,
            woke_at_ns: None,
            tail_ns: sched_balance::FIRST_TAIL_NS,
            waiting_since_ns: 0,
            just_woken: false,
            left_cpu_at_ns: 0,
        });
        self.wake(child, Some(parent));
    }

    // Queues.

    fn wake(&mut self, task: TaskNumber, waker: Option<TaskNumber>) {
        let now_ns = self.now_ns;
        if let Some(waker) = waker {
            self.tasks[waker].woke_at_ns = Some(now_ns);
        }
        let why = match self.tasks[task].state {
            State::Unborn => Enqueue::New,
            State::Asleep(carry) => Enqueue::Wake { carry, sync: false },
            State::Delayed(slot) => {
                let cpu = self.tasks[task].cpu;
                self.tasks[task].state = State::Queued(slot);
                self.note_waiting(task, true);
                let preempts = self.cpus[cpu].queue.wake_delayed(now_ns, slot);
                return self.entered(cpu, preempts);
            }
            State::Queued(_) | State::Gone => return,
        };
        let cpu = self.place(task, why, waker);
        self.note_waiting(task, true);
        self.add(task, cpu, why);
    }

    fn place(&self, task: TaskNumber, why: Enqueue, waker: Option<TaskNumber>) -> usize {
        let Task { params, cpu: prev, .. } = self.tasks[task];
        let allowed = self.allowed(task);
        let waker_cpu = waker.map_or(prev, |waker| self.tasks[waker].cpu);
        let choice = match (params.class(), why) {
            (Class::Rt, _) => sched_balance::place_rt(self, allowed, prev, params.rt_priority),
            (_, Enqueue::New) => sched_balance::place_new(self, allowed, waker_cpu),
            _ => {
                let waker_tail_ns = waker.map_or(u64::MAX, |waker| self.tasks[waker].tail_ns);
                let wake = Wake { prev, waker: waker_cpu, sync: false, waker_tail_ns };
                sched_balance::place_woken(self, allowed, wake)
            }
        };
        choice.expect("the command line allows some CPU that exists")
    }

    fn allowed(&self, task: TaskNumber) -> &[u64] {
        self.tasks[task].allowed.map_or(&self.all, |mask| &self.masks[mask])
    }

    fn add(&mut self, task: TaskNumber, cpu: usize, why: Enqueue) {
        let params = self.tasks[task].params;
        let queue = &mut self.cpus[cpu].queue;
        let added = queue.add(self.now_ns, task, &params, why).or_else(|| {
            queue.reserve((queue.capacity() * 2).max(8)).expect("the host has memory");
            queue.add(self.now_ns, task, &params, why)
        });
        let added = added.expect("room was just made");
        self.tasks[task].state = State::Queued(added.slot);
        self.tasks[task].cpu = cpu;
        self.entered(cpu, added.preempts);
    }

    fn entered(&mut self, cpu: usize, preempts: bool) {
        self.publish(cpu);
        if preempts {
            self.resched.push(cpu);
        } else {
            self.charge(cpu);
            self.program(cpu);
        }
    }

    fn note_waiting(&mut self, task: TaskNumber, woken: bool) {
        let task = &mut self.tasks[task];
        task.waiting_since_ns = self.now_ns;
        task.just_woken |= woken;
    }

    /// The running task sleeps or exits.
    fn leave(&mut self, task: TaskNumber, why: Dequeue) {
        let State::Queued(slot) = self.tasks[task].state else { return };
        let cpu = self.tasks[task].cpu;
        if let Some(woke_at_ns) = self.tasks[task].woke_at_ns.take() {
            let usual_ns = self.tasks[task].tail_ns;
            self.tasks[task].tail_ns = sched_balance::next_tail_ns(usual_ns, self.now_ns - woke_at_ns);
        }
        self.tasks[task].state = match self.cpus[cpu].queue.remove(self.now_ns, slot, why) {
            _ if why == Dequeue::Exit => State::Gone,
            Some(Removed::Gone(_, carry)) => State::Asleep(carry),
            Some(Removed::Delayed) => State::Delayed(slot),
            None => panic!("a queued task is not in its queue"),
        };
        self.publish(cpu);
    }

    // Running.

    /// Charges the running task up to now.
    fn charge(&mut self, cpu: usize) {
        let ran_ns = self.now_ns - self.cpus[cpu].charged_at_ns;
        self.cpus[cpu].charged_at_ns = self.now_ns;
        if let Some(task) = self.cpus[cpu].running {
            let task = &mut self.tasks[task];
            task.ran_ns += ran_ns;
            task.burst_left_ns = task.burst_left_ns.saturating_sub(ran_ns);
        }
    }

    fn schedule(&mut self, cpu: usize) {
        self.charge(cpu);
        let mut next = self.pick(cpu);
        if next.is_none() && self.cpus[cpu].queue.idle().worth_pulling(MIGRATION_COST_NS) {
            self.publish(cpu);
            self.pull(cpu);
            next = self.pick(cpu);
        }
        let previous = std::mem::replace(&mut self.cpus[cpu].running, next);
        if previous != next {
            self.note_switch(previous, next);
        }
        self.publish(cpu);
        self.program(cpu);
        self.program_burst(cpu);
    }

    fn pick(&mut self, cpu: usize) -> Option<TaskNumber> {
        let tasks = &mut self.tasks;
        let picked = self.cpus[cpu].queue.pick(self.now_ns, &mut |task: TaskNumber, carry| {
            tasks[task].state = State::Asleep(carry);
        });
        picked.map(|(_, task)| task)
    }

    fn note_switch(&mut self, previous: Option<TaskNumber>, next: Option<TaskNumber>) {
        self.totals.switches += 1;
        if let Some(previous) = previous {
            self.tasks[previous].left_cpu_at_ns = self.now_ns;
            if matches!(self.tasks[previous].state, State::Queued(_)) && !self.tasks[previous].just_woken {
                self.note_waiting(previous, false);
            }
        }
        let Some(next) = next else { return };
        let task = &mut self.tasks[next];
        let waited_ns = self.now_ns - task.waiting_since_ns;
        self.totals.longest_wait_ns = self.totals.longest_wait_ns.max(waited_ns);
        if std::mem::take(&mut task.just_woken) {
            self.latencies[task.group].add(waited_ns);
        }
    }

    fn program(&mut self, cpu: usize) {
        let event_ns = self.cpus[cpu].queue.next_event(self.now_ns);
        if event_ns == self.cpus[cpu].event_ns {
            return;
        }
        self.cpus[cpu].event_ns = event_ns;
        self.cpus[cpu].timer_serial += 1;
        if let Some(event_ns) = event_ns {
            let serial = self.cpus[cpu].timer_serial;
            self.at(event_ns, Event::Timer { cpu, serial });
        }
    }

    fn program_burst(&mut self, cpu: usize) {
        self.cpus[cpu].burst_serial += 1;
        let serial = self.cpus[cpu].burst_serial;
        if let Some(task) = self.cpus[cpu].running
            && let Some(end_ns) = self.now_ns.checked_add(self.tasks[task].burst_left_ns)
        {
            self.at(end_ns, Event::BurstEnd { cpu, serial });
        }
    }

    // Balancing.

    fn pull(&mut self, me: usize) {
        if let Some(from) = sched_balance::idle_pull(self, me) {
            self.move_tasks(from.cpu, me, from.load, false);
        }
    }

    fn push(&mut self, me: usize) {
        let only_idle = self.now_ns < self.cpus[me].balance_at_ns;
        if !only_idle {
            self.cpus[me].balance_at_ns = self.now_ns + sched_balance::interval_ns(self.cpus.len());
        }
        if let Some(to) = sched_balance::push(self, &self.all, me, only_idle) {
            let keep_warm = self.nr_running(to.cpu) > 0;
            self.move_tasks(me, to.cpu, to.load, keep_warm);
        }
    }

    fn move_tasks(&mut self, from: usize, to: usize, load: u64, keep_warm: bool) {
        let mut left = load;
        for moved in 0..32 {
            let limit = if moved == 0 { u64::MAX } else { left };
            let Some((task, carry)) = self.take(from, to, limit, keep_warm) else { break };
            self.totals.moves += 1;
            self.add(task, to, Enqueue::Move { carry });
            left = left.saturating_sub(self.tasks[task].params.weight());
            if left == 0 {
                break;
            }
        }
    }

    fn take(&mut self, from: usize, to: usize, limit: u64, keep_warm: bool) -> Option<(TaskNumber, Carry)> {
        let now_ns = self.now_ns;
        let (tasks, masks) = (&self.tasks, &self.masks);
        let mut may_go = |number: &TaskNumber| {
            let task = &tasks[*number];
            let allowed = task.allowed.is_none_or(|mask| masks[mask][to / 64] >> (to % 64) & 1 == 1);
            let cold = now_ns >= task.left_cpu_at_ns + MIGRATION_COST_NS;
            allowed && task.params.weight() <= limit && (cold || !keep_warm)
        };
        let queue = &mut self.cpus[from].queue;
        let slot = [Class::Rt, Class::Fair]
            .into_iter()
            .find_map(|class| queue.movable(now_ns, class, &mut may_go))?;
        let Some(Removed::Gone(task, carry)) = queue.remove(now_ns, slot, Dequeue::Move) else { return None };
        self.publish(from);
        self.program(from);
        Some((task, carry))
    }

    fn publish(&mut self, cpu: usize) {
        let nr_running = self.cpus[cpu].queue.nr_running();
        let bit = 1 << (cpu % 64);
        let set = |word: &mut u64, on: bool| if on { *word |= bit } else { *word &= !bit };
        set(&mut self.idle[cpu / 64], nr_running == 0);
        set(&mut self.overloaded[cpu / 64], nr_running > 1);
    }

    // The policy.

    fn make_policy(&mut self, cpus: usize, slots: usize) -> Box<dyn SchedPolicy> {
        self.serial += 1;
        let config = QueueConfig { id: QueueId(self.serial), cpus: cpus as u32, slots };
        let mut policy = (self.policy.make)(config).expect("the host has memory");
        for (name, value) in &self.knobs {
            let _ = policy.set_tunable(name, *value); // the other policy's knob
        }
        policy
    }

    /// Puts the next policy in the place of the present one on every CPU.
    fn swap_policy(&mut self) {
        let present = crate::POLICIES.iter().position(|info| info.name == self.policy.name).unwrap_or(0);
        self.policy = crate::POLICIES[(present + 1) % crate::POLICIES.len()];
        self.swaps += 1;
        for cpu in 0..self.cpus.len() {
            self.charge(cpu);
            let slots = self.cpus[cpu].queue.capacity();
            let new = self.make_policy(self.cpus.len(), slots);
            let tasks = &mut self.tasks;
            self.cpus[cpu].queue.swap_fair(self.now_ns, new, &mut |task: TaskNumber, carry| {
                tasks[task].state = State::Asleep(carry);
            });
            self.schedule(cpu);
        }
    }
}

impl Cpus for Machine {
    fn count(&self) -> usize {
        self.cpus.len()
    }

    fn idle(&self, word: usize) -> u64 {
        self.idle[word]
    }

    fn overloaded(&self, word: usize) -> u64 {
        self.overloaded[word]
    }

    fn nr_running(&self, cpu: usize) -> u32 {
        self.cpus[cpu].queue.nr_running()
    }

    fn load(&self, cpu: usize) -> u64 {
        self.cpus[cpu].queue.fair_load()
    }

    fn rt_priority(&self, cpu: usize) -> u8 {
        self.cpus[cpu].queue.rt_priority()
    }
}
