//! The block layer: from a file system's pages to a device's queues and back.
//!
//! **Problem.** File systems and programs want pages read and written at places of a device; devices want
//! few, large, well-ordered requests, and tell by interrupts when they are done. Many CPUs submit at once;
//! write caches reorder; tables of partitions lie.
//!
//! **Interface.** For those above:
//!
//! | item | meaning |
//! |---|---|
//! | [`open`], [`by_dev`], [`by_name`], [`of_file`], [`at_path`] | find a [`BlockDevice`]: a disk or partition |
//! | [`BlockDevice::read_sync`], [`BlockDevice::write_sync`], [`BlockDevice::flush`], [`BlockDevice::discard`] | one operation, waited for |
//! | [`Bio`], [`Batch`], [`Plug`] | many operations: bios given to a batch by way of a plug, waited for together; or any other [`EndBio`] |
//! | [`read_pages`], [`write_pages`] | pages of a file, of which the caller says where they are |
//! | [`BlockDevice::mapping`], [`BlockDevice::sync`] | the device's own page cache |
//! | [`buffer`] | single blocks for metadata, with the hold a journal needs |
//! | [`BlockDevice::claim`] | exclusive use, for mounts |
//!
//! For drivers: [`Disk`], [`DiskInfo`], [`Limits`], [`Driver`], [`add_disk`]. I/O schedulers are crates
//! `policy/iosched-*`, given to [`init`].
//!
//! **Idea.** Linux's blk-mq: a bio becomes a request or is joined to one; requests wait in the plug of their
//! submitter, then in their CPU's software queue or in the I/O scheduler, and go to the hardware queue of the
//! CPU when that has a free tag ([`hwqueue`](Disk::complete)). Nothing polls. Requests come from a pool that
//! the disk allocated at the start, so that writing pages out to get memory back needs none; who finds the
//! pool empty sleeps.
//!
//! **Locks**, each level in `machine/sync`: `BlockDispatch` (a hardware queue), `BlockQueue` (what waits),
//! `BlockPool`; all taken by interrupt handlers, none held while somebody is called back.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bio;
pub mod buffer;
mod cache;
mod device;
mod direct;
mod disk;
mod file;
mod flush;
mod hwqueue;
mod ioctl;
mod pages;
mod plug;
mod queue_files;
mod request;
mod scan;
mod show;
mod stats;
mod submit;
mod switch;
mod sysfs_link;
mod thread;
mod zero;

pub use bio::{Batch, Bio, BioFlags, EndBio, Op, SECTOR, SECTOR_SHIFT, Segment};
pub use buffer::{Buffer, bread, getblk, sync_buffers};
pub use device::{BlockDevice, Claim, by_dev, by_name, devices, open};
pub use direct::bounce;
pub use disk::{DEFAULT_MAX_SECTORS, DiscardLimits, Disk, DiskInfo, Driver, Limits, Queued};
pub use file::{at_path, of_file};
pub use pages::{MapPiece, Piece, read_pages, write_pages};
pub use plug::Plug;
pub use request::Request;
pub use scan::{del_disk, disk_name, rescan};
pub use stats::Stats;
pub use switch::{NONE, schedulers};
pub use thread::size_changed;
pub use zero::zero_out;

use abi::errno::Result;
use alloc::sync::Arc;
use iosched_api::SchedulerInfo;
use task::Task;

/// Starts the layer. Once, at boot, before the first disk. `schedulers` can be chosen besides `none`; the first
/// is the default of disks with one hardware queue. `pin` binds a thread to a CPU.
pub fn init(schedulers: &'static [SchedulerInfo], pin: impl Fn(&Arc<Task>, usize)) -> Result<()> {
    switch::init(schedulers);
    thread::start(pin)?;
    show::init();
    scan::init()
}

/// Announces a disk that [`Disk::new`] made: its node in /dev, its files, its partitions, which are read now.
/// `driver` shows in /proc/devices. EEXIST, EBUSY. Process context.
pub fn add_disk(disk: &Arc<Disk>, driver: &'static str) -> Result<()> {
    switch::set_default(disk);
    scan::add_disk(disk, driver)
}
