//! The run queue itself.

use crate::slots::{Entry, Slots, State};
use crate::watchdog::{self, Fault};
use alloc::boxed::Box;
use sched_api::{Carry, Class, Dequeue, Dequeued, Enqueue, NoMemory, Params, Pick, SchedPolicy, Slot, Stat};
use sched_idle::Idle;
use sched_rt::{FairServer, Rt};
use sched_stop::Stop;

/// Slice of the queue's own round robin, while no fair policy can be asked.
const EMERGENCY_SLICE_NS: u64 = 10_000_000;

/// What became of a task that was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Added {
    /// Where it is; the owner remembers it to remove the task.
    pub slot: Slot,
    /// It should run now: the owner makes the CPU call `pick`.
    pub preempts: bool,
}

/// What became of a task that was to be removed.
#[derive(Debug, PartialEq)]
pub enum Removed<T> {
    /// It is out.
    Gone(T, Carry),
    /// It sleeps but stays for a while; its slot too. It leaves by [`CpuQueue::pick`].
    Delayed,
}

/// A CPU's run queue. `T` names a task to the owner; cloning it should be cheap.
pub struct CpuQueue<T> {
    slots: Slots<T>,
    stop: Stop,
    rt: Rt,
    /// `None` after a fault, until another policy is installed.
    fair: Option<Box<dyn SchedPolicy>>,
    server: FairServer,
    idle: Idle,
    current: Option<Slot>,
    /// Fair tasks that want to run, by our own count.
    fair_runnable: u32,
    fair_load: u64,
    clock_ns: u64,
    fair_clock_ns: u64,
    picked_at_ns: u64,
    watchdog_at_ns: u64,
    /// The slot that the watchdog looks at first, next time.
    watchdog_next: usize,
    fault: Option<Fault>,
    /// The policy that was taken out of service, for the owner to drop outside its lock.
    retired: Option<Box<dyn SchedPolicy>>,
}

impl<T: Clone> CpuQueue<T> {
    /// An empty queue, idle since `now_ns`, whose fair class is served by `fair`.
    pub fn new(now_ns: u64, fair: Box<dyn SchedPolicy>) -> CpuQueue<T> {
        let mut idle = Idle::default();
        idle.enter(now_ns);
        CpuQueue {
            slots: Slots::new(),
            stop: Stop::default(),
            rt: Rt::default(),
            fair: Some(fair),
            server: FairServer::default(),
            idle,
            current: None,
            fair_runnable: 0,
            fair_load: 0,
            clock_ns: now_ns,
            fair_clock_ns: 0,
            picked_at_ns: now_ns,
            watchdog_at_ns: now_ns + watchdog::PERIOD_NS,
            watchdog_next: 0,
            fault: None,
            retired: None,
        }
    }

    /// Makes room for `slots` tasks in all; nothing else allocates. Never shrinks.
    pub fn reserve(&mut self, slots: usize) -> Result<(), NoMemory> {
        self.stop.reserve(slots)?;
        self.rt.reserve(slots)?;
        if let Some(fair) = &mut self.fair {
            fair.reserve(slots)?;
        }
        self.slots.reserve(slots)
    }

    /// The room there is.
    pub fn capacity(&self) -> usize {
        self.slots.capacity()
    }

    // Entering and leaving.

    /// Adds a task. `None` when there is no room, which the owner prevents by [`reserve`](Self::reserve).
    pub fn add(&mut self, now_ns: u64, task: T, params: &Params, why: Enqueue) -> Option<Added> {
        let now_ns = self.advance(now_ns);
        let waiting_since = self.fair_clock_ns;
        let entry = Entry { task, params: *params, state: State::Waiting, waiting_since };
        let slot = self.slots.insert(entry)?;
        self.count(params, true);
        let within_class = self.enqueue(now_ns, slot, params, why);
        let preempts = self.preempts(now_ns, params.class(), within_class);
        Some(Added { slot, preempts })
    }

