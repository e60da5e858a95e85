//! epoll(7): a set of files, and a list of those that may be ready.
//!
//! ```text
//!   wait queue of a file --callback--> item --(once)--> ready list --> epoll_wait: poll the file again
//!                                                           ^                    |
//!                                                           +---- level-triggered+
//! ```
//!
//! The callback runs in whatever context wakes the file's queue: it takes one interrupt-safe spin lock
//! and pushes the item into a list that has room for all items, so it never allocates. What epoll_wait
//! reports is always what the file says at that moment; the list only says whom to ask.

use crate::anon;
use crate::file::{File, FileOps, FileTraits, OpsRef};
use crate::poll::PollTable;
use abi::fcntl::O_RDWR;
use abi::poll::*;
use abi::{Errno, errno::Result};
use alloc::collections::{BTreeMap, VecDeque};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::any::Any;
use core::fmt;
use core::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use sync::SpinLock;
use sync::levels::{Admin, EpollItems, EventPoll, Leaf};
use task::{Mutex, Subscription, WaitEnd, WaitMode, WaitQueue, WakeCallback};

/// Bits of `events` that are not about readiness.
const PRIVATE: u32 = EPOLLET | EPOLLONESHOT | EPOLLEXCLUSIVE | EPOLLWAKEUP;
/// Epoll instances watching each other, at most this deep.
const MAX_NESTING: usize = 4;

/// One watched descriptor.
struct Item {
    me: Weak<Item>,
    file: Weak<File>,
    ready: Arc<Ready>,
    /// What is asked for, with the private bits; only those left: disabled by EPOLLONESHOT.
    events: AtomicU32,
    data: AtomicU64,
    /// On the ready list; changed under its lock.
    queued: AtomicBool,
    subscriptions: SpinLock<Vec<Subscription>, Leaf>,
}

/// The part that callbacks reach.
struct Ready {
    list: SpinLock<List, EventPoll>,
    queue: Arc<WaitQueue>,
}

struct List {
    /// Each item at most once; room for all.
    items: VecDeque<Arc<Item>>,
}

impl List {
    /// Queues the item unless it is; gives it back when it was not put in.
    fn push(&mut self, item: Arc<Item>) -> core::result::Result<(), Arc<Item>> {
        if self.items.len() == self.items.capacity() || item.queued.swap(true, Ordering::Relaxed) {
            return Err(item);
        }
        self.items.push_back(item);
        Ok(())
    }
}

type Key = (usize, i32);

fn key(file: &File, fd: i32) -> Key {
    (core::ptr::from_ref(file) as usize, fd)
}

/// An epoll instance.
pub struct Epoll {
    items: Mutex<BTreeMap<Key, Arc<Item>>, EpollItems>,
    ready: Arc<Ready>,
}

/// Additions of one epoll to another, one at a time, so that no two can make a cycle together.
static NESTING: Mutex<(), Admin> = Mutex::new(());

impl WakeCallback for Item {
    fn woken(&self, events: u32) {
        let wanted = self.events.load(Ordering::Relaxed);
        let disabled = wanted & !PRIVATE == 0;
        let other = events != 0 && events & (wanted | PollEvents::ALWAYS.bits()) == 0;
        if disabled || other {
            return;
        }
        if let Some(item) = self.me.upgrade() {
            self.ready.push(item);
        }
    }
}

impl Ready {
    /// Queues an item and wakes one waiter. Any context.
    fn push(&self, item: Arc<Item>) {
        let pushed = self.list.lock().push(item);
        // An item that was not queued is dropped here, without the lock.
        if pushed.is_ok() {
            self.queue.wake(1, PollEvents::READABLE.bits());
        }
    }

