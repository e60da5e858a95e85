//! The words under loom: every interleaving of two or three threads that the memory model allows.

use lockword::{MutexWord, OnceWord, RwWord, SemWord, SeqWord, SleepWord, Sleeper, SpinWord, Word, sleep};
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Mutex};
use loom::thread::{self, Thread};

/// Loom's integer as a [`Word`]: the trait and the type are both foreign here.
struct Model(AtomicU32);

impl Word for Model {
    fn load(&self, order: Ordering) -> u32 {
        self.0.load(order)
    }
    fn store(&self, value: u32, order: Ordering) {
        self.0.store(value, order);
    }
    fn swap(&self, value: u32, order: Ordering) -> u32 {
        self.0.swap(value, order)
    }
    fn try_change(&self, from: u32, to: u32, success: Ordering) -> Result<u32, u32> {
        self.0.compare_exchange_weak(from, to, success, Ordering::Relaxed)
    }
    fn change(&self, from: u32, to: u32, success: Ordering) -> Result<u32, u32> {
        self.0.compare_exchange(from, to, success, Ordering::Relaxed)
    }
    fn fetch_add(&self, value: u32, order: Ordering) -> u32 {
        self.0.fetch_add(value, order)
    }
    fn fetch_sub(&self, value: u32, order: Ordering) -> u32 {
        self.0.fetch_sub(value, order)
    }
    fn fetch_or(&self, value: u32, order: Ordering) -> u32 {
        self.0.fetch_or(value, order)
    }
    fn fetch_and(&self, value: u32, order: Ordering) -> u32 {
        self.0.fetch_and(value, order)
    }
    fn fence(order: Ordering) {
        loom::sync::atomic::fence(order);
    }
}

fn model() -> Model {
    Model(AtomicU32::new(0))
}

/// A number that a lock guards, read and written without any order of its own: an addition is lost, or a read is old,
/// when the lock does not exclude or does not publish.
struct Guarded<L> {
    lock: L,
    value: AtomicU32,
}

impl<L> Guarded<L> {
    fn new(lock: L) -> Arc<Self> {
        Arc::new(Guarded { lock, value: AtomicU32::new(0) })
    }

    fn add(&self) {
        self.value.store(self.get() + 1, Ordering::Relaxed);
    }

    fn get(&self) -> u32 {
        self.value.load(Ordering::Relaxed)
    }
}

#[test]
fn spin_excludes() {
    loom::model(|| {
        let shared = Guarded::new(SpinWord::from_word(model()));
        let other = shared.clone();
        let add = |shared: &Guarded<SpinWord<Model>>| {
            shared.lock.lock(thread::yield_now);
            shared.add();
            shared.lock.unlock();
        };
        let thread = thread::spawn(move || add(&other));
        add(&shared);
        thread.join().expect("no panic");
        assert!(shared.lock.try_lock());
        assert_eq!(shared.get(), 2);
    });
}

#[test]
fn try_lock_excludes() {
    loom::model(|| {
        let shared = Guarded::new(SpinWord::from_word(model()));
        let other = shared.clone();
        let add = |shared: &Guarded<SpinWord<Model>>| {
            let got = shared.lock.try_lock();
            if got {
                shared.add();
                shared.lock.unlock();
            }
            u32::from(got)
        };
        let thread = thread::spawn(move || add(&other));
        let sum = add(&shared) + thread.join().expect("no panic");
        assert!(sum >= 1);
        shared.lock.lock(thread::yield_now);
        assert_eq!(shared.get(), sum);
    });
}

#[test]
fn readers_and_a_writer_exclude() {
    loom::model(|| {
        let shared = Guarded::new(RwWord::from_word(model()));
        let reader = shared.clone();
        let thread = thread::spawn(move || {
            reader.lock.read(thread::yield_now);
            let value = reader.get();
            assert!(value <= 1);
            reader.lock.unread();
        });
        shared.lock.write(thread::yield_now);
        shared.add();
        shared.lock.unwrite();
        shared.lock.read(thread::yield_now);
        assert_eq!(shared.get(), 1);
        shared.lock.unread();
        thread.join().expect("no panic");
    });
}

#[test]
fn two_writers_exclude() {
    loom::model(|| {
        let shared = Guarded::new(RwWord::from_word(model()));
        let other = shared.clone();
        let add = |shared: &Guarded<RwWord<Model>>| {
            shared.lock.write(thread::yield_now);
            shared.add();
            shared.lock.unwrite();
        };
        let thread = thread::spawn(move || add(&other));
        add(&shared);
        thread.join().expect("no panic");
        shared.lock.read(thread::yield_now);
        assert_eq!(shared.get(), 2);
    });
}

