//! The task itself and the switch.
//!
//! ```text
//!      New --wake--> Running <----wake---- Interruptible / Uninterruptible / Killable / Stopped ...
//!                      |  ^                      ^
//!                      |  +-- preempted          | announced by the task itself, then schedule()
//!                      +-------------------------+
//!                      +--exit--> Dead (freed when the last Arc drops, on another stack)
//! ```

use crate::kthreads;
use crate::scheduler::{schedule, scheduler};
use crate::slot::SchedSlot;
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use arch::context::TaskState as Registers;
use arch::user::UserContext;
use arch::{MAX_CPUS, VirtAddr, cpu, irq};
use core::any::Any;
use core::cell::UnsafeCell;
use core::marker::PhantomData;
use core::ops::Deref;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU16, Ordering};
use lockword::SleepWord;
use mem::{KernelStack, OutOfMemory, UserTable};
use sync::levels::{Leaf, TaskIds};
use sync::{Once, SpinLock};

/// A dense number for the life of the task; reused afterwards. Not the pid.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Hash)]
pub struct TaskId(pub u32);

/// What a task is doing, as `/proc/PID/stat` tells it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum State {
    /// Runs or is ready to run: R.
    Running = lockword::RUNNING,
    /// Sleeps until its condition or any signal: S.
    Interruptible = 1,
    /// Sleeps until its condition: D.
    Uninterruptible = 2,
    /// Sleeps until its condition or a fatal signal: D.
    Killable = 3,
    /// Stopped by job control: T.
    Stopped = 4,
    /// Stopped for its tracer: t.
    Traced = 5,
    /// Made but never woken.
    New = 6,
    /// A kernel thread that waits for work and does not count as load: I.
    Idle = 7,
    /// Has run its last instruction.
    Dead = 8,
}

impl State {
    fn from_u32(value: u32) -> State {
        match value {
            0 => State::Running,
            1 => State::Interruptible,
            2 => State::Uninterruptible,
            3 => State::Killable,
            4 => State::Stopped,
            5 => State::Traced,
            6 => State::New,
            7 => State::Idle,
            _ => State::Dead,
        }
    }

    /// The letter in `/proc/PID/stat`.
    pub fn letter(self) -> char {
        match self {
            State::Running | State::New => 'R',
            State::Interruptible => 'S',
            State::Uninterruptible | State::Killable => 'D',
            State::Stopped => 'T',
            State::Traced => 't',
            State::Idle => 'I',
            State::Dead => 'X',
        }
    }
}

type Body = Box<dyn FnOnce() + Send>;

/// See [`crate::with_rescue`].
#[derive(Clone, Copy)]
pub(crate) struct Rescue {
    pub call: *mut (),
    pub run: unsafe fn(*mut ()),
}

/// Something that can be scheduled. Always in an `Arc`.
pub struct Task {
    id: TaskId,
    state: SleepWord,
    /// True from the switch to it until its registers are saved again.
    on_cpu: AtomicBool,
    /// Set by the signal code: interruptible sleeps end.
    signal_pending: AtomicBool,
    /// Set by the signal code: killable sleeps end.
    fatal_pending: AtomicBool,
    /// As ioprio_set(2) encodes it; 0: none.
    io_priority: AtomicU16,
    /// The name of what it waits for, for /proc/PID/wchan.
    waiting_on: AtomicPtr<&'static str>,
    pub sched: SchedSlot,
    name: SpinLock<String, Leaf>,
    /// The registers of its user mode, on its own stack, while it has some.
    pub(crate) user: AtomicPtr<UserContext>,
    /// What the layer above hangs on the task: kcore's `Thread`. None for kernel threads.
    payload: Once<Arc<dyn Any + Send + Sync>>,
    registers: UnsafeCell<Registers>,
    /// The user page table to activate; None: kernel thread.
    table: UnsafeCell<Option<Arc<UserTable>>>,
    body: UnsafeCell<Option<Body>>,
    /// Who ends the task if it must be given up.
    rescue: UnsafeCell<Option<Rescue>>,
    /// It was given up: its stack may hold what others point to, and stays.
    abandoned: AtomicBool,
    /// None: the boot context of a CPU, whose stack was not allocated.
    stack: Option<KernelStack>,
    #[cfg(debug_assertions)]
    pub(crate) held_sleeping: SpinLock<Vec<u16>, Leaf>,
}

