//! Device numbers: who opens major:minor, and which nodes /dev shows.
//!
//! Drivers register ranges of numbers with an opener ([`register`]) and announce nodes ([`add_node`]);
//! devtmpfs shows the nodes, and every file system's device inodes come here when they are opened.

use crate::file::OpsRef;
use crate::fs_context::Caller;
use crate::inode::InodeRef;
use abi::stat::{DevId, S_IFBLK, S_IFCHR};
use abi::{Errno, errno::Result};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use sync::levels::DeviceTable;
use sync::{Once, SpinLock};

/// The two name spaces of device numbers.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    Char,
    Block,
}

impl Kind {
    /// The type bits of a node's mode.
    pub fn mode_bits(self) -> u32 {
        match self {
            Kind::Char => S_IFCHR,
            Kind::Block => S_IFBLK,
        }
    }
}

/// Opens one device of a range. May sleep.
pub trait Opener: Send + Sync {
    fn open(&self, dev: DevId, flags: u32, caller: &Caller) -> Result<OpsRef>;
}

impl<F: Fn(DevId, u32, &Caller) -> Result<OpsRef> + Send + Sync> Opener for F {
    fn open(&self, dev: DevId, flags: u32, caller: &Caller) -> Result<OpsRef> {
        self(dev, flags, caller)
    }
}

struct Range {
    count: u32,
    name: &'static str,
    opener: Arc<dyn Opener>,
}

/// By kind, major, first minor.
static RANGES: SpinLock<BTreeMap<(Kind, u32, u32), Range>, DeviceTable> = SpinLock::new(BTreeMap::new());

/// Takes `count` minors from `first` on; `name` shows in /proc/devices. EBUSY when one is taken.
pub fn register(
    kind: Kind,
    first: DevId,
    count: u32,
    name: &'static str,
    opener: impl Opener + 'static,
) -> Result<()> {
    let opener = Arc::new(opener);
    let mut ranges = RANGES.lock();
    let last = first.minor.saturating_add(count.max(1) - 1);
    let key = (kind, first.major, last);
    let below = ranges.range((kind, first.major, 0)..=key).next_back();
    if below.is_some_and(|(at, range)| at.2.saturating_add(range.count) > first.minor) {
        return Err(Errno::EBUSY);
    }
    ranges.insert((kind, first.major, first.minor), Range { count, name, opener });
    Ok(())
}

/// Gives a range back.
pub fn unregister(kind: Kind, first: DevId) {
    let removed = RANGES.lock().remove(&(kind, first.major, first.minor));
    drop(removed);
}

/// Opens the device an inode stands for. ENXIO when nobody drives it.
pub fn open(kind: Kind, inode: &InodeRef, flags: u32, caller: &Caller) -> Result<OpsRef> {
    let dev = inode.rdev;
    let opener = {
        let ranges = RANGES.lock();
        let below = ranges.range((kind, dev.major, 0)..=(kind, dev.major, dev.minor)).next_back();
        let range = below.filter(|(at, range)| dev.minor - at.2 < range.count).map(|(_, range)| range);
        range.ok_or(Errno::ENXIO)?.opener.clone()
    };
    opener.open(dev, flags, caller)
}

/// The text of /proc/devices.
pub fn show_devices(out: &mut dyn fmt::Write) -> fmt::Result {
    let mut lines: Vec<(Kind, u32, &'static str)> =
        RANGES.lock().iter().map(|((kind, major, _), range)| (*kind, *major, range.name)).collect();
    lines.dedup_by_key(|line| (line.0, line.1));
    for (kind, title) in [(Kind::Char, "Character"), (Kind::Block, "\nBlock")] {
        writeln!(out, "{title} devices:")?;
        for (_, major, name) in lines.iter().filter(|line| line.0 == kind) {
            writeln!(out, "{major:3} {name}")?;
        }
    }
    Ok(())
}

/// The text of /proc/misc: the devices of major number 10 by their nodes, the newest first.
pub fn show_misc(out: &mut dyn fmt::Write) -> fmt::Result {
    const MISC_MAJOR: u32 = 10;
    let nodes = NODES.lock().clone();
    let is_misc = |node: &&Node| node.kind == Kind::Char && node.dev.major == MISC_MAJOR;
    nodes
        .iter()
        .rev()
        .filter(is_misc)
        .try_for_each(|node| writeln!(out, "{:3} {}", node.dev.minor, node.name))
}

/// A node that /dev shows.
#[derive(Clone, Debug)]
pub struct Node {
    /// Below /dev, may contain slashes.
    pub name: String,
    pub kind: Kind,
    pub dev: DevId,
    /// Permission bits.
    pub mode: u32,
    pub gid: u32,
}

static NODES: SpinLock<Vec<Node>, DeviceTable> = SpinLock::new(Vec::new());

/// What devtmpfs does with a node that came (`true`) or went.
pub type NodeListener = fn(&Node, bool);

static LISTENER: Once<NodeListener> = Once::new();

/// Announces a device for /dev. Process context.
pub fn add_node(name: &str, kind: Kind, dev: DevId, mode: u32) {
    let node = Node { name: name.into(), kind, dev, mode, gid: 0 };
    NODES.lock().push(node.clone());
    if let Some(listener) = LISTENER.get() {
        listener(&node, true);
    }
}

/// Takes a node away.
pub fn remove_node(name: &str) {
    let mut nodes = NODES.lock();
    let Some(at) = nodes.iter().position(|node| node.name == name) else { return };
    let node = nodes.swap_remove(at);
    drop(nodes);
    if let Some(listener) = LISTENER.get() {
        listener(&node, false);
    }
}

/// All nodes announced so far, and from now on a call for each change. Once, by devtmpfs.
pub fn listen(listener: NodeListener) -> Vec<Node> {
    let nodes = NODES.lock();
    let _ = LISTENER.set(listener);
    nodes.clone()
}
