//! /dev/loop-control, and the devices there are.

use crate::bind::Loop;
use abi::block::{LOOP_CTL_ADD, LOOP_CTL_GET_FREE, LOOP_CTL_REMOVE};
use abi::stat::DevId;
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use sync::levels::Admin;
use task::Mutex;
use vfs::device::{Kind, add_node, register};
use vfs::{Caller, File, FileOps, OpsRef};

/// Major and minor number of loop-control (include/linux/miscdevice.h).
const CONTROL: DevId = DevId::new(10, 237);

/// By number.
static LOOPS: Mutex<Vec<(u32, Arc<Loop>)>, Admin> = Mutex::new(Vec::new());

/// Makes the control device. Boot, after `block::init`.
pub fn init() -> Result<()> {
    let open = |_: DevId, _: u32, _: &Caller| Ok(OpsRef::Static(&Control));
    register(Kind::Char, CONTROL, 1, "loop-control", open)?;
    add_node("loop-control", Kind::Char, CONTROL, 0o660);
    Ok(())
}

struct Control;

impl FileOps for Control {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<usize> {
        match command {
            LOOP_CTL_GET_FREE => free().map(|number| number as usize),
            LOOP_CTL_ADD => {
                let number = u32::try_from(argument).map_err(|_| Errno::EINVAL)?;
                add(number).map(|()| number as usize)
            }
            LOOP_CTL_REMOVE => {
                let number = u32::try_from(argument).map_err(|_| Errno::EINVAL)?;
                remove(number).map(|()| 0)
            }
            _ => Err(Errno::ENOSYS),
        }
    }
}

/// The first device that no file is bound to, made if there is none.
fn free() -> Result<u32> {
    let number = {
        let loops = LOOPS.lock();
        if let Some((number, _)) = loops.iter().find(|(_, device)| !device.is_bound()) {
            return Ok(*number);
        }
        (0..).find(|number| loops.iter().all(|(other, _)| other != number)).ok_or(Errno::ENOSPC)?
    };
    add(number).map(|()| number)
}

/// ENODEV for a number that there is not, EBUSY while a file is bound or somebody has the device open.
fn remove(number: u32) -> Result<()> {
    let mut loops = LOOPS.lock();
    let at = loops.iter().position(|(other, _)| *other == number).ok_or(Errno::ENODEV)?;
    let device = &loops[at].1;
    if device.is_bound() {
        return Err(Errno::EBUSY);
    }
    block::del_disk(&device.disk().ok_or(Errno::ENODEV)?)?;
    loops.remove(at).1.end();
    Ok(())
}

fn add(number: u32) -> Result<()> {
    /// Minor numbers of a major.
    const MOST: u32 = 1 << 20;
    let mut loops = LOOPS.lock();
    if number >= MOST {
        return Err(Errno::EINVAL);
    }
    if loops.iter().any(|(other, _)| *other == number) {
        return Err(Errno::EEXIST);
    }
    loops.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
    let device = Loop::make(number)?;
    loops.push((number, device));
    Ok(())
}
