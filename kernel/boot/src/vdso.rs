//! The vDSO: its image, and the page of clock data that its code reads.

use abi::vdso::VvarData;
use alloc::sync::{Arc, Weak};
use klog::pr_warn;
use mem::{AllocFlags, Folio};
use sync::levels::Leaf;
use sync::{Once, SpinLock};

/// The ELF image that the runner built, empty when the kernel was built without one.
static IMAGE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/vdso.so"));

struct Page {
    folio: Folio,
    sequence: SpinLock<u32, Leaf>,
}

static PAGE: Once<Page> = Once::new();
static UPDATE: Once<Arc<Update>> = Once::new();

/// Installs the image. Without one, programs use system calls.
pub fn init() {
    if IMAGE.is_empty() {
        return;
    }
    let Ok(folio) = Folio::alloc(0, AllocFlags::KERNEL | AllocFlags::ZERO) else {
        return pr_warn!("vdso: no memory");
    };
    let _ = PAGE.set(Page { folio: folio.clone(), sequence: SpinLock::new(0) });
    update();
    if kcore::exec::set_vdso(IMAGE, folio).is_err() {
        pr_warn!("vdso: the image is damaged");
    }
    let watcher = Arc::new(Update);
    let update: Weak<Update> = Arc::downgrade(&watcher);
    // Once, so this is the first.
    let _ = UPDATE.set(watcher);
    if time::watch_realtime(update).is_err() {
        pr_warn!("vdso: no memory");
    }
}

/// Keeps the page up to date.
struct Update;

impl time::Expire for Update {
    fn expired(&self, _now_ns: u64) {
        update();
    }
}

/// Writes the clock's parameters into the page: at boot and when the real-time clock is stepped or goes otherwise.
pub fn update() {
    let Some(page) = PAGE.get() else { return };
    let clock = arch::timer::vdso_clock();
    let real = time::realtime();
    let mut sequence = page.sequence.lock();
    let mut data = VvarData {
        sequence: *sequence + 1,
        shift: clock.shift,
        base: clock.base,
        base_ns: clock.base_ns,
        mult: clock.mult,
        real_since_ns: real.since_ns,
        real_offset_ns: real.offset_ns,
        real_rate: real.rate,
    };
    // Odd while the rest changes: readers try again.
    page.folio.write(0, &data.to_bytes()[..4]);
    page.folio.write(4, &data.to_bytes()[4..]);
    data.sequence += 1;
    *sequence = data.sequence;
    page.folio.write(0, &data.to_bytes()[..4]);
}
