//! Giving cached file pages back: the mechanism around a replacement policy.
//!
//! **Problem.** The page cache takes all memory there is. When somebody needs some, the pages that will not be
//! used soon should go; which those are, a policy says (`policy/reclaim-*`). Telling it about every use must not
//! cost a lock or a shared cache line.
//!
//! **Interface.** [`init`] names the policies and takes the first; [`switch`] exchanges it while the machine
//! runs. [`shrink`] frees pages, [`shrink_caches`] asks caches of other things ([`Shrinker`]); [`drop_all`] is drop_caches. [`show`] is what sysfs shows.
//!
//! **Idea.** Each listed page has a slot, whose number is the policy's name for it and stands in the folio.
//!
//! ```text
//!   page comes ──> this CPU's batch of 31 ──full──┐
//!   first use  ──> this CPU's batch of 31 ──full──┴─> one lock: slots, policy.insert / policy.hit
//!   further uses until the batch is emptied: the folio's REFERENCED flag is set, nothing is written
//! ```
//!
//! So a policy sees uses in their order, several of one page within a batch as one. A victim is checked where
//! the page is: mapped and accessed means used; dirty means write it and wait on a list of its own, so that
//! it neither blocks the policy's lists nor counts as used.
//!
//! No sleeping lock is taken and no I/O is waited for here: [`shrink`] may run in any allocation that may
//! sleep.

mod batch;
mod lru;
mod shrinkers;

pub use shrinkers::{Shrinker, add_shrinker, shrink_caches};

use crate::mapping::Mapping;
use crate::stats::{self, Event};
use abi::Errno;
use abi::errno::Result;
use alloc::sync::Weak;
use batch::Batch;
use core::fmt;
use lru::{Lru, Victim};
use mem::Folio;
use reclaim_api::PolicyInfo;
use sync::levels::{self, LruBatch};
use sync::{Once, PerCpu, SpinLock};

/// Victims looked at under one hold of the lock.
const ROUND: usize = 32;

struct Reclaim {
    policies: &'static [PolicyInfo],
    lru: SpinLock<Lru, levels::Lru>,
    batches: PerCpu<SpinLock<Batch, LruBatch>>,
}

static RECLAIM: Once<Reclaim> = Once::new();

/// Takes the first policy. Boot, once, before the first file is read; pages that came before are not listed.
/// `pages` is the size of memory. ENOMEM.
pub fn init(policies: &'static [PolicyInfo], pages: usize) -> Result<()> {
    let first = policies.first().ok_or(Errno::EINVAL)?;
    let lru = Lru::new(first, pages).map_err(|_| Errno::ENOMEM)?;
    let batches = PerCpu::new(|_| SpinLock::new(Batch::new()));
    let _ = RECLAIM.set(Reclaim { policies, lru: SpinLock::new(lru), batches });
    Ok(())
}

/// A page of a backed mapping has come into its tree. `ahead`: before anybody asked for it, so that its first
/// use is what the insertion is for other pages.
pub(crate) fn came(mapping: &Weak<Mapping>, index: u64, folio: &Folio, ahead: bool) {
    let Some(reclaim) = RECLAIM.get() else { return };
    let mut batch = reclaim.batches.this().lock();
    batch.add(Victim { folio: folio.clone(), mapping: mapping.clone(), index, ahead });
    if batch.is_full() {
        reclaim.empty(batch);
    }
}

/// Tells the policy what the CPUs have gathered, which gives the references of pages that came back.
pub(crate) fn settle_batches() {
    if let Some(reclaim) = RECLAIM.get() {
        reclaim.empty_all();
    }
}

/// The page was used for the first time since the policy was told.
#[cold]
pub(crate) fn used(folio: &Folio) {
    let place = folio.place();
    let Some(reclaim) = RECLAIM.get().filter(|_| place != 0) else { return };
    let mut batch = reclaim.batches.this().lock();
    batch.hit(place);
    if batch.is_full() {
        reclaim.empty(batch);
    }
}