// SAFETY: 1. `registers` is touched by `switch_to` alone, on the CPU for which `on_cpu` was won;
// 2. `table`, `body` and `rescue` are touched by the task itself and by its maker before the first wake-up;
// 3. all other fields are Sync.
unsafe impl Sync for Task {}
// SAFETY: 1. no field is tied to a thread of the host or to a CPU.
unsafe impl Send for Task {}

/// Dense task numbers: lowest free first, so that tables indexed by them stay small.
static IDS: SpinLock<Ids, TaskIds> = SpinLock::new(Ids { next: 0, free: Vec::new() });

struct Ids {
    next: u32,
    free: Vec<u32>,
}

fn take_id() -> TaskId {
    let mut ids = IDS.lock();
    TaskId(ids.free.pop().unwrap_or_else(|| {
        ids.next += 1;
        ids.next - 1
    }))
}

/// What a new task starts with.
pub struct NewTask {
    pub name: String,
    /// Runs on the new task's own stack with interrupts on; when it returns the task exits.
    pub body: Body,
    pub payload: Option<Arc<dyn Any + Send + Sync>>,
    pub table: Option<Arc<UserTable>>,
    /// Start with a copy of the current task's FPU and thread-pointer state (fork).
    pub fork_registers: bool,
}

impl NewTask {
    /// A kernel thread.
    pub fn kernel(name: impl Into<String>, body: impl FnOnce() + Send + 'static) -> NewTask {
        NewTask { name: name.into(), body: Box::new(body), payload: None, table: None, fork_registers: false }
    }

    /// Makes the task, known to the scheduler but asleep in state `New`: [`Task::wake`] starts it.
    /// Process context; fails when memory for the stack is short.
    pub fn create(self) -> Result<Arc<Task>, OutOfMemory> {
        let is_kernel = self.payload.is_none();
        let stack = KernelStack::alloc()?;
        let mut registers = Registers::new(stack.top(), first_steps, 0);
        if self.fork_registers {
            registers.fork_user();
        }
        let task = Arc::new(Task::bare(self.name, registers, Some(stack), State::New));
        // SAFETY: 1. nobody else has a reference to the new task yet.
        unsafe {
            *task.table.get() = self.table;
            *task.body.get() = Some(self.body);
        }
        if let Some(payload) = self.payload {
            let _ = task.payload.set(payload);
            task.set_io_priority(current().io_priority());
        }
        scheduler().attach(&task)?;
        if is_kernel {
            kthreads::made(&task);
        }
        Ok(task)
    }

    /// Makes the task and starts it.
    pub fn spawn(self) -> Result<Arc<Task>, OutOfMemory> {
        let task = self.create()?;
        task.wake();
        Ok(task)
    }
}

impl Task {
    fn bare(name: String, registers: Registers, stack: Option<KernelStack>, state: State) -> Task {
        Task {
            id: take_id(),
            state: SleepWord::new(state as u32),
            on_cpu: AtomicBool::new(false),
            signal_pending: AtomicBool::new(false),
            fatal_pending: AtomicBool::new(false),
            io_priority: AtomicU16::new(0),
            waiting_on: AtomicPtr::new(core::ptr::null_mut()),
            sched: SchedSlot::default(),
            name: SpinLock::new(name),
            user: AtomicPtr::new(core::ptr::null_mut()),
            payload: Once::new(),
            registers: UnsafeCell::new(registers),
            table: UnsafeCell::new(None),
            body: UnsafeCell::new(None),
            rescue: UnsafeCell::new(None),
            abandoned: AtomicBool::new(false),
            stack,
            #[cfg(debug_assertions)]
            held_sleeping: SpinLock::new(Vec::new()),
        }
    }

    pub fn id(&self) -> TaskId {
        self.id
    }

