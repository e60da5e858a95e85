//! The memory objects that swap looks at: those that ever had a page.

use crate::mapping::Mapping;
use abi::errno::Result;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::Ordering::Relaxed;
use sync::SpinLock;
use sync::levels::Leaf;

/// The objects by place, the free places, and where the hand is.
struct Objects {
    places: Vec<Option<Weak<Mapping>>>,
    free: Vec<u32>,
    hand: usize,
}

static OBJECTS: SpinLock<Objects, Leaf> =
    SpinLock::new(Objects { places: Vec::new(), free: Vec::new(), hand: 0 });

/// A page has come into an object. Without memory for the list the object is not looked at until the next one comes.
pub(crate) fn came(mapping: &Mapping) {
    if mapping.swap_place.load(Relaxed) != 0 {
        return;
    }
    let mut objects = OBJECTS.lock();
    // Two pages may come at once.
    if mapping.swap_place.load(Relaxed) != 0 {
        return;
    }
    let place = match objects.free.pop() {
        Some(place) => place,
        None => {
            let place = objects.places.len();
            // Room for giving every place back.
            let room = place + 1 - objects.free.len();
            let room = objects.places.try_reserve(1).and_then(|()| objects.free.try_reserve(room));
            let (Ok(()), Ok(number)) = (room, u32::try_from(place)) else { return };
            objects.places.push(None);
            number
        }
    };
    objects.places[place as usize] = Some(mapping.this());
    mapping.swap_place.store(place + 1, Relaxed);
}

/// The object goes away.
pub(crate) fn went(mapping: &Mapping) {
    let Some(place) = mapping.swap_place.load(Relaxed).checked_sub(1) else { return };
    let mut objects = OBJECTS.lock();
    let gone = objects.places.get_mut(place as usize).and_then(Option::take);
    objects.free.push(place);
    drop(objects);
    drop(gone);
}

/// The first object at or after a place, and the place to go on with.
fn next(from: usize) -> Option<(usize, Arc<Mapping>)> {
    let objects = OBJECTS.lock();
    let live =
        |(place, entry): (usize, &Option<Weak<Mapping>>)| Some((place + 1, entry.as_ref()?.upgrade()?));
    objects.places.iter().enumerate().skip(from).find_map(live)
}

/// Takes up to `wanted` pages out of memory objects, at most `budget` looked at; says how many went. The hand goes on
/// where it stopped, an object after the other. kswapd only.
pub fn swap_out_objects(wanted: usize, budget: &mut usize) -> usize {
    let (mut gone, mut wraps) = (0, 0);
    while gone < wanted && *budget > 0 && wraps < 2 {
        let hand = OBJECTS.lock().hand;
        let Some((after, object)) = next(hand) else {
            OBJECTS.lock().hand = 0;
            wraps += 1;
            continue;
        };
        if !object.is_pinned() {
            gone += object.swap_out(wanted - gone, budget);
        }
        // The same object again while it gives enough.
        if gone < wanted {
            OBJECTS.lock().hand = after;
        }
    }
    gone
}

/// Brings back what is in one area: swapoff.
pub(super) fn unuse_all(area: usize) -> Result<()> {
    let mut place = 0;
    while let Some((after, object)) = next(place) {
        object.unuse(area)?;
        place = after;
    }
    Ok(())
}