    /// Makes room for `count` items, allocating without the lock.
    fn reserve(&self, count: usize) -> Result<()> {
        if self.list.lock().items.capacity() >= count {
            return Ok(());
        }
        let mut larger = VecDeque::new();
        larger.try_reserve(count.next_power_of_two()).map_err(|_| Errno::ENOMEM)?;
        let mut list = self.list.lock();
        larger.append(&mut list.items);
        core::mem::swap(&mut list.items, &mut larger);
        drop(list);
        Ok(())
    }

    fn pop(&self) -> Option<Arc<Item>> {
        let mut list = self.list.lock();
        let item = list.items.pop_front()?;
        item.queued.store(false, Ordering::Relaxed);
        Some(item)
    }

    fn remove(&self, item: &Item) {
        let mut list = self.list.lock();
        let at = list.items.iter().position(|queued| core::ptr::eq(&**queued, item));
        let removed = at.and_then(|at| list.items.remove(at));
        item.queued.store(false, Ordering::Relaxed);
        drop(list);
        drop(removed);
    }
}

impl Item {
    /// What of the wanted events is there now.
    fn poll(&self) -> PollEvents {
        let Some(file) = self.file.upgrade() else { return PollEvents::empty() };
        let wanted = self.events.load(Ordering::Relaxed);
        if wanted & !PRIVATE == 0 {
            return PollEvents::empty();
        }
        file.poll(None) & (PollEvents::from_bits_truncate(wanted) | PollEvents::ALWAYS)
    }

    /// Ends the subscriptions: they hold the item, which holds them.
    fn unsubscribe(&self) {
        let subscriptions = core::mem::take(&mut *self.subscriptions.lock());
        drop(subscriptions);
    }
}

impl Epoll {
    fn new() -> Arc<Epoll> {
        let list = SpinLock::new(List { items: VecDeque::new() });
        let ready = Arc::new(Ready { list, queue: Arc::new(WaitQueue::new(&"ep_poll")) });
        Arc::new(Epoll { items: Mutex::new(BTreeMap::new()), ready })
    }

    /// epoll_ctl(2). `me` is the epoll's own file.
    pub fn control(
        self: &Arc<Self>,
        me: &File,
        op: u32,
        fd: i32,
        file: &Arc<File>,
        event: EpollEvent,
    ) -> Result<()> {
        if !file.traits().contains(FileTraits::POLLABLE) {
            return Err(Errno::EPERM);
        }
        if core::ptr::eq(me, &**file) {
            return Err(Errno::EINVAL);
        }
        let nested = file.ops_as::<EpollFile>();
        let exclusive = event.events & EPOLLEXCLUSIVE != 0 && op != EPOLL_CTL_DEL;
        const WITH_EXCLUSIVE: u32 = 0x1d | 0x2000 | EPOLLWAKEUP | EPOLLET | EPOLLEXCLUSIVE;
        if exclusive && (op == EPOLL_CTL_MOD || nested.is_some() || event.events & !WITH_EXCLUSIVE != 0) {
            return Err(Errno::EINVAL);
        }
        match op {
            EPOLL_CTL_ADD => {
                let _one_at_a_time = nested.map(|_| NESTING.lock());
                if let Some(nested) = nested {
                    nested.epoll.check_nesting(self, 1)?;
                }
                self.add(fd, file, event)
            }
            EPOLL_CTL_DEL => self.remove(key(file, fd)),
            EPOLL_CTL_MOD => self.modify(key(file, fd), event),
            _ => Err(Errno::EINVAL),
        }
    }

    /// ELOOP when `target` is this epoll or watched by it at any depth, or when it gets too deep.
    fn check_nesting(self: &Arc<Self>, target: &Arc<Epoll>, depth: usize) -> Result<()> {
        if Arc::ptr_eq(self, target) || depth > MAX_NESTING {
            return Err(Errno::ELOOP);
        }
        let inner: Vec<Arc<File>> =
            self.items.lock().values().filter_map(|item| item.file.upgrade()).collect();
        for file in &inner {
            if let Some(nested) = file.ops_as::<EpollFile>() {
                nested.epoll.check_nesting(target, depth + 1)?;
            }
        }
        Ok(())
    }

