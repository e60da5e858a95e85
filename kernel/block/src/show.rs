//! The files about disks: /proc/partitions, /proc/diskstats, /sys/block, /sys/class/block, /sys/dev/block.
//!
//! A disk's directory is `/sys/devices/virtual/block/NAME`, with its partitions' directories inside; the other
//! places have links, as on Linux. Formats: Linux's Documentation/ABI/stable/sysfs-block.

use crate::device::{BlockDevice, devices};
use crate::disk::Disk;
use crate::{queue_files, sysfs_link};
use alloc::format;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::fmt::{self, Write};
use kernfs::{PROC, SYS, TextBuf, text};

pub(crate) fn init() {
    PROC.add("partitions", text(show_partitions));
    PROC.add("diskstats", text(show_diskstats));
    for place in ["block", "class/block", "dev/block"] {
        // Programs list these also when there is no disk.
        SYS.add(place, kernfs::Node::Dir(Arc::new(kernfs::SubTree(kernfs::Tree::new()))));
    }
}

fn show_partitions(out: &mut TextBuf) -> fmt::Result {
    writeln!(out, "major minor  #blocks  name\n")?;
    for device in devices().iter().filter(|device| device.sectors() > 0) {
        let dev = device.dev();
        writeln!(out, "{:4}  {:7} {:10} {}", dev.major, dev.minor, device.sectors() / 2, device.name())?;
    }
    Ok(())
}

fn show_diskstats(out: &mut TextBuf) -> fmt::Result {
    for device in devices() {
        let dev = device.dev();
        write!(out, "{:4} {:7} {}", dev.major, dev.minor, device.name())?;
        device.stats().write(out, 0)?;
        writeln!(out)?;
    }
    Ok(())
}

fn disk_path(disk: &Disk) -> String {
    format!("devices/virtual/block/{}", disk.name())
}

/// A read-only file about a device that may be gone.
fn device_file(
    dir: &str,
    name: &str,
    device: &Arc<BlockDevice>,
    show: impl Fn(&BlockDevice, &mut TextBuf) -> fmt::Result + Send + Sync + 'static,
) {
    let device: Weak<BlockDevice> = Arc::downgrade(device);
    let show = move |out: &mut TextBuf| device.upgrade().map_or(Ok(()), |device| show(&device, out));
    SYS.add(&format!("{dir}/{name}"), text(show));
}

/// What disks and partitions have in common.
fn add_common(dir: &str, device: &Arc<BlockDevice>) {
    device_file(dir, "dev", device, |d, out| writeln!(out, "{}:{}", d.dev().major, d.dev().minor));
    device_file(dir, "size", device, |d, out| writeln!(out, "{}", d.sectors()));
    device_file(dir, "ro", device, |d, out| writeln!(out, "{}", u8::from(d.is_read_only())));
    device_file(dir, "alignment_offset", device, |_, out| writeln!(out, "0"));
    device_file(dir, "discard_alignment", device, |_, out| writeln!(out, "0"));
    device_file(dir, "inflight", device, |d, out| {
        let [reads, writes] = d.stats().in_flight();
        writeln!(out, "{reads:8} {writes:8}")
    });
    device_file(dir, "stat", device, |d, out| {
        let mut line = String::new();
        d.stats().write(&mut line, 8)?;
        writeln!(out, "{}", line.strip_prefix(' ').unwrap_or(&line))
    });
    device_file(dir, "uevent", device, |d, out| {
        let (dev, part) = (d.dev(), d.partition_number());
        writeln!(out, "MAJOR={}\nMINOR={}\nDEVNAME={}", dev.major, dev.minor, d.name())?;
        if part == 0 {
            return writeln!(out, "DEVTYPE=disk");
        }
        writeln!(out, "DEVTYPE=partition\nPARTN={part}")?;
        if d.label().name.is_empty() { Ok(()) } else { writeln!(out, "PARTNAME={}", d.label().name) }
    });
    let dev = device.dev();
    for (place, up) in [("class/block", "../.."), ("dev/block", "../..")] {
        let name = match place {
            "dev/block" => format!("{}:{}", dev.major, dev.minor),
            _ => device.name().into(),
        };
        SYS.add(&format!("{place}/{name}"), sysfs_link::to(format!("{up}/{dir}")));
    }
}

pub(crate) fn add_disk(disk: &Arc<Disk>) {
    let dir = disk_path(disk);
    let whole = disk.whole();
    add_common(&dir, whole);
    device_file(&dir, "removable", whole, |d, out| writeln!(out, "{}", u8::from(d.disk().info().removable)));
    device_file(&dir, "range", whole, |d, out| writeln!(out, "{}", d.disk().info().minors.max(1)));
    device_file(&dir, "ext_range", whole, |d, out| {
        writeln!(out, "{}", if d.disk().info().partitions { partitions::MAX_PARTITIONS } else { 1 })
    });
    device_file(&dir, "hidden", whole, |_, out| writeln!(out, "0"));
    for (path, value) in disk.driver.attributes() {
        SYS.add(&format!("{dir}/{path}"), text(move |out| out.write_str(&value)));
    }
    queue_files::add(&dir, disk);
    SYS.add(&format!("block/{}", disk.name()), sysfs_link::to(format!("../{dir}")));
}

pub(crate) fn remove_disk(disk: &Disk) {
    let dev = disk.info().dev;
    SYS.remove(&format!("block/{}", disk.name()));
    SYS.remove(&format!("class/block/{}", disk.name()));
    SYS.remove(&format!("dev/block/{}:{}", dev.major, dev.minor));
    SYS.remove(&disk_path(disk));
}

pub(crate) fn add_partition(disk: &Disk, part: &Arc<BlockDevice>) {
    let dir = format!("{}/{}", disk_path(disk), part.name());
    add_common(&dir, part);
    device_file(&dir, "partition", part, |d, out| writeln!(out, "{}", d.partition_number()));
    device_file(&dir, "start", part, |d, out| writeln!(out, "{}", d.start()));
}

pub(crate) fn remove_partition(disk: &Disk, part: &BlockDevice) {
    let dev = part.dev();
    SYS.remove(&format!("{}/{}", disk_path(disk), part.name()));
    SYS.remove(&format!("class/block/{}", part.name()));
    SYS.remove(&format!("dev/block/{}:{}", dev.major, dev.minor));
}