#[test]
fn a_sequence_copy_is_whole() {
    loom::model(|| {
        let sequence = Arc::new(SeqWord::from_word(model()));
        let halves = Arc::new([AtomicU32::new(0), AtomicU32::new(0)]);
        let (writer, written) = (sequence.clone(), halves.clone());
        let thread = thread::spawn(move || {
            writer.begin_write();
            written[0].store(7, Ordering::Relaxed);
            written[1].store(7, Ordering::Relaxed);
            writer.end_write();
        });
        if let Some(ticket) = sequence.begin_read() {
            let copy = [halves[0].load(Ordering::Relaxed), halves[1].load(Ordering::Relaxed)];
            if sequence.end_read(ticket) {
                assert_eq!(copy[0], copy[1]);
            }
        }
        thread.join().expect("no panic");
    });
}

#[test]
fn a_value_set_once_is_whole() {
    loom::model(|| {
        let shared = Guarded::new(OnceWord::from_word(model()));
        let set = |shared: &Guarded<OnceWord<Model>>, value| {
            if shared.lock.claim(thread::yield_now) {
                shared.value.store(value, Ordering::Relaxed);
                shared.lock.publish();
            }
            // Who was second sees what the first has set.
            assert!(shared.lock.is_ready());
            shared.get()
        };
        let (other, reader) = (shared.clone(), shared.clone());
        let setter = thread::spawn(move || set(&other, 1));
        let reads = thread::spawn(move || reader.lock.is_ready().then(|| reader.get()));
        let (mine, theirs) = (set(&shared, 2), setter.join().expect("no panic"));
        assert_eq!(mine, theirs);
        assert!(reads.join().expect("no panic").is_none_or(|read| read == mine));
    });
}

// ---- sleeping: the queue and the task as `machine/task` has them ----

const SLEEPING: u32 = 1;

struct Task {
    state: SleepWord<Model>,
    signal: AtomicBool,
    thread: Thread,
}

impl Task {
    /// The calling thread's.
    fn new() -> Arc<Task> {
        let (state, signal) = (SleepWord::from_word(model()), AtomicBool::new(false));
        Arc::new(Task { state, signal, thread: thread::current() })
    }

    /// Whether it had to be woken.
    fn wake(&self) -> bool {
        let woken = self.state.wake(|_| true);
        if woken {
            self.thread.unpark();
        }
        woken
    }
}

impl Sleeper for Task {
    fn announce(&self) {
        self.state.announce(SLEEPING);
    }
    fn is_announced(&self) -> bool {
        self.state.state() == SLEEPING
    }
    fn take_back(&self) -> bool {
        self.state.take_back()
    }
    fn interrupted(&self) -> bool {
        self.signal.load(Ordering::Relaxed)
    }
    /// The scheduler reads the state under a lock that the waker takes next, so it sees a wake-up that is over. A
    /// sleeper that nobody wakes is a deadlock, which the model reports.
    fn sleep(&self) -> bool {
        while self.state.word().fetch_or(0, Ordering::AcqRel) == SLEEPING {
            thread::park();
        }
        false
    }
}

/// A wait queue: tasks under a lock.
struct Queue(Mutex<Vec<Arc<Task>>>);

impl Queue {
    fn new() -> Queue {
        Queue(Mutex::new(Vec::new()))
    }

    fn wait<R>(&self, attempt: impl FnMut() -> Option<R>) -> R {
        self.sleep(attempt).0
    }

    /// With whether a wake-up is left over.
    fn sleep<R>(&self, mut attempt: impl FnMut() -> Option<R>) -> (R, bool) {
        if let Some(value) = attempt() {
            return (value, false);
        }
        let task = Task::new();
        self.0.lock().expect("no panic").push(task.clone());
        let slept = sleep(&*task, &mut attempt).ok().expect("no signal, no deadline");
        self.0.lock().expect("no panic").retain(|queued| !Arc::ptr_eq(queued, &task));
        (slept.value, slept.spare_wake)
    }

    /// As `WaitQueue::wait_exclusive`.
    fn wait_exclusive<R>(&self, attempt: impl FnMut() -> Option<R>) -> R {
        let (value, spare_wake) = self.sleep(attempt);
        if spare_wake {
            self.wake_one();
        }
        value
    }

    fn wake_one(&self) {
        let _ = self.0.lock().expect("no panic").iter().find(|task| task.wake());
    }

