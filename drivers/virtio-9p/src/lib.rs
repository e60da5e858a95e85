//! Virtio 9P devices: a directory of the host's, by the mount tag that the device tells.
//!
//! **Idea.** A slot is a tag, the memory of a request's and an answer's message, and the pages of their payloads. A
//! caller takes a slot (or sleeps until there is one), puts the chain into the ring and sleeps until the interrupt
//! handler marks the slot as answered. Who is killed while it waits leaves the slot to the handler.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod channel;

use abi::Errno;
use abi::errno::Result;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use channel::{CHAIN, Virtio9p};
use klog::{pr_info, pr_warn};
use virtio::{Device, feature, kind};

/// The configuration has a mount tag.
const MOUNT_TAG: u64 = 1 << 0;
/// Requests under way at most.
const DEPTH: u16 = 128;
const TAG_LEN: usize = 0;
const TAG: usize = 2;
/// Longer tags than this are nobody's.
const LONGEST_TAG: u16 = 255;

/// Takes all virtio 9P devices into use. Boot, after `virtio::init`; process context.
pub fn init() {
    for device in virtio::take(kind::TRANSPORT_9P) {
        let name = String::from(device.name());
        if let Err(error) = probe(device) {
            pr_warn!("9pnet_virtio: {name}: {error}");
        }
    }
}

fn probe(mut device: Device) -> Result<()> {
    let features = device.negotiate(MOUNT_TAG | feature::INDIRECT | feature::EVENT_IDX)?;
    if features & MOUNT_TAG == 0 {
        device.fail();
        return Err(Errno::EINVAL);
    }
    let tag = read_tag(&device);
    let queue = device.make_queue(0, DEPTH, CHAIN)?;
    let channel = Arc::new(Virtio9p::new(queue, features & feature::INDIRECT != 0)?);
    let of = channel.clone();
    device.start(&[Arc::new(move || of.interrupt())], None, |_| 0)?;
    pr_info!("9pnet_virtio: {}: mount tag {}", device.name(), String::from_utf8_lossy(&tag));
    net9p::register(&tag, channel);
    Ok(())
}

fn read_tag(device: &Device) -> Vec<u8> {
    let len = device.config16(TAG_LEN).min(LONGEST_TAG);
    // Where the device says more than it has, the rest reads as 0xff: a tag that nobody types.
    (0..usize::from(len)).map(|at| device.config8(TAG + at)).collect()
}
