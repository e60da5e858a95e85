//! `/sys/class/zram-control`: devices come and go (Linux's Documentation/admin-guide/blockdev/zram.rst).

use crate::device::{self, Zram};
use abi::Errno;
use abi::errno::Result;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt::Write;
use kernfs::{Asker, Meta, Node, SYS, Text, TextBuf, knob};
use sync::SpinLock;
use sync::levels::Leaf;

/// By number; `None`: on its way to be there, or to be gone.
static DEVICES: SpinLock<Vec<(u32, Option<Arc<Zram>>)>, Leaf> = SpinLock::new(Vec::new());

/// Registers the files. Boot.
pub(crate) fn register() {
    SYS.add("class/zram-control/hot_add", Node::Text(Arc::new(HotAdd)));
    let store = |text: &str| remove(text.parse().map_err(|_| Errno::EINVAL)?);
    SYS.add("class/zram-control/hot_remove", knob(0o200, |_| Ok(()), store));
}

/// To read it makes a device and tells its number.
struct HotAdd;

impl Meta for HotAdd {
    fn mode(&self) -> u32 {
        0o400
    }
}

impl Text for HotAdd {
    fn show(&self, out: &mut TextBuf, _asker: &Asker) -> Result<()> {
        let number = add()?;
        writeln!(out, "{number}").map_err(|_| Errno::ENOMEM)
    }
}

/// Makes a device with the first free number, which it returns. ENOMEM.
pub(crate) fn add() -> Result<u32> {
    let number = {
        let mut devices = DEVICES.lock();
        let taken = |number: &u32| devices.iter().any(|(other, _)| other == number);
        let number = (0..1 << 20).find(|number| !taken(number)).ok_or(Errno::ENOSPC)?;
        devices.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        devices.push((number, None));
        number
    };
    // Without the lock: to announce it may sleep.
    let made = device::make(number);
    match made {
        Ok(device) => put_back(number, device),
        Err(error) => {
            forget(number);
            return Err(error);
        }
    }
    Ok(number)
}

/// ENODEV for a number that there is not, EBUSY while the device is in use.
fn remove(number: u32) -> Result<()> {
    let found = {
        let mut devices = DEVICES.lock();
        devices.iter_mut().find(|(other, _)| *other == number).and_then(|(_, device)| device.take())
    };
    let device = found.ok_or(Errno::ENODEV)?;
    let removed = device.remove();
    match removed {
        Ok(()) => forget(number),
        Err(_) => put_back(number, device),
    }
    removed
}

fn put_back(number: u32, device: Arc<Zram>) {
    if let Some((_, place)) = DEVICES.lock().iter_mut().find(|(other, _)| *other == number) {
        *place = Some(device);
    }
}

fn forget(number: u32) {
    DEVICES.lock().retain(|(other, _)| *other != number);
}