    fn wake_all(&self) {
        self.0.lock().expect("no panic").iter().for_each(|task| _ = task.wake());
    }

    fn is_empty(&self) -> bool {
        self.0.lock().expect("no panic").is_empty()
    }
}

/// A waker that skips the wake-up of an empty queue after a relaxed store, as `is_empty` allows under its lock.
#[test]
fn no_wake_up_is_lost() {
    loom::model(|| {
        let shared = Arc::new((Queue::new(), AtomicBool::new(false)));
        let sleeper = shared.clone();
        let thread = thread::spawn(move || {
            let (queue, condition) = &*sleeper;
            queue.wait(|| condition.load(Ordering::Relaxed).then_some(()));
        });
        let (queue, condition) = &*shared;
        condition.store(true, Ordering::Relaxed);
        if !queue.is_empty() {
            queue.wake_all();
        }
        thread.join().expect("no panic");
    });
}

/// Two things are posted, each with the wake-up of one, while two tasks take one each. The second wake-up may meet the
/// task that is just about to take the first thing.
#[test]
fn no_wake_up_of_one_is_lost() {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(2);
    builder.check(|| {
        let shared = Arc::new((Queue::new(), AtomicU32::new(0)));
        let takers = [(); 2].map(|()| {
            let taker = shared.clone();
            thread::spawn(move || {
                let (queue, things) = &*taker;
                let take = |count: u32| count.checked_sub(1);
                queue.wait_exclusive(|| things.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok());
            })
        });
        let (queue, things) = &*shared;
        for _ in 0..2 {
            things.fetch_add(1, Ordering::Relaxed);
            queue.wake_one();
        }
        takers.into_iter().for_each(|taker| taker.join().expect("no panic"));
        assert_eq!(things.load(Ordering::Relaxed), 0);
    });
}

/// The signal's flag is set before the state is turned back: one of the two is seen.
#[test]
fn a_signal_ends_a_sleep() {
    loom::model(|| {
        let task = Task::new();
        let other = task.clone();
        let thread = thread::spawn(move || {
            other.signal.store(true, Ordering::Relaxed);
            other.wake();
        });
        assert!(sleep(&*task, &mut || None::<()>).is_err());
        thread.join().expect("no panic");
    });
}

#[test]
fn a_mutex_excludes_and_wakes() {
    loom::model(|| {
        let shared = Guarded::new((MutexWord::from_word(model()), Queue::new()));
        let other = shared.clone();
        let add = |shared: &Guarded<(MutexWord<Model>, Queue)>| {
            let (word, queue) = &shared.lock;
            if !word.try_lock() {
                queue.wait(|| word.try_lock_waiting().then_some(()));
            }
            shared.add();
            if word.unlock() {
                queue.wake_one();
            }
        };
        let thread = thread::spawn(move || add(&other));
        add(&shared);
        thread.join().expect("no panic");
        assert!(shared.lock.0.try_lock());
        assert_eq!(shared.get(), 2);
    });
}

type Semaphore = Guarded<(SemWord<Model>, Queue)>;

fn sem_write(shared: &Semaphore) {
    let (word, queue) = &shared.lock;
    if !word.try_write() {
        word.begin_waiting();
        queue.wait(|| word.try_write_waiting().then_some(()));
    }
    shared.add();
    word.unwrite();
    if !queue.is_empty() {
        queue.wake_all();
    }
}

fn sem_read(shared: &Semaphore) -> u32 {
    let (word, queue) = &shared.lock;
    if !word.try_read() {
        queue.wait(|| word.try_read().then_some(()));
    }
    let value = shared.get();
    if word.unread() {
        queue.wake_all();
    }
    value
}

#[test]
fn a_semaphore_excludes_and_wakes() {
    loom::model(|| {
        let shared = Guarded::new((SemWord::from_word(model()), Queue::new()));
        let other = shared.clone();
        let thread = thread::spawn(move || sem_write(&other));
        assert!(sem_read(&shared) <= 1);
        thread.join().expect("no panic");
        assert_eq!(sem_read(&shared), 1);
    });
}

#[test]
fn two_writers_of_a_semaphore_exclude() {
    loom::model(|| {
        let shared = Guarded::new((SemWord::from_word(model()), Queue::new()));
        let other = shared.clone();
        let thread = thread::spawn(move || sem_write(&other));
        sem_write(&shared);
        thread.join().expect("no panic");
        assert_eq!(sem_read(&shared), 2);
    });
}
