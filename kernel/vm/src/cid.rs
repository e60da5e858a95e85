//! Concurrency ids: small numbers for the threads of one space that run at the same time.
//!
//! **Problem.** A program that keeps data per CPU (restartable sequences) wastes it when it has two threads on a
//! machine of 64 CPUs. It wants a number that no two of its running threads share, and that stays below both the
//! number of its threads and of the CPUs.
//!
//! **Idea.** An id belongs to the thread that took it, also while that thread sleeps: it comes back to the
//! same data. Whoever finds no free id takes one from a thread that is on no CPU; the robbed thread learns of it
//! when it next runs, since it asks again after each switch ([`AddressSpace::concurrency_id`]). Of N threads at most
//! N - 1 others are on a CPU, so the lowest id that can be had is below N.

use crate::AddressSpace;
use abi::Errno;
use abi::errno::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use sync::SpinLock;
use sync::levels::Leaf;
use task::Task;

/// Who has which id.
pub(crate) struct ConcurrencyIds(SpinLock<Vec<Option<Arc<Task>>>, Leaf>);

impl ConcurrencyIds {
    /// Room for an id a CPU, nobody has one. ENOMEM.
    pub fn new() -> Result<ConcurrencyIds> {
        let mut owners = Vec::new();
        owners.try_reserve_exact(arch::cpu::count()).map_err(|_| Errno::ENOMEM)?;
        Ok(ConcurrencyIds(SpinLock::new(owners)))
    }

    fn take(&self, me: &Arc<Task>) -> u32 {
        let mut owners = self.0.lock();
        if let Some(id) = owners.iter().position(|owner| owner.as_ref().is_some_and(|o| Arc::ptr_eq(o, me))) {
            return id as u32;
        }
        let id = owners.iter().position(|owner| owner.as_ref().is_none_or(|o| !o.on_cpu()));
        // Its last reference may go here, which takes locks of its own.
        let robbed = match id {
            Some(id) => owners[id].replace(me.clone()),
            // All ids are those of running threads, fewer than there are CPUs: the room is reserved.
            None => {
                owners.push(Some(me.clone()));
                None
            }
        };
        let id = id.unwrap_or(owners.len() - 1);
        drop(owners);
        drop(robbed);
        id as u32
    }

    fn give_back(&self, me: &Task) {
        let mut owners = self.0.lock();
        let is_mine =
            |owner: &&mut Option<Arc<Task>>| owner.as_ref().is_some_and(|o| core::ptr::eq(&**o, me));
        let mine = owners.iter_mut().find(is_mine).and_then(Option::take);
        drop(owners);
        drop(mine);
    }
}

impl AddressSpace {
    /// The id of `me`, the calling task, among the threads of this space: its alone until it leaves the CPU. Linux's
    /// `mm_cid`. Process context.
    pub fn concurrency_id(&self, me: &Arc<Task>) -> u32 {
        self.cids.take(me)
    }

    /// `me` uses this space no longer.
    pub fn release_concurrency_id(&self, me: &Task) {
        self.cids.give_back(me);
    }
}