    /// Its I/O priority, as ioprio_set(2) encodes it; 0: none. A new thread of a program begins with its maker's.
    pub fn io_priority(&self) -> u16 {
        self.io_priority.load(Ordering::Relaxed)
    }

    pub fn set_io_priority(&self, priority: u16) {
        self.io_priority.store(priority, Ordering::Relaxed);
    }

    pub fn state(&self) -> State {
        State::from_u32(self.state.state())
    }

    /// Whether a CPU runs it, or has not finished saving its registers.
    pub fn on_cpu(&self) -> bool {
        self.on_cpu.load(Ordering::Acquire)
    }

    pub fn name(&self) -> String {
        self.name.lock().clone()
    }

    pub fn set_name(&self, name: String) {
        *self.name.lock() = name;
    }

    /// What the layer above hung on the task.
    #[inline]
    pub fn payload(&self) -> Option<&Arc<dyn Any + Send + Sync>> {
        self.payload.get()
    }

    /// Sets the payload of a task that has none (its maker, before the first wake-up).
    pub fn set_payload(&self, payload: Arc<dyn Any + Send + Sync>) {
        let _ = self.payload.set(payload);
    }

    /// The name of the wait queue it sleeps on ("" when it does not).
    pub fn waiting_on(&self) -> &'static str {
        let name = self.waiting_on.load(Ordering::Acquire);
        // SAFETY: 1. only `&'static &'static str` are stored (set_waiting_on); 2. null becomes None.
        unsafe { name.as_ref() }.copied().unwrap_or("")
    }

    pub(crate) fn set_waiting_on(&self, name: Option<&'static &'static str>) {
        let pointer = name.map_or(core::ptr::null_mut(), |n| core::ptr::from_ref(n).cast_mut());
        self.waiting_on.store(pointer, Ordering::Release);
    }

    /// Kernel-stack bounds check for backtraces of this task.
    pub fn stack_contains(&self, addr: usize) -> bool {
        self.stack.as_ref().is_none_or(|s| s.contains(VirtAddr(addr)))
    }

    /// Frame pointer and program counter where a task that is not running was switched out.
    pub fn saved_frame(&self) -> Option<(usize, usize)> {
        if self.on_cpu() {
            return None;
        }
        // SAFETY: 1. the task is off CPU; should it start meanwhile, the words read are stale, and the
        // backtrace walk bounds-checks every frame it follows.
        Some(unsafe { (*self.registers.get()).saved_frame() })
    }

    pub fn signal_pending(&self) -> bool {
        self.signal_pending.load(Ordering::Acquire)
    }

    /// Says whether a signal waits for the task; the signal code keeps this up to date.
    pub fn set_signal_pending(&self, pending: bool) {
        self.signal_pending.store(pending, Ordering::SeqCst);
    }

    pub fn fatal_pending(&self) -> bool {
        self.fatal_pending.load(Ordering::Acquire)
    }

    pub fn set_fatal_pending(&self, pending: bool) {
        self.fatal_pending.store(pending, Ordering::SeqCst);
    }

    /// Makes a sleeping or new task runnable; does nothing to one that runs. Says whether it did.
    /// Any context. The condition it waits for was made true before.
    pub fn wake(self: &Arc<Self>) -> bool {
        self.wake_from(|state| !matches!(state, State::Running | State::Dead))
    }

    /// Wakes the task if `accept(state)`: a signal wakes Interruptible sleepers only, SIGCONT Stopped ones.
    pub fn wake_from(self: &Arc<Self>, accept: impl Fn(State) -> bool) -> bool {
        let turned = self.state.wake(|state| {
            let state = State::from_u32(state);
            state != State::Dead && accept(state)
        });
        if turned {
            scheduler().wake(self);
        }
        turned
    }

    /// Whether this is the same task as the current one.
    pub fn is_current(&self) -> bool {
        core::ptr::eq(self, cpu::current().cast())
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if *self.abandoned.get_mut() {
            core::mem::forget(self.stack.take());
        }
        IDS.lock().free.push(self.id.0);
    }
}

