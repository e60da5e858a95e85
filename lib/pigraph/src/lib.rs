//! Priority inheritance: who waits for whose lock, and how urgent that makes the owner.
//!
//! **Problem.** A task of low priority holds a lock for which an urgent one waits; a third one, of middle priority,
//! keeps the owner from the CPU, and so the urgent one, for as long as it likes (priority inversion).
//!
//! **Interface.** [`Graph`] knows locks with an owner and waiters. Each change says whose *boost* became another: the
//! urgency of the most urgent waiter of all locks that a task owns, which the scheduler lets it run with.
//!
//! **Idea.** A waiter is as urgent as the larger of its own priority and its boost; that orders the queue of the lock
//! it waits for, and the head of that queue is the owner's boost: a change travels along the chain of owners until
//! one does not change. A chain that leads back to the beginning is a deadlock, and refused before it is closed.
//! (Sha, Rajkumar, Lehoczky, "Priority Inheritance Protocols", 1990; Linux's rtmutex.)
//!
//! ```text
//!   task 90 ──waits──> lock A ──owned by──> task 10 ──waits──> lock B ──owned by──> task 0
//!                                            boost 90                               boost 90
//! ```
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// How urgent: larger is more. 0: not at all.
pub type Priority = u8;

/// The owner waits, over others, for the task that wants the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadlock;

struct Lock<T> {
    owner: T,
    /// The most urgent first, among equals the one that came first.
    waiters: Vec<(Priority, T)>,
}

struct Node<L> {
    base: Priority,
    boost: Priority,
    waits_for: Option<L>,
    owns: Vec<L>,
}

impl<L> Node<L> {
    fn urgency(&self) -> Priority {
        self.base.max(self.boost)
    }
}

/// Locks of name `L` and tasks of name `T`. A lock is in it while it has waiters, or is kept by [`Graph::keep`].
pub struct Graph<L, T> {
    locks: BTreeMap<L, Lock<T>>,
    tasks: BTreeMap<T, Node<L>>,
}

impl<L: Ord + Clone, T: Ord + Clone> Default for Graph<L, T> {
    fn default() -> Self {
        Graph::new()
    }
}

impl<L: Ord + Clone, T: Ord + Clone> Graph<L, T> {
    pub const fn new() -> Graph<L, T> {
        Graph { locks: BTreeMap::new(), tasks: BTreeMap::new() }
    }

    /// The owner of a lock that is in the graph.
    pub fn owner(&self, lock: &L) -> Option<&T> {
        self.locks.get(lock).map(|lock| &lock.owner)
    }

    /// The most urgent waiter of a lock.
    pub fn first_waiter(&self, lock: &L) -> Option<&T> {
        self.locks.get(lock)?.waiters.first().map(|(_, task)| task)
    }

    /// A lock that the task owns and others wait for, or that is kept.
    pub fn any_owned(&self, task: &T) -> Option<&L> {
        self.tasks.get(task)?.owns.first()
    }

    /// What the task waits for.
    pub fn waits_for(&self, task: &T) -> Option<&L> {
        self.tasks.get(task)?.waits_for.as_ref()
    }

    /// How urgent its waiters make the task.
    pub fn boost(&self, task: &T) -> Priority {
        self.tasks.get(task).map_or(0, |node| node.boost)
    }

    /// Whether the graph says something of the task.
    pub fn contains(&self, task: &T) -> bool {
        self.tasks.contains_key(task)
    }

    /// Puts a lock without waiters into the graph, or does nothing if it is there.
    pub fn keep(&mut self, lock: &L, owner: &T, base: Priority) {
        if !self.locks.contains_key(lock) {
            self.locks.insert(lock.clone(), Lock { owner: owner.clone(), waiters: Vec::new() });
            self.node(owner, base).owns.push(lock.clone());
        }
    }

    /// `task` begins to wait for `lock`, which is in the graph. `changed` is told of each task whose boost is another
    /// now.
    pub fn wait(
        &mut self,
        lock: &L,
        task: &T,
        base: Priority,
        changed: &mut dyn FnMut(&T, Priority),
    ) -> Result<(), Deadlock> {
        let mut at = self.owner(lock);
        while let Some(owner) = at {
            if owner == task {
                return Err(Deadlock);
            }
            at = self.waits_for(owner).and_then(|next| self.owner(next));
        }
        let node = self.node(task, base);
        node.waits_for = Some(lock.clone());
        let urgency = node.urgency();
        self.enqueue(lock, task, urgency);
        self.update_owner(lock, changed);
        Ok(())
    }