    fn add(self: &Arc<Self>, fd: i32, file: &Arc<File>, event: EpollEvent) -> Result<()> {
        let mut items = self.items.lock();
        if items.contains_key(&key(file, fd)) {
            return Err(Errno::EEXIST);
        }
        self.ready.reserve(items.len() + 1)?;
        let item = Arc::new_cyclic(|me| Item {
            me: me.clone(),
            file: Arc::downgrade(file),
            ready: self.ready.clone(),
            events: AtomicU32::new(event.events | PollEvents::ALWAYS.bits()),
            data: AtomicU64::new(event.data),
            queued: AtomicBool::new(false),
            subscriptions: SpinLock::new(Vec::new()),
        });
        file.extra().watchers.add(self)?;
        let mut table = PollTable::new(item.clone());
        file.poll(Some(&mut table));
        *item.subscriptions.lock() = table.into_subscriptions();
        items.insert(key(file, fd), item.clone());
        drop(items);
        if !item.poll().is_empty() {
            self.ready.push(item);
        }
        Ok(())
    }

    fn modify(&self, key: Key, event: EpollEvent) -> Result<()> {
        let items = self.items.lock();
        let item = items.get(&key).ok_or(Errno::ENOENT)?.clone();
        drop(items);
        if item.events.load(Ordering::Relaxed) & EPOLLEXCLUSIVE != 0 {
            return Err(Errno::EINVAL);
        }
        item.events.store(event.events | PollEvents::ALWAYS.bits(), Ordering::SeqCst);
        item.data.store(event.data, Ordering::SeqCst);
        if !item.poll().is_empty() {
            self.ready.push(item);
        }
        Ok(())
    }

    fn remove(&self, key: Key) -> Result<()> {
        let item = self.items.lock().remove(&key).ok_or(Errno::ENOENT)?;
        item.unsubscribe();
        self.ready.remove(&item);
        Ok(())
    }

    /// A watched file is gone: so are its items, whatever their descriptor numbers were.
    fn file_closed(&self, file: &File) {
        let address = core::ptr::from_ref(file) as usize;
        let mut items = self.items.lock();
        let keys: Vec<Key> =
            items.range((address, i32::MIN)..=(address, i32::MAX)).map(|(key, _)| *key).collect();
        let gone: Vec<Arc<Item>> = keys.iter().filter_map(|key| items.remove(key)).collect();
        drop(items);
        for item in gone {
            item.unsubscribe();
            self.ready.remove(&item);
        }
    }

    /// epoll_wait(2): up to `max` events. Waits when there are none, until `deadline_ns` (monotonic) if
    /// `may_wait`. EINTR after a signal.
    pub fn wait(&self, max: usize, may_wait: bool, deadline_ns: Option<u64>) -> Result<Vec<EpollEvent>> {
        let mut events = Vec::new();
        loop {
            self.harvest(max, &mut events)?;
            if !events.is_empty() || !may_wait {
                return Ok(events);
            }
            let some = || (!self.ready.list.lock().items.is_empty()).then_some(());
            match self.ready.queue.wait_exclusive(WaitMode::Interruptible, deadline_ns, some) {
                Ok(()) => {}
                Err(WaitEnd::Timeout) => return Ok(events),
                Err(WaitEnd::Signal) => return Err(Errno::EINTR),
            }
        }
    }

