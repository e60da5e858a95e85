//! A swap area in memory, with errors on demand.

use super::PAGE;
use abi::Errno;
use abi::errno::Result;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use vm::swap::{self, AreaId, NewArea, SwapDevice, SwapMap};

/// The only area.
pub const AREA: AreaId = AreaId(8, 0);

/// What was swapped out, by slot.
#[derive(Default)]
pub struct Store {
    pub pages: Mutex<BTreeMap<u32, Vec<u8>>>,
    /// Reads and writes fail.
    pub broken: AtomicBool,
}

impl SwapDevice for Store {
    fn read(&self, slot: u32, folio: &mem::Folio) -> Result<()> {
        sync::assert_may_sleep();
        if self.broken.load(SeqCst) {
            return Err(Errno::EIO);
        }
        if let Some(bytes) = self.pages.lock().expect("pages").get(&slot) {
            folio.write(0, bytes);
        }
        Ok(())
    }

    fn write(&self, pages: &mut dyn Iterator<Item = (u32, &mem::Folio)>) -> Result<()> {
        sync::assert_may_sleep();
        if self.broken.load(SeqCst) {
            return Err(Errno::EIO);
        }
        for (slot, folio) in pages {
            assert_ne!(slot, 0, "the header's page");
            let mut bytes = vec![0; PAGE];
            folio.read(0, &mut bytes);
            self.pages.lock().expect("pages").insert(slot, bytes);
        }
        Ok(())
    }

    fn free(&self, slot: u32) {
        self.pages.lock().expect("pages").remove(&slot);
    }
}

/// An area of so many slots, those of `bad` unusable. Areas are the system's: tests take turns.
pub fn with_area(slots: u32, bad: &[u32]) -> (MutexGuard<'static, ()>, Arc<Store>) {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let _ = swap::swap_off(AREA, Vec::new);
    let store = Arc::new(Store::default());
    let map = SwapMap::new(slots, bad).expect("map");
    let path = "/dev/swap".to_string();
    let new = NewArea { device: store.clone(), map, priority: None, path, id: AREA, kind: "partition" };
    swap::swap_on(new).expect("swapon");
    (turn, store)
}
