//! Swap areas: what swapon(2) adds.

use super::{SwapEntry, SwapMap};
use crate::AddressSpace;
use abi::Errno;
use abi::errno::Result;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use mem::Folio;
use sync::SpinLock;
use sync::levels::Swap;

/// Areas at once (Linux's MAX_SWAPFILES, less what it keeps for itself).
const MOST: usize = 28;

/// Something that holds pages.
pub trait SwapDevice: Send + Sync {
    /// Reads page `slot`; waits. EIO.
    fn read(&self, slot: u32, folio: &Folio) -> Result<()>;

    /// Writes pages to their slots and waits for all. EIO, ENOSPC. Called by kswapd: must not need memory that
    /// only reclaim gives.
    fn write(&self, pages: &mut dyn Iterator<Item = (u32, &Folio)>) -> Result<()>;

    /// Page `slot` is not needed any more. Spin locks only.
    fn free(&self, _slot: u32) {}
}

struct SwapArea {
    device: Arc<dyn SwapDevice>,
    map: SwapMap,
    priority: i16,
    path: String,
    id: AreaId,
    kind: &'static str,
    /// swapoff is under way: no slot is taken any more.
    leaving: bool,
}

/// What a path leads to: the numbers of a device, or of a file system and the file in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AreaId(pub u64, pub u64);

static AREAS: SpinLock<[Option<SwapArea>; MOST], Swap> = SpinLock::new([const { None }; MOST]);
/// Slots given out: areas of one priority take turns.
static TURNS: AtomicU64 = AtomicU64::new(0);
/// Slots of one turn, which lie next to each other.
const TURN: u64 = 256;
/// Whether there is an area at all.
static ANY: AtomicBool = AtomicBool::new(false);
/// Slots in use: zero lets page-table walks skip looking for entries.
static USED: AtomicU64 = AtomicU64::new(0);

/// Counts uses of slots, see [`SwapEntry`].
static USES: AtomicU64 = AtomicU64::new(0);

/// Whether pages can go anywhere.
pub fn is_on() -> bool {
    ANY.load(Ordering::Relaxed)
}

/// Whether an area has a free slot.
pub fn has_room() -> bool {
    AREAS.lock().iter().flatten().any(|area| !area.leaving && area.map.used() < area.map.size())
}

pub(super) fn any_used() -> bool {
    USED.load(Ordering::Acquire) > 0
}

/// One line of /proc/swaps.
#[derive(Debug, Clone)]
pub struct AreaInfo {
    pub path: String,
    /// "partition" or "file".
    pub kind: &'static str,
    /// Pages.
    pub size: u64,
    pub used: u64,
    pub priority: i16,
}

/// What swapon(2) was asked for.
pub struct NewArea {
    pub device: Arc<dyn SwapDevice>,
    pub map: SwapMap,
    /// `None`: lower than all there are.
    pub priority: Option<i16>,
    pub path: String,
    pub id: AreaId,
    pub kind: &'static str,
}

/// Adds an area. EBUSY when it is there already, EPERM (as Linux) when there are too many.
pub fn swap_on(new: NewArea) -> Result<()> {
    let mut areas = AREAS.lock();
    if areas.iter().flatten().any(|area| area.id == new.id) {
        return Err(Errno::EBUSY);
    }
    let lowest = areas.iter().flatten().map(|area| area.priority).min().unwrap_or(0).min(0);
    let place = areas.iter_mut().find(|place| place.is_none()).ok_or(Errno::EPERM)?;
    let priority = new.priority.unwrap_or(lowest.saturating_sub(if lowest == 0 { 2 } else { 1 }));
    let NewArea { device, map, path, id, kind, .. } = new;
    *place = Some(SwapArea { device, map, priority, path, id, kind, leaving: false });
    ANY.store(true, Ordering::Relaxed);
    Ok(())
}

/// Removes an area after bringing back what is in it. `spaces` are all address spaces there are. EINVAL for an
/// unknown one; ENOMEM, EIO: it stays. May sleep.
pub fn swap_off(id: AreaId, spaces: impl Fn() -> Vec<Arc<AddressSpace>>) -> Result<()> {
    let number = {
        let mut areas = AREAS.lock();
        let known =
            |area: &Option<SwapArea>| area.as_ref().is_some_and(|area| area.id == id && !area.leaving);
        let number = areas.iter().position(known).ok_or(Errno::EINVAL)?;
        set_leaving(&mut areas[number], true);
        number
    };
    let result = empty(number, spaces);
    let mut areas = AREAS.lock();
    if result.is_err() {
        set_leaving(&mut areas[number], false);
        return result;
    }
    let gone = areas[number].take();
    ANY.store(areas.iter().any(Option::is_some), Ordering::Relaxed);
    drop(areas);
    drop(gone);
    Ok(())
}