    /// Asks the items on the list, each once; level-triggered ones that are ready stay on it.
    fn harvest(&self, max: usize, events: &mut Vec<EpollEvent>) -> Result<()> {
        let queued = self.ready.list.lock().items.len();
        events.try_reserve(queued.min(max)).map_err(|_| Errno::ENOMEM)?;
        for _ in 0..queued {
            if events.len() == max {
                break;
            }
            let Some(item) = self.ready.pop() else { break };
            let there = item.poll();
            if there.is_empty() {
                continue;
            }
            events.push(EpollEvent::new(there.bits(), item.data.load(Ordering::Relaxed)));
            let wanted = item.events.load(Ordering::Relaxed);
            if wanted & EPOLLONESHOT != 0 {
                item.events.fetch_and(PRIVATE, Ordering::SeqCst);
            } else if wanted & EPOLLET == 0 {
                self.requeue(item);
            }
        }
        // Another waiter may take what is left: what is still ready, and what did not fit.
        if !self.ready.list.lock().items.is_empty() {
            self.ready.queue.wake_one();
        }
        Ok(())
    }

    fn requeue(&self, item: Arc<Item>) {
        let rejected = self.ready.list.lock().push(item);
        drop(rejected);
    }

    /// Whether an item is really ready; those on the list that are not, leave it.
    fn has_ready(&self) -> bool {
        let queued = self.ready.list.lock().items.len();
        for _ in 0..queued {
            let Some(item) = self.ready.pop() else { return false };
            if !item.poll().is_empty() {
                self.requeue(item);
                return true;
            }
        }
        false
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        for item in core::mem::take(self.items.get_mut()).into_values() {
            item.unsubscribe();
        }
        // Queued items hold the list that holds them.
        let left = core::mem::take(&mut self.ready.list.lock().items);
        drop(left);
    }
}

/// The epoll instances that watch a file; kept by the file, so that closing it tells them.
#[derive(Default)]
pub(crate) struct Watchers {
    list: SpinLock<WatcherList, Leaf>,
}

/// In no order. Instances that are gone, and those that are named again because they left and came back, stay until
/// there are twice as many as after the last look: what a file that thousands watch costs each of them is constant.
#[derive(Default)]
struct WatcherList {
    known: Vec<Weak<Epoll>>,
    look_at: usize,
}

impl WatcherList {
    fn look(&mut self) {
        self.known.retain(|known| known.strong_count() > 0);
        self.known.sort_unstable_by_key(Weak::as_ptr);
        self.known.dedup_by_key(|known| Weak::as_ptr(known));
        self.look_at = 2 * self.known.len() + 8;
    }
}

impl Watchers {
    fn add(&self, epoll: &Arc<Epoll>) -> Result<()> {
        let mut list = self.list.lock();
        if list.known.len() >= list.look_at {
            list.look();
        }
        list.known.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        list.known.push(Arc::downgrade(epoll));
        Ok(())
    }

    pub(crate) fn file_closed(&self, file: &File) {
        let list = core::mem::take(&mut *self.list.lock()).known;
        for epoll in list.iter().filter_map(Weak::upgrade) {
            epoll.file_closed(file);
        }
    }
}

/// The file of an epoll instance.
pub struct EpollFile {
    epoll: Arc<Epoll>,
}

impl EpollFile {
    pub fn epoll(&self) -> &Arc<Epoll> {
        &self.epoll
    }
}

impl FileOps for EpollFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::STREAM | FileTraits::POLLABLE
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.add(&self.epoll.ready.queue);
        }
        if self.epoll.has_ready() { PollEvents::READABLE } else { PollEvents::empty() }
    }

    fn show_fdinfo(&self, _file: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        let items: Vec<(i32, u32, u64)> = {
            let items = self.epoll.items.lock();
            let shown =
                |item: &Item| (item.events.load(Ordering::Relaxed), item.data.load(Ordering::Relaxed));
            items.iter().map(|(key, item)| (key.1, shown(item).0, shown(item).1)).collect()
        };
        for (fd, events, data) in items {
            writeln!(out, "tfd: {fd:8} events: {events:8x} data: {data:16x}")?;
        }
        Ok(())
    }
}

/// epoll_create1(2).
pub fn epoll() -> Arc<File> {
    anon::file("[eventpoll]", OpsRef::shared(EpollFile { epoll: Epoll::new() }), O_RDWR)
}
