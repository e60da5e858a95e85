//! The flush machine: order where the device's cache would lose it.
//!
//! **Problem.** A device with a write cache says "done" before the data are safe. A bio with `PREFLUSH`
//! wants all earlier writes safe before its own, one with `FUA` wants its own safe before it is done.
//!
//! **Idea.** Such a request goes through up to three steps, pre-flush, data, post-flush. Requests that wait
//! for a flush share it: one flush of the cache is under way at a time, those that come meanwhile wait for
//! the next, which serves all of them. (Linux's block/blk-flush.c; many fsyncs at once cost two flushes.)
//! A device without a cache does nothing of this, one that can do FUA skips the last step.

use crate::bio::{Bio, BioFlags, Op};
use crate::disk::Disk;
use crate::request::{Request, Stage};
use crate::stats::Group;
use abi::Errno;
use abi::errno::Result;
use alloc::boxed::Box;
use alloc::vec::Vec;

/// The machine's state.
pub(crate) struct Flushes {
    /// Wait for the next flush.
    pending: Vec<Box<Request>>,
    /// Wait for the one under way.
    running: Vec<Box<Request>>,
    /// The flush itself while it is not under way.
    own: Option<Box<Request>>,
}

impl Flushes {
    /// For a disk of so many requests: what an interrupt puts on a list needs no memory. ENOMEM.
    pub(crate) fn new(requests: usize) -> Result<Flushes> {
        let room = || -> Result<Vec<Box<Request>>> {
            let mut list = Vec::new();
            list.try_reserve_exact(requests).map_err(|_| Errno::ENOMEM)?;
            Ok(list)
        };
        Ok(Flushes { pending: room()?, running: room()?, own: Some(Box::new(Request::empty())) })
    }
}

/// What a bio needs on this disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Need {
    /// It may go like any other.
    Nothing,
    /// There is nothing to do at all: a flush where nothing is cached.
    Done,
    Machine,
}

impl Disk {
    /// Takes the flags off that mean nothing here, and says what is left to do.
    pub(crate) fn flush_need(&self, bio: &mut Bio) -> Need {
        let limits = self.limits();
        if !limits.write_cache {
            bio.flags.remove(BioFlags::PREFLUSH | BioFlags::FUA);
            return if bio.op == Op::Flush { Need::Done } else { Need::Nothing };
        }
        let post = bio.flags.contains(BioFlags::FUA) && !limits.fua;
        if bio.op == Op::Flush || bio.flags.contains(BioFlags::PREFLUSH) || post {
            return Need::Machine;
        }
        Need::Nothing
    }

    /// A request enters the machine.
    pub(crate) fn flush_begin(&self, mut request: Box<Request>) {
        if request.op == Op::Flush || request.flags.contains(BioFlags::PREFLUSH) {
            request.stage = Stage::Pre;
            self.wait_for_flush(request);
        } else {
            request.stage = Stage::Data;
            self.push_first(request);
        }
    }

    fn wait_for_flush(&self, request: Box<Request>) {
        self.flushes.lock().pending.push(request);
        self.kick_flush();
    }

    /// Sends a flush if requests wait for one and none is under way.
    fn kick_flush(&self) {
        let mut flushes = self.flushes.lock();
        if flushes.pending.is_empty() {
            return;
        }
        let Some(mut own) = flushes.own.take() else { return };
        let Flushes { pending, running, .. } = &mut *flushes;
        core::mem::swap(pending, running);
        drop(flushes);
        (own.op, own.stage) = (Op::Flush, Stage::Flush);
        own.began_ns = arch::timer::now_ns();
        self.push_first(own);
    }

    /// A request of the machine has come back from the device.
    pub(crate) fn flush_step(&self, mut request: Box<Request>, result: Result<()>) {
        match request.stage {
            Stage::Flush => self.flush_done(request, result),
            Stage::Data if result.is_ok() && self.needs_post(&request) => {
                request.stage = Stage::Post;
                self.wait_for_flush(request);
            }
            _ => self.end_bios(request, result, arch::timer::now_ns()),
        }
    }

    fn needs_post(&self, request: &Request) -> bool {
        request.flags.contains(BioFlags::FUA) && !self.limits().fua
    }

    /// The flush is done: everybody who waited for it goes on.
    fn flush_done(&self, own: Box<Request>, result: Result<()>) {
        let now_ns = arch::timer::now_ns();
        self.whole().stats().flushed(own.began_ns, now_ns);
        // No other flush is sent before these are off the list, whose room is the next one's.
        let mut waiters = core::mem::take(&mut self.flushes.lock().running);
        for mut request in waiters.drain(..) {
            if result.is_ok() && request.stage == Stage::Pre && request.op != Op::Flush {
                request.stage = Stage::Data;
                self.push_first(request);
            } else {
                self.end_bios(request, result, now_ns);
            }
        }
        let mut flushes = self.flushes.lock();
        flushes.running = waiters;
        flushes.own = Some(own);
        drop(flushes);
        self.kick_flush();
    }
}

impl Group {
    /// Whether requests of this group show as in flight.
    pub(crate) fn is_tracked(self) -> bool {
        self != Group::Flush
    }
}