    /// Takes a task out, running or not. `None` when the slot is empty.
    pub fn remove(&mut self, now_ns: u64, slot: Slot, why: Dequeue) -> Option<Removed<T>> {
        let now_ns = self.advance(now_ns);
        let entry = self.slots.get(slot)?;
        let (params, was_runnable) = (entry.params, entry.is_runnable());
        let answer = self.dequeue(now_ns, slot, &params, why);
        if was_runnable {
            self.count(&params, false);
        }
        if self.current == Some(slot) {
            self.current = None;
        }
        match answer {
            Dequeued::Delayed if why == Dequeue::Sleep && was_runnable => {
                self.slots.get_mut(slot)?.state = State::Delayed;
                Some(Removed::Delayed)
            }
            // A policy that delays what must leave has lost track of it.
            Dequeued::Delayed => {
                self.degrade(Fault::BadDrop(slot));
                Some(Removed::Gone(self.slots.remove(slot)?.task, Carry::default()))
            }
            Dequeued::Gone(carry) => Some(Removed::Gone(self.slots.remove(slot)?.task, carry)),
        }
    }

    /// A task wakes that [`remove`](Self::remove) left [`Removed::Delayed`]. Answers whether it should
    /// run now.
    pub fn wake_delayed(&mut self, now_ns: u64, slot: Slot) -> bool {
        let now_ns = self.advance(now_ns);
        let since = self.fair_clock_ns;
        let Some(entry) = self.slots.get_mut(slot).filter(|entry| entry.state == State::Delayed) else {
            return false;
        };
        (entry.state, entry.waiting_since) = (State::Waiting, since);
        let params = entry.params;
        self.count(&params, true);
        let within_class = self.fair.as_mut().is_none_or(|fair| fair.wake_delayed(now_ns, slot));
        self.preempts(now_ns, params.class(), within_class)
    }

    /// New parameters for a task in the queue, of another class perhaps. Answers whether to pick again.
    ///
    /// A [delayed](State::Delayed) sleeper cannot change its class; the owner removes it first.
    pub fn set_params(&mut self, now_ns: u64, slot: Slot, params: &Params) -> bool {
        let now_ns = self.advance(now_ns);
        let Some(entry) = self.slots.get(slot) else { return false };
        let (old, state) = (entry.params, entry.state);
        if state != State::Delayed {
            self.count(&old, false);
            self.count(params, true);
        }
        if old.class() == params.class() {
            self.store_params(slot, params);
            return match self.policy(params.class()) {
                Some(policy) => policy.set_params(now_ns, slot, params),
                None => true,
            };
        }
        self.change_class(now_ns, slot, &old, params, state)
    }

    /// Puts the current task behind the others of its class (sched_yield(2)); `pick` follows.
    pub fn yield_current(&mut self, now_ns: u64) {
        let now_ns = self.advance(now_ns);
        if let Some(class) = self.current_class()
            && let Some(policy) = self.policy(class)
        {
            policy.yield_current(now_ns);
        }
    }

    // Deciding.

    /// Chooses who runs from now on; `None` is the idle task. Delayed sleepers that leave now are handed
    /// to `left` with what they carry; their slots are free again.
    pub fn pick(&mut self, now_ns: u64, left: &mut dyn FnMut(T, Carry)) -> Option<(Slot, T)> {
        let now_ns = self.advance(now_ns);
        let picked = self.choose(now_ns, left);
        self.set_running(picked);
        self.picked_at_ns = now_ns;
        match picked {
            Some(_) => self.idle.leave(now_ns),
            None => self.idle.enter(now_ns),
        }
        let slot = picked?;
        Some((slot, self.slots.get(slot)?.task.clone()))
    }

    /// The timer fired, at or after [`next_event`](Self::next_event), or earlier, which does no harm.
    /// Answers whether to pick again.
    pub fn tick(&mut self, now_ns: u64) -> bool {
        let now_ns = self.advance(now_ns);
        if now_ns >= self.watchdog_at_ns {
            self.look_for_the_forgotten();
            let looks = self.slots.capacity().div_ceil(watchdog::CHUNK).max(1) as u64;
            self.watchdog_at_ns = now_ns.saturating_add(watchdog::PERIOD_NS / looks);
        }
        match self.current_class() {
            None => self.nr_running() > 0,
            Some(Class::Fair) => self.fair_tick(now_ns),
            Some(class) => {
                let over = self.policy(class).is_some_and(|policy| policy.tick(now_ns));
                over || class == Class::Rt && self.competes() && self.server.is_fair_due(now_ns)
            }
        }
    }

