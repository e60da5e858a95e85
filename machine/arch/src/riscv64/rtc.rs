//! The goldfish real-time clock of QEMU's virt machine.

use super::fdt::Tree;
use super::io::IoRegion;
use super::platform;
use core::sync::atomic::{AtomicUsize, Ordering};

const TIME_LOW: usize = 0;
const TIME_HIGH: usize = 4;
const LEN: usize = 8;

static BASE: AtomicUsize = AtomicUsize::new(0);

pub(super) fn init(tree: Tree<'static>) {
    if let Some(node) = tree.nodes().find(|n| n.is_compatible("google,goldfish-rtc"))
        && let Some((phys, _)) = platform::registers(&node).filter(|(_, io)| io.len() >= LEN)
    {
        BASE.store(phys.to_virt().0, Ordering::Release);
    }
}

/// Seconds since the Epoch, if the machine has a clock.
pub fn read_unix_s() -> Option<u64> {
    let base = BASE.load(Ordering::Acquire);
    if base == 0 {
        return None;
    }
    // SAFETY: 1. `init` stored the address of mapped registers of at least this length.
    let io = unsafe { IoRegion::mmio(crate::VirtAddr(base), LEN) };
    // Reading the low half latches the high one.
    let low = io.read32(TIME_LOW);
    let ns = u64::from(io.read32(TIME_HIGH)) << 32 | u64::from(low);
    Some(ns / 1_000_000_000)
}
