//! Plugs: a submitter that has more to come says so, and its requests are joined and sorted first.
//!
//! The plug belongs to whoever submits and passes it along, instead of to the task as in Linux: a call that
//! collects I/O shows it in its signature. Whoever waits for I/O that may still be in a plug finishes the
//! plug first.

use crate::bio::Bio;
use crate::device::BlockDevice;
use crate::disk::Disk;
use crate::request::Request;
use crate::submit;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;

/// Requests that a plug holds before it sends them (Linux's BLK_MAX_REQUEST_COUNT).
const HOLDS: usize = 32;
/// How many of the last requests a bio is compared with.
const LOOKS_AT: usize = 4;

/// Requests that are held back for a moment. Dropping it sends them.
#[derive(Default)]
pub struct Plug {
    requests: Vec<(Arc<Disk>, Box<Request>)>,
}

impl Plug {
    pub fn new() -> Plug {
        Plug::default()
    }

    /// Submits a bio to a device by way of this plug; its [`crate::EndBio`] gets it back in any case. May
    /// sleep.
    pub fn submit(&mut self, device: &Arc<BlockDevice>, bio: Box<Bio>) {
        submit::submit(device, bio, Some(self));
    }

    /// Sends what is held back. May not be called under a lock of this crate; does not sleep.
    pub fn finish(&mut self) {
        self.requests.sort_by_key(|(disk, request)| (Arc::as_ptr(disk) as usize, request.start));
        let mut last: Option<Arc<Disk>> = None;
        for (disk, request) in self.requests.drain(..) {
            if let Some(other) = last.take_if(|last| !Arc::ptr_eq(last, &disk)) {
                other.run_here();
            }
            disk.enqueue(request);
            last = Some(disk);
        }
        if let Some(disk) = last {
            disk.run_here();
        }
    }

    /// Joins a bio to a request held here, if one is its neighbour; else it comes back.
    pub(crate) fn join(&mut self, disk: &Arc<Disk>, mut bio: Box<Bio>) -> Option<Box<Bio>> {
        let limits = disk.limits_now();
        for (other, request) in self.requests.iter_mut().rev().take(LOOKS_AT) {
            if Arc::ptr_eq(other, disk)
                && let Some(side) = request.side_for(&bio)
            {
                bio = request.join(bio, side, &limits).err()?;
            }
        }
        Some(bio)
    }

    /// Holds a request back; it comes back when it must go at once.
    pub(crate) fn hold(&mut self, disk: &Arc<Disk>, request: Box<Request>) -> Result<(), Box<Request>> {
        if self.requests.len() >= HOLDS {
            self.finish();
        }
        if self.requests.try_reserve(1).is_err() {
            return Err(request);
        }
        self.requests.push((disk.clone(), request));
        Ok(())
    }
}

impl Drop for Plug {
    fn drop(&mut self) {
        self.finish();
    }
}