fn set_leaving(area: &mut Option<SwapArea>, leaving: bool) {
    if let Some(area) = area {
        area.leaving = leaving;
    }
}

/// Brings every page back. A process that forks meanwhile takes its entries along: until none is left.
fn empty(number: usize, spaces: impl Fn() -> Vec<Arc<AddressSpace>>) -> Result<()> {
    loop {
        for space in spaces() {
            if task::current().fatal_pending() {
                return Err(Errno::EINTR);
            }
            space.unuse(number)?;
            crate::graveyard::release(space);
        }
        super::objects::unuse_all(number)?;
        if AREAS.lock()[number].as_ref().is_none_or(|area| area.map.used() == 0) {
            return Ok(());
        }
        task::yield_now();
    }
}

/// A slot of an area with the highest priority that has one; areas of one priority take turns.
pub(crate) fn reserve() -> Option<SwapEntry> {
    let mut areas = AREAS.lock();
    let has_room = |area: &&SwapArea| !area.leaving && area.map.used() < area.map.size();
    let highest = areas.iter().flatten().filter(has_room).map(|area| area.priority).max()?;
    let equal = |area: &&SwapArea| has_room(area) && area.priority == highest;
    let count = areas.iter().flatten().filter(equal).count().max(1);
    let turn = (TURNS.fetch_add(1, Ordering::Relaxed) / TURN) as usize % count;
    let mut numbers = (0..MOST).filter(|number| areas[*number].as_ref().filter(equal).is_some());
    let number = numbers.nth(turn)?;
    let slot = areas[number].as_mut()?.map.take()?;
    USED.fetch_add(1, Ordering::AcqRel);
    Some(SwapEntry::new(number, slot, USES.fetch_add(1, Ordering::Relaxed)))
}

/// One entry less names the slot.
pub(crate) fn release(entry: SwapEntry) {
    let mut areas = AREAS.lock();
    let Some(Some(area)) = areas.get_mut(entry.area()) else { return };
    if area.map.release(entry.slot()) {
        USED.fetch_sub(1, Ordering::AcqRel);
        area.device.free(entry.slot());
    }
}

/// One entry more names the slot.
pub(super) fn share(entry: SwapEntry) {
    if let Some(Some(area)) = AREAS.lock().get_mut(entry.area()) {
        area.map.share(entry.slot());
    }
}

/// How many entries name the slot.
pub(crate) fn uses(entry: SwapEntry) -> u16 {
    AREAS.lock().get(entry.area()).and_then(Option::as_ref).map_or(0, |area| area.map.uses(entry.slot()))
}

fn device_of(entry: SwapEntry) -> Result<Arc<dyn SwapDevice>> {
    let areas = AREAS.lock();
    areas.get(entry.area()).and_then(Option::as_ref).map(|area| area.device.clone()).ok_or(Errno::EIO)
}

/// Writes pages of one area.
pub(super) fn write_out(pages: &[Option<(SwapEntry, &Folio)>]) -> Result<()> {
    let Some((first, _)) = pages.iter().flatten().next() else { return Ok(()) };
    let mut slots = pages.iter().flatten().map(|(entry, folio)| (entry.slot(), *folio));
    device_of(*first)?.write(&mut slots)
}

pub(crate) fn read_in(entry: SwapEntry, folio: &Folio) -> Result<()> {
    device_of(entry)?.read(entry.slot(), folio)
}

/// The areas, for /proc/swaps. ENOMEM.
pub fn areas() -> Vec<AreaInfo> {
    let areas = AREAS.lock();
    let info = |area: &SwapArea| AreaInfo {
        path: area.path.clone(),
        kind: area.kind,
        size: u64::from(area.map.size()),
        used: u64::from(area.map.used()),
        priority: area.priority,
    };
    areas.iter().flatten().map(info).collect()
}

/// Pages of all areas, and those in use: SwapTotal and what SwapFree lacks.
pub fn totals() -> (u64, u64) {
    let areas = AREAS.lock();
    areas.iter().flatten().fold((0, 0), |(size, used), area| {
        (size + u64::from(area.map.size()), used + u64::from(area.map.used()))
    })
}