/// Pages have left their tree for another reason than [`shrink`]'s.
pub(crate) fn went(folios: &[Option<Folio>]) {
    let Some(reclaim) = RECLAIM.get() else { return };
    if folios.iter().flatten().all(|folio| folio.place() == 0) {
        return;
    }
    // Dropped without the lock.
    let mut gone: [Option<Victim>; ROUND] = [const { None }; ROUND];
    for chunk in folios.chunks(ROUND) {
        let mut lru = reclaim.lru.lock();
        for (folio, gone) in chunk.iter().flatten().zip(&mut gone) {
            *gone = lru.remove(folio);
        }
        drop(lru);
        gone.iter_mut().for_each(|gone| *gone = None);
    }
}

impl Reclaim {
    /// Tells the policy what a batch has gathered.
    fn empty(&self, mut batch: sync::SpinGuard<'_, Batch, LruBatch>) {
        let mut full = core::mem::replace(&mut *batch, Batch::new());
        drop(batch);
        let mut lru = self.lru.lock();
        for page in full.pages() {
            lru.insert(page);
        }
        full.hits().iter().for_each(|place| lru.hit(*place));
        drop(lru);
        // What could not be listed is dropped here.
        drop(full);
    }

    /// Empties the batches of all CPUs: before somebody looks for every page.
    fn empty_all(&self) {
        for (_, batch) in self.batches.iter() {
            self.empty(batch.lock());
        }
    }
}

/// What became of a victim.
enum Fate {
    Freed,
    /// In use: the policy keeps it.
    Used,
    /// Dirty or on its way to the device.
    Dirty,
    /// Held by somebody right now.
    Busy,
    /// No longer in a tree.
    Gone,
}

/// Frees about `wanted` file pages, looking at no more than `budget`; says how many were freed. Wakes the
/// flushers when dirty pages are in the way. Any task that may sleep; takes spin locks only.
pub fn shrink(wanted: usize, budget: usize) -> usize {
    let Some(reclaim) = RECLAIM.get() else { return 0 };
    reclaim.empty(reclaim.batches.this().lock());
    let (mut freed, mut scanned, mut dirty) = (0, 0, 0u64);
    freed += reclaim.retry_waiting(wanted);
    while freed < wanted && scanned < budget {
        let victims = reclaim.lru.lock().victims(ROUND.min(budget - scanned));
        let count = victims.iter().flatten().count();
        if count == 0 {
            break;
        }
        scanned += count;
        for victim in victims.into_iter().flatten() {
            let fate = judge(&victim);
            freed += usize::from(matches!(fate, Fate::Freed));
            dirty += u64::from(matches!(fate, Fate::Dirty));
            reclaim.settle(victim, fate);
        }
    }
    stats::count(Event::PageScan, scanned as u64);
    stats::count(Event::PageSteal, freed as u64);
    if dirty > 0 {
        crate::writeback::ask_all(dirty.max(1024));
    }
    freed
}

/// Looks at the page where it is, and lets it go if it can.
fn judge(victim: &Victim) -> Fate {
    let Some(mapping) = victim.mapping.upgrade() else { return Fate::Gone };
    let folio = &victim.folio;
    if folio.clear_referenced() {
        return Fate::Used;
    }
    if folio.map_count() > 0 {
        if mapping.take_accessed(victim.index, folio) {
            return Fate::Used;
        }
        if !folio.dirty() && !folio.writeback() {
            mapping.unmap_folio(victim.index, folio);
        }
    }
    if folio.dirty() || folio.writeback() {
        return Fate::Dirty;
    }
    match mapping.evict_victim(victim.index, folio) {
        Some(true) => Fate::Freed,
        Some(false) => Fate::Busy,
        None => Fate::Gone,
    }
}

impl Reclaim {
    fn settle(&self, victim: Victim, fate: Fate) {
        let mut lru = self.lru.lock();
        let gone = match fate {
            Fate::Freed | Fate::Gone => lru.remove(&victim.folio),
            Fate::Used | Fate::Busy => {
                lru.keep(&victim);
                None
            }
            Fate::Dirty => {
                lru.wait(&victim);
                None
            }
        };
        drop(lru);
        drop(gone);
        drop(victim);
    }

