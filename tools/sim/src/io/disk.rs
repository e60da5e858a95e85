//! Modelled disks: how long a request takes, given where the last one ended.
//!
//! The rotating disk has an arm (time grows with the root of the distance, as arms accelerate and brake), a
//! platter that turns meanwhile (7200 a minute), and one head: one request at a time. The solid-state disk
//! has channels that work side by side and a queue in front of them that no scheduler sees.

use crate::rng::Rng;
use iosched_api::{Dir, Request};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

const US: u64 = 1_000;
const MS: u64 = 1_000_000;

/// Which one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Hdd,
    Ssd,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Hdd => "hdd",
            Kind::Ssd => "ssd",
        }
    }

    /// Sectors of 512 bytes.
    pub fn sectors(self) -> u64 {
        match self {
            Kind::Hdd => 1 << 30,
            Kind::Ssd => 1 << 29,
        }
    }

    /// Requests that the device takes at once.
    pub fn depth(self) -> usize {
        match self {
            Kind::Hdd => 1,
            Kind::Ssd => 128,
        }
    }
}

/// A disk in use.
pub enum Disk {
    Hdd { position: u64 },
    Ssd { channels: BinaryHeap<Reverse<u64>>, rng: Rng },
}

/// One revolution, and sectors on a track.
const REVOLUTION_NS: u64 = 60_000 * MS / 7_200;
const TRACK: u64 = 2_048;

/// The arm: settling, and the time across all of the disk.
const SETTLE_NS: u64 = 700 * US;
const FULL_STROKE_NS: u64 = 15 * MS;

const CHANNELS: usize = 8;
const SSD_READ_NS: u64 = 80 * US;
const SSD_WRITE_NS: u64 = 250 * US;
/// A page of flash, in sectors: what one access of a channel moves.
const SSD_PAGE: u64 = 32;

impl Disk {
    pub fn new(kind: Kind, seed: u64) -> Disk {
        match kind {
            Kind::Hdd => Disk::Hdd { position: 0 },
            Kind::Ssd => {
                let channels = (0..CHANNELS).map(|_| Reverse(0)).collect();
                Disk::Ssd { channels, rng: Rng::new(seed) }
            }
        }
    }

    /// When a request is done that the device is given now.
    pub fn serve(&mut self, request: &Request, now_ns: u64) -> u64 {
        match self {
            Disk::Hdd { position } => {
                let arrived_ns = now_ns + seek_ns(*position, request.start);
                *position = request.end();
                let angle = |sector: u64| sector % TRACK * REVOLUTION_NS / TRACK;
                let turned = arrived_ns % REVOLUTION_NS;
                let wait = (angle(request.start) + REVOLUTION_NS - turned) % REVOLUTION_NS;
                arrived_ns + wait + u64::from(request.sectors) * REVOLUTION_NS / TRACK
            }
            Disk::Ssd { channels, rng } => {
                let pages = u64::from(request.sectors).div_ceil(SSD_PAGE);
                let page_ns = if request.dir == Dir::Read { SSD_READ_NS } else { SSD_WRITE_NS };
                let mut done_ns = now_ns;
                for _ in 0..pages {
                    // The channel that is free first; flash varies by a quarter.
                    let Reverse(free_ns) = channels.pop().unwrap_or(Reverse(0));
                    let end_ns = free_ns.max(now_ns) + page_ns * 7 / 8 + rng.below(page_ns / 4);
                    channels.push(Reverse(end_ns));
                    done_ns = done_ns.max(end_ns);
                }
                done_ns
            }
        }
    }
}

fn seek_ns(from: u64, to: u64) -> u64 {
    let distance = from.abs_diff(to);
    if distance < TRACK {
        return 0;
    }
    let part = (distance as f64 / Kind::Hdd.sectors() as f64).sqrt();
    SETTLE_NS + ((FULL_STROKE_NS - SETTLE_NS) as f64 * part) as u64
}
