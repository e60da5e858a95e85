//! zram: block devices in memory whose pages are compressed, for swap and for files that need not last.
//!
//! **Problem.** Most pages that a program leaves alone shrink to a third; where there is no disk to swap to, or a
//! slow one, memory itself is the best place for them.
//!
//! **Interface.** Linux's: `/dev/zramN`, and in `/sys/block/zramN` `disksize` (set it to begin), `initstate`, `reset`,
//! `comp_algorithm`, `mem_limit`, `mem_used_max`, `mm_stat`, `io_stat`. `zram.num_devices=` on the command line says
//! how many there are at first; `hot_add` and `hot_remove` in `/sys/class/zram-control` change that.
//!
//! **Idea.** A table says where each page is ([`store`]): nowhere, a word that fills it, or an object in a pool
//! ([`zsmalloc`]). A thread of each device compresses and expands, with a buffer of its own and no lock held; requests
//! are handed to it in places that were made at the start, and pages for the pool come from below the marks at which
//! others wait: writing to swap is what frees memory, so it must not wait for any. When swap forgets a page, it is
//! gone here at once ([`block::Driver::swap_slot_free`]).

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod control;
mod device;
mod files;
mod store;
mod worker;

use abi::errno::Result;
use cmdline::CommandLine;

/// Devices at most that the command line may ask for.
const MOST: u64 = 64;

/// Makes the devices. Boot, after `block::init`.
pub fn init(line: &CommandLine) -> Result<()> {
    let count = line.number("zram.num_devices").unwrap_or(1).min(MOST);
    control::register();
    (0..count).try_for_each(|_| control::add().map(drop))
}