    /// The victims of earlier rounds that were dirty: those that are clean by now go.
    fn retry_waiting(&self, wanted: usize) -> usize {
        let mut freed = 0;
        let mut left = self.lru.lock().waiting();
        while left > 0 && freed < wanted {
            let victims = self.lru.lock().waiting_victims(ROUND.min(left));
            let count = victims.iter().flatten().count();
            if count == 0 {
                break;
            }
            left -= count;
            let mut stuck = 0;
            for victim in victims.into_iter().flatten() {
                let fate = judge(&victim);
                freed += usize::from(matches!(fate, Fate::Freed));
                stuck += usize::from(matches!(fate, Fate::Dirty));
                self.settle(victim, fate);
            }
            if stuck == count {
                break;
            }
        }
        freed
    }
}

/// Pages that reclaim and swap have freed since boot: who waits for others to free some looks whether it grows.
pub fn progress() -> u64 {
    stats::total(Event::PageSteal) + stats::total(Event::SwapOut)
}

/// drop_caches: lets every page go that is clean and unused; says how many. May take long.
pub fn drop_all() -> usize {
    let Some(reclaim) = RECLAIM.get() else { return 0 };
    reclaim.empty_all();
    let (mut dropped, mut place) = (0, 1);
    loop {
        let (victims, next) = reclaim.lru.lock().from_place(place);
        for victim in victims.into_iter().flatten() {
            let mapping = victim.mapping.upgrade();
            let idle = victim.folio.map_count() == 0;
            let evicted = mapping
                .filter(|_| idle)
                .and_then(|mapping| mapping.evict_victim(victim.index, &victim.folio));
            if evicted == Some(true) {
                dropped += 1;
                reclaim.settle(victim, Fate::Freed);
            }
        }
        match next {
            Some(next) => place = next,
            None => return dropped,
        }
    }
}

/// Makes another policy decide from now on. The pages are handed over, those that the old one would have
/// kept longest last. EINVAL for an unknown name, ENOMEM: the old one stays. Under load, too: the lock is
/// held once for the handing over.
pub fn switch(name: &str) -> Result<()> {
    let reclaim = RECLAIM.get().ok_or(Errno::ENODEV)?;
    let info = reclaim.policies.iter().find(|info| info.name == name).ok_or(Errno::EINVAL)?;
    reclaim.empty_all();
    let mut policy = (info.make)();
    loop {
        let (places, capacity) = reclaim.lru.lock().sizes();
        policy.reserve(places, capacity).map_err(|_| Errno::ENOMEM)?;
        let mut lru = reclaim.lru.lock();
        if lru.sizes() == (places, capacity) {
            let old = lru.hand_over(info, policy);
            drop(lru);
            drop(old);
            return Ok(());
        }
    }
}

/// `/sys/kernel/mm/reclaim/policy`: the names, the one in force in brackets.
pub fn show_policies(out: &mut dyn fmt::Write) -> fmt::Result {
    let Some(reclaim) = RECLAIM.get() else { return Ok(()) };
    let current = reclaim.lru.lock().name();
    for (number, info) in reclaim.policies.iter().enumerate() {
        let space = if number > 0 { " " } else { "" };
        match info.name == current {
            true => write!(out, "{space}[{}]", info.name)?,
            false => write!(out, "{space}{}", info.name)?,
        }
    }
    out.write_char('\n')
}

/// `/sys/kernel/mm/reclaim/stats`: the mechanism's and the policy's numbers, a line each.
pub fn show_stats(out: &mut dyn fmt::Write) -> fmt::Result {
    let Some(reclaim) = RECLAIM.get() else { return Ok(()) };
    // Gathered under the lock, written without it: writing may allocate.
    let mut numbers = [("", 0u64); 24];
    let mut count = 0;
    reclaim.lru.lock().stats(&mut |name, value| {
        if let Some(place) = numbers.get_mut(count) {
            *place = (name, value);
            count += 1;
        }
    });
    numbers[..count].iter().try_for_each(|(name, value)| writeln!(out, "{name} {value}"))
}

/// Pages that the policy counts as proven, of all that are listed: `Active(file)` and their sum.
pub(crate) fn active_and_all() -> (u64, u64) {
    let Some(reclaim) = RECLAIM.get() else { return (0, 0) };
    let lru = reclaim.lru.lock();
    let (mut active, all) = (0, lru.sizes().1 as u64);
    lru.stats(&mut |name, value| {
        if matches!(name, "active" | "t2" | "am" | "main" | "youngest" | "third") {
            active += value;
        }
    });
    (active.min(all), all)
}