    /// When `tick` must be called next, at the latest; `None` when the current task (or idling) can go on
    /// until something is added. Never in the past.
    pub fn next_event(&self, now_ns: u64) -> Option<u64> {
        let class = self.current_class()?;
        let earliest = |a: Option<u64>, b: Option<u64>| match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, other) => one.or(other),
        };
        let preemption = match class {
            Class::Stop | Class::Idle => None,
            Class::Rt => self.rt.next_event(now_ns),
            Class::Fair => self.fair_next_event(now_ns),
        };
        let server = match self.competes() {
            true => self.server.next_event(now_ns, class == Class::Fair),
            false => None,
        };
        let others_wait = self.fair_runnable > u32::from(class == Class::Fair);
        let watchdog = others_wait.then(|| self.watchdog_at_ns.max(now_ns.saturating_add(1)));
        earliest(earliest(preemption, server), watchdog)
    }

    // Balancing.

    /// A waiting task of `class` that may move away, among those that `accept` lets go; to be removed
    /// with [`Dequeue::Move`].
    pub fn movable(&mut self, now_ns: u64, class: Class, accept: &mut dyn FnMut(&T) -> bool) -> Option<Slot> {
        let now_ns = self.advance(now_ns);
        let current = self.current;
        let (slots, rt, fair) = (&self.slots, &mut self.rt, &mut self.fair);
        // Checked like a pick, for the same reason.
        let mut may_move = |slot: Slot| {
            slots.get(slot).is_some_and(|entry| {
                entry.params.class() == class && entry.state == State::Waiting && accept(&entry.task)
            })
        };
        let proposal = match (class, fair) {
            (Class::Rt, _) => rt.movable(now_ns, &mut may_move),
            (Class::Fair, Some(fair)) => fair.movable(now_ns, &mut may_move),
            _ => None,
        };
        proposal.filter(|slot| Some(*slot) != current && may_move(*slot))
    }

    /// Whether the task in this slot is the one that runs.
    pub fn is_running(&self, slot: Slot) -> bool {
        self.current == Some(slot)
    }

    /// Tasks that want this CPU, the running one included.
    pub fn nr_running(&self) -> u32 {
        self.fair_runnable + self.rt.nr_running() + self.stop.nr_running()
    }

    /// Those of them in the fair class.
    pub fn nr_fair(&self) -> u32 {
        self.fair_runnable
    }

    /// Those of them in the real-time class.
    pub fn nr_rt(&self) -> u32 {
        self.rt.nr_running()
    }

    /// The sum of the weights of the fair ones.
    pub fn fair_load(&self) -> u64 {
        self.fair_load
    }

    /// The priority of the most urgent real-time task here, 0 for none.
    pub fn rt_priority(&self) -> u8 {
        self.rt.highest_priority()
    }

    /// The idle times of the CPU.
    pub fn idle(&self) -> &Idle {
        &self.idle
    }

    // Looking in.

    /// The task that runs, `None` when the idle task does.
    pub fn current(&self) -> Option<(Slot, &T)> {
        let slot = self.current?;
        Some((slot, &self.slots.get(slot)?.task))
    }

    /// The class of the task that runs.
    pub fn current_class(&self) -> Option<Class> {
        Some(self.slots.get(self.current?)?.params.class())
    }

    /// A task in the queue, with its parameters and state.
    pub fn get(&self, slot: Slot) -> Option<(&T, &Params, State)> {
        self.slots.get(slot).map(|entry| (&entry.task, &entry.params, entry.state))
    }

    /// All tasks in the queue.
    pub fn iter(&self) -> impl Iterator<Item = (Slot, &T, &Params, State)> {
        self.slots.iter().map(|(slot, entry)| (slot, &entry.task, &entry.params, entry.state))
    }

    /// What its policy tells about a task, up to now.
    pub fn stats(&mut self, now_ns: u64, slot: Slot, put: &mut dyn FnMut(&'static str, Stat)) {
        self.advance(now_ns);
        if let Some(entry) = self.slots.get(slot) {
            let class = entry.params.class();
            if let Some(policy) = self.policy(class) {
                policy.stats(slot, put);
            }
        }
    }

    /// The fair policy, for its name and knobs; `None` while there is none after a fault.
    pub fn fair_policy(&mut self) -> Option<&mut (dyn SchedPolicy + 'static)> {
        self.fair.as_deref_mut()
    }

    /// The real-time policy, for its knobs.
    pub fn rt_policy(&mut self) -> &mut Rt {
        &mut self.rt
    }

    /// The fair server, for its knobs.
    pub fn fair_server(&mut self) -> &mut FairServer {
        &mut self.server
    }

    // Replacing the policy.

    /// The fault that put the fair policy out of service, once. The owner then installs another.
    pub fn take_fault(&mut self) -> Option<Fault> {
        self.fault.take()
    }

    /// Serves the fair class by `new` from now on, with all its tasks. `new` must have room for
    /// [`capacity`](Self::capacity) slots. Returns the old policy (or the one that was retired), to be
    /// dropped outside the lock. Delayed sleepers leave through `left`.
    ///
    /// The owner lets the CPU pick again.
    pub fn swap_fair(
        &mut self,
        now_ns: u64,
        mut new: Box<dyn SchedPolicy>,
        left: &mut dyn FnMut(T, Carry),
    ) -> Option<Box<dyn SchedPolicy>> {
        let now_ns = self.advance(now_ns);
        let mut old = self.fair.take();
        for index in 0..self.slots.capacity() {
            let slot = Slot(index as u32);
            let Some(entry) = self.slots.get(slot).filter(|entry| entry.params.class() == Class::Fair) else {
                continue;
            };
            let answer = old.as_mut().map(|old| old.dequeue(now_ns, slot, Dequeue::Move));
            let carry = match answer {
                Some(Dequeued::Gone(carry)) => carry,
                _ => Carry::default(), // after a fault nobody's word counts
            };
            if entry.is_runnable() {
                new.enqueue(now_ns, slot, &entry.params, Enqueue::Move { carry });
            } else if let Some(entry) = self.slots.remove(slot) {
                left(entry.task, carry);
            }
        }
        if let Some(slot) = self.current
            && self.current_class() == Some(Class::Fair)
        {
            new.set_current(now_ns, slot);
        }
        self.fair = Some(new);
        self.fault = None;
        old.or_else(|| self.retired.take())
    }

    // Inside.

    /// Brings the clocks up to now; time never goes back in here.
    fn advance(&mut self, now_ns: u64) -> u64 {
        let ran_ns = now_ns.saturating_sub(self.clock_ns);
        self.clock_ns += ran_ns;
        match self.current_class() {
            Some(Class::Fair) => {
                self.fair_clock_ns += ran_ns;
                self.server.fair_ran(ran_ns);
            }
            None => self.fair_clock_ns += ran_ns,
            _ => {}
        }
        self.clock_ns
    }

    /// Real-time and fair tasks both want the CPU.
    fn competes(&self) -> bool {
        self.rt.nr_running() > 0 && self.fair_runnable > 0
    }

    fn count(&mut self, params: &Params, enters: bool) {
        if params.class() != Class::Fair {
            return;
        }
        if enters {
            self.fair_runnable += 1;
            self.fair_load += params.weight();
        } else {
            self.fair_runnable -= 1;
            self.fair_load -= params.weight();
        }
    }

    fn policy(&mut self, class: Class) -> Option<&mut dyn SchedPolicy> {
        match class {
            Class::Stop => Some(&mut self.stop),
            Class::Rt => Some(&mut self.rt),
            Class::Fair => match &mut self.fair {
                Some(fair) => Some(&mut **fair),
                None => None,
            },
            Class::Idle => None,
        }
    }

    /// Without a policy (after a fault) everybody preempts, and the round robin sorts it out.
    fn enqueue(&mut self, now_ns: u64, slot: Slot, params: &Params, why: Enqueue) -> bool {
        let policy = self.policy(params.class());
        policy.is_none_or(|policy| policy.enqueue(now_ns, slot, params, why))
    }

    fn dequeue(&mut self, now_ns: u64, slot: Slot, params: &Params, why: Dequeue) -> Dequeued {
        match self.policy(params.class()) {
            Some(policy) => policy.dequeue(now_ns, slot, why),
            None => Dequeued::Gone(Carry { left_at_ns: now_ns, ..Carry::default() }),
        }
    }

    /// Whether a task of `class` that became runnable, and which its class would (not) prefer to its
    /// running task, gets the CPU.
    fn preempts(&mut self, now_ns: u64, class: Class, within_class: bool) -> bool {
        match self.current_class() {
            None => true,
            Some(current) if current == class => within_class,
            // The fair class runs on the server's time; a real-time task does not cut that short.
            Some(Class::Fair) if class == Class::Rt => !self.server.is_fair_due(now_ns),
            Some(Class::Rt) if class == Class::Fair => self.server.is_fair_due(now_ns),
            Some(current) => class < current,
        }
    }

    fn store_params(&mut self, slot: Slot, params: &Params) {
        if let Some(entry) = self.slots.get_mut(slot) {
            entry.params = *params;
        }
    }

    fn change_class(&mut self, now_ns: u64, slot: Slot, old: &Params, new: &Params, state: State) -> bool {
        if state == State::Delayed {
            return false;
        }
        // Who is kept although it leaves would be in two classes, and twice in one when it comes back.
        if self.dequeue(now_ns, slot, old, Dequeue::Move) == Dequeued::Delayed {
            self.degrade(Fault::BadDrop(slot));
        }
        self.store_params(slot, new);
        let carry = Carry::default();
        let within_class = self.enqueue(now_ns, slot, new, Enqueue::Move { carry });
        if self.current != Some(slot) {
            return self.preempts(now_ns, new.class(), within_class);
        }
        if let Some(policy) = self.policy(new.class()) {
            policy.set_current(now_ns, slot);
        }
        true
    }

    /// The order of the classes.
    fn choose(&mut self, now_ns: u64, left: &mut dyn FnMut(T, Carry)) -> Option<Slot> {
        let leaving = self.current_class();
        let class = self.class_to_run(now_ns);
        if leaving != class
            && let Some(leaving) = leaving
            && let Some(policy) = self.policy(leaving)
        {
            policy.put_prev(now_ns);
        }
        match class? {
            Class::Fair => self.choose_fair(now_ns, left),
            class => match self.policy(class)?.pick_next(now_ns) {
                Pick::Run(slot) => Some(slot),
                _ => None,
            },
        }
    }

    fn class_to_run(&mut self, now_ns: u64) -> Option<Class> {
        if self.stop.nr_running() > 0 {
            return Some(Class::Stop);
        }
        if self.rt.nr_running() == 0 {
            self.server.relax();
            // Delayed sleepers count: somebody must release them.
            return (self.slots.len() > 0).then_some(Class::Fair);
        }
        if self.fair_runnable == 0 {
            self.server.relax();
            return Some(Class::Rt);
        }
        Some(if self.server.is_fair_due(now_ns) { Class::Fair } else { Class::Rt })
    }

    fn choose_fair(&mut self, now_ns: u64, left: &mut dyn FnMut(T, Carry)) -> Option<Slot> {
        loop {
            let Some(fair) = &mut self.fair else { return self.emergency_choice() };
            match fair.pick_next(now_ns) {
                Pick::Run(slot) if self.may_run(slot) => return Some(slot),
                Pick::Run(slot) => self.degrade(Fault::BadPick(slot)),
                Pick::Nothing if self.fair_runnable == 0 => return None,
                Pick::Nothing => self.degrade(Fault::Idles),
                Pick::Drop(slot, carry) => match self.slots.get(slot).map(|entry| entry.state) {
                    Some(State::Delayed) => {
                        let entry = self.slots.remove(slot);
                        entry.into_iter().for_each(|entry| left(entry.task, carry));
                    }
                    _ => self.degrade(Fault::BadDrop(slot)),
                },
            }
        }
    }

    fn may_run(&self, slot: Slot) -> bool {
        let entry = self.slots.get(slot);
        entry.is_some_and(|entry| entry.is_runnable() && entry.params.class() == Class::Fair)
    }

    /// Who has waited longest; a look at everybody, until there is a policy again.
    fn emergency_choice(&self) -> Option<Slot> {
        let runnable = self.slots.fair().filter(|(_, entry)| entry.is_runnable());
        let since = |entry: &Entry<T>| match entry.state {
            State::Running => self.fair_clock_ns,
            _ => entry.waiting_since,
        };
        runnable.min_by_key(|(slot, entry)| (since(entry), *slot)).map(|(slot, _)| slot)
    }

    /// Takes the fair policy out of service. Delayed sleepers keep their slots; they wake normally and
    /// leave when the next policy comes.
    fn degrade(&mut self, fault: Fault) {
        self.fault = Some(fault);
        self.retired = self.fair.take().or(self.retired.take());
    }

    fn set_running(&mut self, slot: Option<Slot>) {
        let clock = self.fair_clock_ns;
        if let Some(entry) = self.current.and_then(|slot| self.slots.get_mut(slot)) {
            (entry.state, entry.waiting_since) = (State::Waiting, clock);
        }
        if let Some(entry) = slot.and_then(|slot| self.slots.get_mut(slot)) {
            entry.state = State::Running;
        }
        self.current = slot;
    }

    fn fair_tick(&mut self, now_ns: u64) -> bool {
        let over = match &mut self.fair {
            Some(fair) => fair.tick(now_ns),
            None => now_ns >= self.picked_at_ns.saturating_add(EMERGENCY_SLICE_NS),
        };
        over || self.stop.nr_running() > 0 || self.competes() && !self.server.is_fair_due(now_ns)
    }

    fn fair_next_event(&self, now_ns: u64) -> Option<u64> {
        match &self.fair {
            Some(fair) => fair.next_event(now_ns),
            None if self.fair_runnable < 2 => None,
            None => {
                let at_ns = self.picked_at_ns.saturating_add(EMERGENCY_SLICE_NS);
                Some(at_ns.max(now_ns.saturating_add(1)))
            }
        }
    }

    fn look_for_the_forgotten(&mut self) {
        if self.fair.is_none() {
            return;
        }
        let (clock, load) = (self.fair_clock_ns, self.fair_load);
        let from = core::mem::take(&mut self.watchdog_next);
        if from + watchdog::CHUNK < self.slots.capacity() {
            self.watchdog_next = from + watchdog::CHUNK;
        }
        let chunk = self.slots.fair_from(from).take_while(|(slot, _)| slot.index() < from + watchdog::CHUNK);
        let waits = |(slot, entry): (Slot, &Entry<T>)| {
            let waited_ns = clock.saturating_sub(entry.waiting_since);
            let limit_ns = watchdog::limit_ns(&entry.params, load);
            (entry.state == State::Waiting && waited_ns > limit_ns).then_some((slot, waited_ns))
        };
        let forgotten = chunk.filter_map(waits).next();
        if let Some((slot, waited_ns)) = forgotten {
            self.degrade(Fault::Starves(slot, waited_ns));
        }
    }
}

impl<T> core::fmt::Debug for CpuQueue<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let fair = self.fair.as_ref().map(|fair| fair.name());
        f.debug_struct("CpuQueue")
            .field("fair", &fair)
            .field("tasks", &self.slots.len())
            .field("current", &self.current)
            .field("fault", &self.fault)
            .finish_non_exhaustive()
    }
}
