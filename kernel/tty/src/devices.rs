//! The terminals' device numbers: ttyS0, tty, console, ptmx, and the slaves of pseudo-terminals.

use crate::file::TtyFile;
use crate::pty::{MasterFile, Pair, SLAVE_MAJOR};
use crate::tty::{Tty, by_device, console};
use abi::Errno;
use abi::errno::Result;
use abi::fcntl::O_NOCTTY;
use abi::stat::DevId;
use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;
use alloc::sync::Arc;
use core::fmt;
use kcore::Thread;
use sync::SpinLock;
use sync::levels::DeviceTable;
use vfs::device::{self, Kind};
use vfs::{Caller, OpsRef};

/// /dev/tty, /dev/console and /dev/ptmx.
const AUX_MAJOR: u32 = 5;
/// Serial ports.
const SERIAL_MAJOR: u32 = 4;
const SERIAL_FIRST: u32 = 64;
const SERIAL_COUNT: u32 = 64;
const PTS_COUNT: u32 = 1 << 20;

/// Pseudo-terminals at once (Linux's kernel.pty.max).
const PAIRS_MAX: u32 = 4096;

/// A pseudo-terminal that exists, and who opened its master.
#[derive(Clone)]
pub struct Pts {
    pub pair: Arc<Pair>,
    pub uid: u32,
    pub gid: u32,
}

static PAIRS: SpinLock<BTreeMap<u32, Pts>, DeviceTable> = SpinLock::new(BTreeMap::new());

/// Registers the numbers and announces the nodes of /dev. Boot, once, when the serial port is known.
pub fn init() -> Result<()> {
    let number = |major, minor| DevId::new(major, minor);
    device::register(Kind::Char, number(SERIAL_MAJOR, SERIAL_FIRST), SERIAL_COUNT, "ttyS", open_serial)?;
    device::register(Kind::Char, number(AUX_MAJOR, 0), 1, "/dev/tty", open_controlling)?;
    device::register(Kind::Char, number(AUX_MAJOR, 1), 1, "/dev/console", open_console)?;
    device::register(Kind::Char, number(AUX_MAJOR, 2), 1, "/dev/ptmx", open_master)?;
    device::register(Kind::Char, number(SLAVE_MAJOR, 0), PTS_COUNT, "pts", open_slave)?;
    device::add_node("tty", Kind::Char, number(AUX_MAJOR, 0), 0o666);
    device::add_node("console", Kind::Char, number(AUX_MAJOR, 1), 0o600);
    device::add_node("ptmx", Kind::Char, number(AUX_MAJOR, 2), 0o666);
    crate::tty::for_each(|tty| device::add_node(&tty.name, Kind::Char, tty.dev, 0o660));
    Ok(())
}

/// Makes a terminal known that a driver found, with its number and node; `driver` is its name in /proc/devices.
/// Process context, after [`init`].
pub fn announce(tty: &Arc<Tty>, driver: &'static str) -> Result<()> {
    device::register(Kind::Char, tty.dev, 1, driver, open_serial)?;
    crate::tty::register(tty.clone());
    device::add_node(&tty.name, Kind::Char, tty.dev, 0o660);
    Ok(())
}

/// The text of /proc/tty/drivers: where names of terminals come from, for ps.
pub fn show_drivers(out: &mut dyn fmt::Write) -> fmt::Result {
    let serial_last = SERIAL_FIRST + SERIAL_COUNT - 1;
    let pts_last = PTS_COUNT - 1;
    let drivers = [
        ("/dev/tty", "/dev/tty", AUX_MAJOR, 0, 0, "system:/dev/tty"),
        ("/dev/console", "/dev/console", AUX_MAJOR, 1, 1, "system:console"),
        ("/dev/ptmx", "/dev/ptmx", AUX_MAJOR, 2, 2, "system"),
        ("serial", "/dev/ttyS", SERIAL_MAJOR, SERIAL_FIRST, serial_last, "serial"),
        ("pty_slave", "/dev/pts", SLAVE_MAJOR, 0, pts_last, "pty:slave"),
    ];
    for (driver, name, major, first, last, kind) in drivers {
        write!(out, "{driver:<20} {name:<8} {major:>3} ")?;
        if first == last {
            write!(out, "{first:>7} ")?;
        } else {
            write!(out, "{first}-{last} ")?;
        }
        writeln!(out, "{kind}")?;
    }
    Ok(())
}

/// The pseudo-terminal of a number.
pub fn pts(number: u32) -> Option<Pts> {
    PAIRS.lock().get(&number).cloned()
}

/// The numbers of the pseudo-terminals from `from` on.
pub fn next_pts(from: u32) -> Option<u32> {
    PAIRS.lock().range(from..).next().map(|(number, _)| *number)
}

fn open_tty(tty: &Arc<Tty>, flags: u32) -> Result<OpsRef> {
    TtyFile::open(tty, flags).map(OpsRef::shared)
}

fn open_serial(dev: DevId, flags: u32, _caller: &Caller) -> Result<OpsRef> {
    open_tty(&by_device(dev).ok_or(Errno::ENXIO)?, flags)
}

/// The console never becomes a controlling terminal by being opened (console(4)).
fn open_console(_dev: DevId, flags: u32, _caller: &Caller) -> Result<OpsRef> {
    open_tty(console().ok_or(Errno::ENODEV)?, flags | O_NOCTTY)
}

/// /dev/tty is the caller's controlling terminal, ENXIO without one.
fn open_controlling(_dev: DevId, flags: u32, _caller: &Caller) -> Result<OpsRef> {
    let process = Thread::current().ok_or(Errno::ENXIO)?.process().clone();
    let terminal = process.terminal().ok_or(Errno::ENXIO)?;
    let dev = DevId::decode(terminal.device_number());
    let tty = match by_device(dev) {
        Some(tty) => tty,
        None => pts(dev.minor).ok_or(Errno::EIO)?.pair.slave().clone(),
    };
    open_tty(&tty, flags | O_NOCTTY)
}

fn open_master(_dev: DevId, _flags: u32, caller: &Caller) -> Result<OpsRef> {
    let pair = loop {
        let number = free_number(&PAIRS.lock())?;
        let pair = Pair::new(number);
        // Made without the lock: meanwhile the number may have been taken.
        if let Entry::Vacant(place) = PAIRS.lock().entry(number) {
            place.insert(Pts { pair: pair.clone(), uid: caller.cred.fsuid, gid: caller.cred.fsgid });
            break pair;
        }
    };
    let forget = |number: u32| {
        let removed = PAIRS.lock().remove(&number);
        drop(removed);
    };
    Ok(OpsRef::shared(MasterFile::new(pair, forget)))
}

/// The lowest number that no pseudo-terminal has. ENOSPC when there are as many as there may be.
fn free_number(pairs: &BTreeMap<u32, Pts>) -> Result<u32> {
    let number = pairs.keys().zip(0..).find(|(used, number)| *used != number).map(|(_, number)| number);
    let number = number.unwrap_or(pairs.len() as u32);
    if number < PAIRS_MAX { Ok(number) } else { Err(Errno::ENOSPC) }
}

fn open_slave(dev: DevId, flags: u32, _caller: &Caller) -> Result<OpsRef> {
    let pts = pts(dev.minor).ok_or(Errno::ENXIO)?;
    pts.pair.open_slave(flags).map(OpsRef::shared)
}
