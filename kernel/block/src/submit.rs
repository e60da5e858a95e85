//! The way of a bio to a queue: checks, remapping, splitting, joining.

use crate::bio::{Bio, BioFlags, EndBio, Op};
use crate::device::BlockDevice;
use crate::disk::Disk;
use crate::flush::Need;
use crate::plug::Plug;
use crate::request::{Request, bio_may_merge};
use crate::stats::Group;
use abi::Errno;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicU32, Ordering};
use iosched_api::Dir;
use iosched_queue::Merged;
use sync::SpinLock;
use sync::levels::BlockPool;

/// Submits a bio. It comes back to its [`EndBio`] in any case, possibly before this returns. May sleep while
/// all requests of the disk are in use.
pub(crate) fn submit(device: &Arc<BlockDevice>, mut bio: Box<Bio>, plug: Option<&mut Plug>) {
    task::might_sleep();
    let disk = device.disk().clone();
    if let Err(error) = check(device, &disk, &bio) {
        return bio.complete(Err(error));
    }
    bio.sector += device.start();
    bio.device = Some(device.clone());
    if disk.flush_need(&mut bio) == Need::Done {
        return bio.complete(Ok(()));
    }
    if bio.sectors() == 0 && bio.op != Op::Flush {
        return bio.complete(Ok(()));
    }
    match largest(&disk, &bio) {
        Some(sectors) => split(&disk, bio, sectors, plug),
        None => queue(&disk, bio, plug),
    }
}

/// Whether the device can do it at all.
fn check(device: &BlockDevice, disk: &Disk, bio: &Bio) -> Result<()> {
    let limits = disk.limits();
    let block = u64::from(limits.logical_block) / crate::SECTOR;
    let aligned = bio.sector.is_multiple_of(block) && u64::from(bio.sectors()).is_multiple_of(block);
    if bio.op.is_write() && device.is_read_only() {
        return Err(Errno::EROFS);
    }
    if !aligned || bio.end_sector() > device.sectors() || bio.end_sector() < bio.sector {
        return Err(Errno::EIO);
    }
    match bio.op {
        Op::Discard if limits.discard.is_none() => Err(Errno::EOPNOTSUPP),
        Op::WriteZeroes if limits.max_write_zeroes == 0 => Err(Errno::EOPNOTSUPP),
        _ => Ok(()),
    }
}

/// How many sectors the first part of a bio may have when it is too large for one request.
fn largest(disk: &Disk, bio: &Bio) -> Option<u32> {
    let limits = disk.limits_now();
    let block = limits.logical_block >> crate::SECTOR_SHIFT;
    let most = match bio.op {
        Op::Read | Op::Write => limits.max_sectors,
        Op::Discard => limits.discard.map_or(0, |discard| discard.max_sectors),
        Op::WriteZeroes => limits.max_write_zeroes,
        Op::Flush => return None,
    };
    let most = most - most % block;
    let mut sectors = 0;
    let mut pieces = 0;
    for segment in bio.segments() {
        pieces += segment.len.div_ceil(limits.max_segment_bytes);
        if pieces > limits.max_segments {
            // Whole segments only: half of one would not save a piece. Their sum may end within a block.
            let fits = (sectors - sectors % block).min(most);
            return Some(if fits > 0 { fits } else { block });
        }
        sectors += segment.len >> crate::SECTOR_SHIFT;
    }
    (bio.sectors() > most).then_some(most.max(block))
}

/// The bio whose parts are under way.
struct Split {
    whole: SpinLock<Option<(Box<Bio>, Result<()>)>, BlockPool>,
    left: AtomicU32,
}

impl Split {
    fn part_done(&self, result: Result<()>) {
        if result.is_err()
            && let Some((_, sum)) = &mut *self.whole.lock()
        {
            *sum = sum.and(result);
        }
        if self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            let whole = self.whole.lock().take();
            if let Some((bio, result)) = whole {
                bio.complete(result);
            }
        }
    }
}

impl EndBio for Split {
    fn ended(&self, part: Box<Bio>) {
        self.part_done(part.result());
    }
}