/// The running task. Not `Send`: it is true only in the task that asked.
#[derive(Clone, Copy)]
pub struct Current {
    task: *const Task,
    _not_send: PhantomData<*mut ()>,
}

/// The task that runs here. From an interrupt handler: the interrupted one.
#[inline]
pub fn current() -> Current {
    Current { task: cpu::current().cast(), _not_send: PhantomData }
}

impl Deref for Current {
    type Target = Task;
    #[inline]
    fn deref(&self) -> &Task {
        // SAFETY: 1. `switch_to` keeps an Arc of the running task in `RUNNING`; 2. a `Current` cannot
        // leave its task (not Send), so the task runs, or will run again, while it exists.
        unsafe { &*self.task }
    }
}

impl Current {
    /// A counted reference.
    pub fn arc(&self) -> Arc<Task> {
        // SAFETY: 1. the pointer came from `Arc::as_ptr` of an Arc that is alive (see `deref`); 2. the
        // count is raised before the new Arc is made.
        unsafe {
            Arc::increment_strong_count(self.task);
            Arc::from_raw(self.task)
        }
    }

    /// Announces a sleeping state. The caller then looks at its condition once more and calls
    /// [`schedule`], or [`Current::set_running`] when the condition came true.
    #[inline]
    pub fn announce(&self, state: State) {
        self.state.announce(state as u32);
    }

    /// Takes an announcement back. True when a wake-up has done so before.
    #[inline]
    pub fn set_running(&self) -> bool {
        self.state.take_back()
    }

    /// Changes the user page table of the current task (exec, exit, kernel threads that borrow one) and
    /// activates it. The old one is returned so that the caller drops it where sleeping is allowed.
    pub fn set_table(&self, table: Option<Arc<UserTable>>) -> Option<Arc<UserTable>> {
        let _off = sync::irq_off();
        match &table {
            Some(table) => activate(table),
            None => deactivate(),
        }
        // SAFETY: 1. only the task itself changes its table; 2. the switch code reads it with interrupts
        // off on this CPU, hence not now.
        unsafe { core::mem::replace(&mut *self.table.get(), table) }
    }

    pub(crate) fn set_rescue(&self, rescue: Option<Rescue>) {
        // SAFETY: 1. only the task itself touches the cell.
        unsafe { *self.rescue.get() = rescue };
    }

    pub(crate) fn take_rescue(&self) -> Option<Rescue> {
        // SAFETY: 1. as above.
        unsafe { (*self.rescue.get()).take() }
    }

    pub(crate) fn has_rescue(&self) -> bool {
        // SAFETY: 1. as above.
        unsafe { (*self.rescue.get()).is_some() }
    }

