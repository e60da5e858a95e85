//! The thread that does with the file what requests say.

use crate::bind::{Bound, Loop};
use abi::fcntl::{FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE};
use abi::{Errno, errno::Result};
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use block::{Op, Request, SECTOR_SHIFT, Segment};
use task::WaitMode;
use vfs::IoBuf;

/// A request as it waits for the thread: the segments keep their folios.
pub(crate) struct Job {
    pub tag: u16,
    op: Op,
    start: u64,
    sectors: u32,
    segments: Vec<Segment>,
}

impl Job {
    /// `None` without memory.
    pub(crate) fn of(tag: u16, request: &Request) -> Option<Job> {
        let mut segments = Vec::new();
        segments.try_reserve_exact(request.segments().count()).ok()?;
        segments.extend(request.segments().cloned());
        Some(Job { tag, op: request.op(), start: request.start(), sectors: request.sectors(), segments })
    }
}

/// Runs as long as the device is there.
pub(crate) fn run(device: &Weak<Loop>) {
    while let Some(device) = device.upgrade() {
        let next = || {
            let mut jobs = device.jobs.lock();
            jobs.pop_front().map(Some).or_else(|| device.is_gone().then_some(None))
        };
        let job = match device.work.wait_until(WaitMode::Idle, None, next) {
            Ok(Some(job)) => job,
            Ok(None) => return,
            Err(_) => continue,
        };
        let result = match device.bound() {
            Some(bound) => serve(&bound, &job),
            None => Err(Errno::EIO),
        };
        if let Some(disk) = device.disk() {
            disk.complete(0, job.tag, result);
        }
    }
}

fn serve(bound: &Arc<Bound>, job: &Job) -> Result<()> {
    let pos = bound.offset + (job.start << SECTOR_SHIFT);
    let len = u64::from(job.sectors) << SECTOR_SHIFT;
    match job.op {
        Op::Read => transfer(job, pos, |at, piece| {
            let mut done = 0;
            while done < piece.len() {
                let read =
                    bound.file.read_at(at + done as u64, &mut IoBuf::kernel_out(&mut piece[done..]))?;
                if read == 0 {
                    // The file ends within the last sector, or was cut: what is not there reads as zero.
                    piece[done..].fill(0);
                    break;
                }
                done += read;
            }
            Ok(())
        }),
        Op::Write => transfer(job, pos, |at, piece| {
            let mut done = 0;
            while done < piece.len() {
                match bound.file.write_at(at + done as u64, &mut IoBuf::kernel_in(&piece[done..]))? {
                    0 => return Err(Errno::EIO),
                    wrote => done += wrote,
                }
            }
            Ok(())
        }),
        Op::Flush => bound.file.fsync(true),
        Op::Discard | Op::WriteZeroes => {
            // A hole reads as zeroes.
            let mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
            let punched = bound.file.ops().fallocate(&bound.file, mode, pos, len);
            // A file system that cannot do it says ENODEV.
            punched.map_err(|error| if error == Errno::ENODEV { Errno::EOPNOTSUPP } else { error })
        }
    }
}

/// Moves the data of a request piece by piece through a buffer of the thread.
fn transfer(job: &Job, pos: u64, mut file: impl FnMut(u64, &mut [u8]) -> Result<()>) -> Result<()> {
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(arch::PAGE_SIZE).map_err(|_| Errno::ENOMEM)?;
    buffer.resize(arch::PAGE_SIZE, 0);
    let mut at = pos;
    for segment in &job.segments {
        let end = segment.offset as usize + segment.len as usize;
        for from in (segment.offset as usize..end).step_by(arch::PAGE_SIZE) {
            let piece = &mut buffer[..arch::PAGE_SIZE.min(end - from)];
            if job.op == Op::Write {
                segment.folio.read(from, piece);
            }
            file(at, piece)?;
            if job.op == Op::Read {
                segment.folio.write(from, piece);
            }
            at += piece.len() as u64;
        }
    }
    Ok(())
}