/// Submits a bio in parts. What `PREFLUSH` asks for is done before the first, and each part is `FUA` by
/// itself.
fn split(disk: &Arc<Disk>, mut bio: Box<Bio>, mut sectors: u32, mut plug: Option<&mut Plug>) {
    let split = Arc::new(Split { whole: SpinLock::new(None), left: AtomicU32::new(1) });
    let mut outcome = Ok(());
    let mut parts = alloc::collections::VecDeque::new();
    loop {
        match bio.split_front(sectors) {
            Ok(part) => parts.push_back(part),
            Err(error) => {
                outcome = Err(error);
                break;
            }
        }
        bio.flags.remove(BioFlags::PREFLUSH);
        let Some(next) = largest(disk, &bio) else { break };
        sectors = next;
    }
    // The last part: the rest of the bio, which itself stays behind until all are done.
    if outcome.is_ok() {
        match bio.split_front(bio.sectors()) {
            Ok(part) => parts.push_back(part),
            Err(error) => outcome = Err(error),
        }
    }
    if outcome.is_err() {
        return bio.complete(outcome);
    }
    split.left.fetch_add(parts.len() as u32, Ordering::Relaxed);
    *split.whole.lock() = Some((bio, Ok(())));
    for mut part in parts {
        part.end = Some(split.clone());
        queue(disk, part, plug.as_deref_mut());
    }
    split.part_done(Ok(()));
}

/// A bio that fits one request: joined to one that waits, or a new one.
fn queue(disk: &Arc<Disk>, mut bio: Box<Bio>, mut plug: Option<&mut Plug>) {
    let machine = disk.flush_need(&mut bio) == Need::Machine;
    if !machine && bio_may_merge(&bio) && disk.no_merges.load(Ordering::Relaxed) == 0 {
        let group = Group::of(bio.op);
        let device = bio.device.clone();
        let left = match plug.as_deref_mut() {
            Some(plug) => plug.join(disk, bio).and_then(|bio| disk.join(bio)),
            None => disk.join(bio),
        };
        match left {
            Some(back) => bio = back,
            None => {
                if let Some(device) = device {
                    device.account_merge(group);
                }
                return;
            }
        }
    }
    let sync =
        bio.op == Op::Read || bio.flags.intersects(BioFlags::SYNC | BioFlags::FUA | BioFlags::PREFLUSH);
    let mut request = match disk.try_get_request(sync) {
        Some(request) => request,
        None => {
            // What this submitter holds back may be what everybody waits for.
            if let Some(plug) = plug.as_deref_mut() {
                plug.finish();
            }
            disk.get_request(sync)
        }
    };
    let now_ns = arch::timer::now_ns();
    if let Some(device) = &bio.device {
        device.account_begin(Group::of(bio.op), now_ns);
    }
    request.begin(bio, now_ns);
    if machine {
        return disk.flush_begin(request);
    }
    let request = match plug {
        Some(plug) => match plug.hold(disk, request) {
            Ok(()) => return,
            Err(request) => request,
        },
        None => request,
    };
    disk.enqueue(request);
    disk.run_here();
}

impl Disk {
    /// Gives the driver what waits for this CPU's queue.
    pub(crate) fn run_here(&self) {
        self.run(self.hw_here());
    }

    /// Adds a request to those that wait; [`Disk::run`] comes next.
    pub(crate) fn enqueue(&self, mut request: Box<Request>) {
        if self.has_elevator.load(Ordering::Acquire) {
            let mut elevator = self.elevator.lock();
            if let Some(elevator) = elevator.as_mut() {
                let described = request.describe();
                // It has as many places as there are requests: one that does not fit cannot be.
                match elevator.insert(&described, request, arch::timer::now_ns()) {
                    Ok(_) => return,
                    Err(back) => request = back,
                }
            }
        }
        let _off = sync::preempt_off();
        let cpu = arch::cpu::id();
        let mut queue = self.soft.of(cpu).lock();
        queue.push_back(request);
        self.hw[self.hw_of(cpu)].soft.fetch_or(1 << cpu, Ordering::AcqRel);
    }

    /// Joins a bio to a request that waits; else it comes back.
    fn join(&self, bio: Box<Bio>) -> Option<Box<Bio>> {
        let limits = self.limits_now();
        if !self.has_elevator.load(Ordering::Acquire) {
            let mut queue = self.soft.this().lock();
            let Some(last) = queue.back_mut() else { return Some(bio) };
            return match last.side_for(&bio) {
                Some(side) => last.join(bio, side, &limits).err(),
                None => Some(bio),
            };
        }
        let mut elevator = self.elevator.lock();
        let Some(elevator) = elevator.as_mut() else { return Some(bio) };
        let dir = if bio.op == Op::Read { Dir::Read } else { Dir::Write };
        let (start, sectors) = (bio.sector, bio.sectors());
        let mut left = Some(bio);
        let joined = elevator.merge(dir, start, sectors, arch::timer::now_ns(), |request, side| {
            let Some(bio) = left.take() else { return false };
            if request.side_for(&bio) != Some(side) {
                left = Some(bio);
                return false;
            }
            left = request.join(bio, side, &limits).err();
            left.is_none()
        });
        debug_assert!(left.is_some() == (joined == Merged::No));
        left
    }
}