    pub(crate) fn set_abandoned(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Debug builds: the sleeping locks that the task holds no longer count for the lock order. How many there were.
    pub(crate) fn forget_held_locks(&self) -> usize {
        #[cfg(debug_assertions)]
        return core::mem::take(&mut *self.held_sleeping.lock()).len();
        #[cfg(not(debug_assertions))]
        0
    }

    /// The current task's user page table.
    pub fn table(&self) -> Option<&Arc<UserTable>> {
        // SAFETY: 1. only the task itself changes the cell (`set_table`), and it is here now.
        unsafe { (*self.table.get()).as_ref() }
    }
}

/// Per CPU: owned pointers of the running task, the one switched away from, the active user table.
struct CpuTasks {
    running: AtomicPtr<Task>,
    previous: AtomicPtr<Task>,
    table: AtomicPtr<UserTable>,
}

static CPUS: [CpuTasks; MAX_CPUS] = [const {
    CpuTasks {
        running: AtomicPtr::new(core::ptr::null_mut()),
        previous: AtomicPtr::new(core::ptr::null_mut()),
        table: AtomicPtr::new(core::ptr::null_mut()),
    }
}; MAX_CPUS];

/// Makes the code that runs now on this CPU a task: its idle task. Once per CPU, before interrupts.
pub fn adopt_boot_context(name: &str) -> Arc<Task> {
    let task =
        Arc::new(Task::bare(name.into(), Registers::new(VirtAddr(0), first_steps, 0), None, State::Running));
    task.on_cpu.store(true, Ordering::Release);
    let raw = Arc::into_raw(task.clone()).cast_mut();
    CPUS[cpu::id()].running.store(raw, Ordering::Relaxed);
    cpu::set_current(raw.cast());
    task
}

/// Switches this CPU to `next`; returns when somebody switches back to the caller.
///
/// Called by the scheduler, interrupts off, its run queue unlocked. Switching to the current task does
/// nothing. Panics when `next` is on a CPU: see the rules at [`crate::Scheduler`].
pub fn switch_to(next: Arc<Task>) {
    debug_assert!(!irq::is_enabled());
    let here = &CPUS[cpu::id()];
    let previous = here.running.load(Ordering::Relaxed);
    if core::ptr::eq(previous, Arc::as_ptr(&next)) {
        return;
    }
    assert!(!next.on_cpu.swap(true, Ordering::Acquire), "switch to a task that is on a CPU");
    // SAFETY: 1. `next` is off CPU and was won by the swap above, so nobody else touches its cells.
    if let Some(table) = unsafe { (*next.table.get()).as_ref() } {
        activate(table);
    }
    let next = Arc::into_raw(next).cast_mut();
    here.running.store(next, Ordering::Relaxed);
    here.previous.store(previous, Ordering::Relaxed);
    cpu::set_current(next.cast());
    // SAFETY: 1. both pointers are owned by `CPUS` entries until `finish_switch`; 2. interrupts are off;
    // 3. `next`'s registers were saved by the switch that cleared its `on_cpu`, or made by `create`.
    unsafe { arch::context::switch((*previous).registers.get(), (*next).registers.get()) };
    finish_switch();
}

/// The second half of a switch, on the new stack: the previous task may now run elsewhere.
pub fn finish_switch() {
    let previous = CPUS[cpu::id()].previous.swap(core::ptr::null_mut(), Ordering::Relaxed);
    if previous.is_null() {
        return;
    }
    // SAFETY: 1. the pointer came from `Arc::into_raw` when that task became the running one, 2. and
    // ownership passes to this Arc exactly once, by the swap.
    let previous = unsafe { Arc::from_raw(previous) };
    let dead = previous.state() == State::Dead;
    previous.on_cpu.store(false, Ordering::Release);
    if dead {
        scheduler().detach(&previous);
    }
}

/// Makes `table` the active one of this CPU, keeping it alive; interrupts off.
fn activate(table: &Arc<UserTable>) {
    let here = &CPUS[cpu::id()];
    let old = here.table.load(Ordering::Relaxed);
    if core::ptr::eq(old, Arc::as_ptr(table)) {
        return;
    }
    table.activate();
    here.table.store(Arc::into_raw(table.clone()).cast_mut(), Ordering::Relaxed);
    drop_table(old);
}

/// Leaves the user table of this CPU; interrupts off.
fn deactivate() {
    UserTable::deactivate();
    drop_table(CPUS[cpu::id()].table.swap(core::ptr::null_mut(), Ordering::Relaxed));
}

fn drop_table(old: *mut UserTable) {
    if !old.is_null() {
        // SAFETY: 1. the pointer came from `Arc::into_raw` in `activate`, 2. and was just replaced, so
        // this is the one place that gives the count back.
        drop(unsafe { Arc::from_raw(old) });
    }
}

/// Where a new task starts, interrupts off, on its own stack.
extern "C" fn first_steps(_arg: usize) -> ! {
    finish_switch();
    // SAFETY: 1. the task itself takes its body, once, and nobody else touches the cell after `create`.
    let body = unsafe { (*current().body.get()).take() };
    irq::enable();
    if let Some(body) = body {
        body();
    }
    kthreads::ends();
    exit()
}

/// Ends the current task. Everything it owned on its stack must be dropped before.
pub fn exit() -> ! {
    // User threads have left their table before their memory went; to leave twice is a flush of everything in an
    // emulator. What a kernel thread runs is borrowed.
    if current().table().is_some() {
        drop(current().set_table(None));
    }
    current().announce(State::Dead);
    schedule();
    unreachable!("a dead task was scheduled")
}