    /// `task` waits no longer. A lock that has no waiters now stays until [`Graph::drop_if_idle`].
    pub fn give_up(&mut self, task: &T, changed: &mut dyn FnMut(&T, Priority)) -> Option<L> {
        let lock = self.tasks.get_mut(task)?.waits_for.take()?;
        self.dequeue(&lock, task);
        self.update_owner(&lock, changed);
        self.forget_if_idle(task);
        Some(lock)
    }

    /// The owner gives the lock to its most urgent waiter, who is returned. Without waiters the lock leaves the graph.
    pub fn pass_on(&mut self, lock: &L, changed: &mut dyn FnMut(&T, Priority)) -> Option<T> {
        let entry = self.locks.get_mut(lock)?;
        let old = entry.owner.clone();
        if entry.waiters.is_empty() {
            self.locks.remove(lock);
            self.disown(&old, lock, changed);
            return None;
        }
        let (_, next) = entry.waiters.remove(0);
        entry.owner = next.clone();
        if let Some(node) = self.tasks.get_mut(&next) {
            node.waits_for = None;
            node.owns.push(lock.clone());
        }
        self.disown(&old, lock, changed);
        self.update(&next, changed);
        Some(next)
    }

    /// A lock that nobody waits for leaves the graph.
    pub fn drop_if_idle(&mut self, lock: &L) {
        if self.locks.get(lock).is_some_and(|lock| lock.waiters.is_empty())
            && let Some(gone) = self.locks.remove(lock)
        {
            // Without waiters it gave no boost.
            self.disown(&gone.owner, lock, &mut |_, _| {});
        }
    }

    /// The task's own priority became another.
    pub fn set_base(&mut self, task: &T, base: Priority, changed: &mut dyn FnMut(&T, Priority)) {
        let Some(node) = self.tasks.get_mut(task) else { return };
        node.base = base;
        self.requeue(task, changed);
    }

    fn node(&mut self, task: &T, base: Priority) -> &mut Node<L> {
        let fresh = || Node { base, boost: 0, waits_for: None, owns: Vec::new() };
        self.tasks.entry(task.clone()).or_insert_with(fresh)
    }

    fn enqueue(&mut self, lock: &L, task: &T, urgency: Priority) {
        let Some(lock) = self.locks.get_mut(lock) else { return };
        let at = lock.waiters.partition_point(|(other, _)| *other >= urgency);
        lock.waiters.insert(at, (urgency, task.clone()));
    }

    fn dequeue(&mut self, lock: &L, task: &T) {
        if let Some(lock) = self.locks.get_mut(lock) {
            lock.waiters.retain(|(_, other)| other != task);
        }
    }

    fn disown(&mut self, task: &T, lock: &L, changed: &mut dyn FnMut(&T, Priority)) {
        if let Some(node) = self.tasks.get_mut(task) {
            node.owns.retain(|owned| owned != lock);
        }
        self.update(task, changed);
        self.forget_if_idle(task);
    }

    fn forget_if_idle(&mut self, task: &T) {
        if self.tasks.get(task).is_some_and(|node| node.waits_for.is_none() && node.owns.is_empty()) {
            self.tasks.remove(task);
        }
    }

    fn update_owner(&mut self, lock: &L, changed: &mut dyn FnMut(&T, Priority)) {
        if let Some(owner) = self.owner(lock).cloned() {
            self.update(&owner, changed);
        }
    }

    /// Computes the boost of a task anew, then of the owners along its chain. There is no cycle: the loop ends.
    fn update(&mut self, task: &T, changed: &mut dyn FnMut(&T, Priority)) {
        let Some(node) = self.tasks.get(task) else { return };
        let head = |lock| self.locks.get(lock)?.waiters.first().map(|(urgency, _)| *urgency);
        let boost = node.owns.iter().filter_map(head).max().unwrap_or(0);
        if boost == node.boost {
            return;
        }
        if let Some(node) = self.tasks.get_mut(task) {
            node.boost = boost;
        }
        changed(task, boost);
        self.requeue(task, changed);
    }

    /// The task's urgency may have changed: its place in the queue where it waits, and what follows.
    fn requeue(&mut self, task: &T, changed: &mut dyn FnMut(&T, Priority)) {
        let Some(node) = self.tasks.get(task) else { return };
        let (Some(lock), urgency) = (node.waits_for.clone(), node.urgency()) else { return };
        let queue = self.locks.get(&lock).map_or(&[][..], |lock| &lock.waiters);
        if queue.iter().any(|(known, other)| other == task && *known == urgency) {
            return;
        }
        self.dequeue(&lock, task);
        self.enqueue(&lock, task, urgency);
        self.update_owner(&lock, changed);
    }
}

#[cfg(test)]
mod tests;
