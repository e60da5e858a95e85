//! The devices of major number 1 (null(4), zero(4), full(4), random(4)).

use abi::stat::DevId;
use abi::{Errno, errno::Result};
use core::any::Any;
use mem::user;
use vfs::device::{Kind, add_node, register};
use vfs::{Caller, File, FileOps, FileTraits, IoBuf, OpsRef, random};
use vm::MapSource;

const MAJOR: u32 = 1;

const NULL: u32 = 3;
const ZERO: u32 = 5;
const FULL: u32 = 7;
const RANDOM: u32 = 8;
const URANDOM: u32 = 9;
const KMSG: u32 = 11;

pub(crate) fn init() -> Result<()> {
    for (minor, name, mode) in [
        (NULL, "null", 0o666),
        (ZERO, "zero", 0o666),
        (FULL, "full", 0o666),
        (RANDOM, "random", 0o666),
        (URANDOM, "urandom", 0o666),
        (KMSG, "kmsg", 0o644),
    ] {
        register(Kind::Char, DevId::new(MAJOR, minor), 1, "mem", open)?;
        add_node(name, Kind::Char, DevId::new(MAJOR, minor), mode);
    }
    Ok(())
}

fn open(dev: DevId, _flags: u32, _caller: &Caller) -> Result<OpsRef> {
    match dev.minor {
        NULL => Ok(OpsRef::Static(&Null)),
        ZERO => Ok(OpsRef::Static(&Zero)),
        FULL => Ok(OpsRef::Static(&Full)),
        RANDOM | URANDOM => Ok(OpsRef::Static(&Random)),
        KMSG => Ok(OpsRef::shared(crate::kmsg::OpenLog::new())),
        _ => Err(Errno::ENXIO),
    }
}

/// Writes zeroes page by page; a signal ends a long read early.
fn read_zeros(buf: &mut IoBuf) -> Result<usize> {
    loop {
        match buf.put_zeros(buf.remaining().min(arch::PAGE_SIZE)) {
            Err(error) if buf.done() == 0 => return Err(error),
            Ok(_) if buf.remaining() > 0 && !task::current().signal_pending() => {}
            _ => return Ok(buf.done()),
        }
    }
}

struct Null;

impl FileOps for Null {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::NO_POSITION
    }

    fn read(&self, _file: &File, _pos: &mut u64, _buf: &mut IoBuf) -> Result<usize> {
        Ok(0)
    }

    fn write(&self, _file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        Ok(buf.skip(buf.remaining()))
    }
}

struct Zero;

impl FileOps for Zero {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::NO_POSITION
    }

    fn read(&self, _file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        read_zeros(buf)
    }

    fn write(&self, _file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        Ok(buf.skip(buf.remaining()))
    }

    fn map_source(&self, _file: &File) -> Result<MapSource> {
        Ok(MapSource::Anonymous)
    }
}

struct Full;

impl FileOps for Full {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::NO_POSITION
    }

    fn read(&self, _file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        read_zeros(buf)
    }

    fn write(&self, _file: &File, _pos: &mut u64, _buf: &mut IoBuf) -> Result<usize> {
        Err(Errno::ENOSPC)
    }
}

struct Random;

/// ioctls of random(4): entropy count, add to it, add entropy, clear pool, reseed.
const RNDGETENTCNT: u32 = 0x8004_5200;
const ENTROPY_BITS: i32 = 256;

impl FileOps for Random {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::NO_POSITION | FileTraits::POLLABLE
    }

    fn read(&self, _file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        random::fill_user(buf)
    }

    /// What a program writes is mixed in; it makes nothing worse.
    fn write(&self, _file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let mut chunk = [0; 64];
        while buf.remaining() > 0 {
            let len = buf.remaining().min(chunk.len());
            match buf.take(&mut chunk[..len]) {
                Ok(count) => {
                    random::mix(&chunk[..count]);
                    if count < len {
                        break;
                    }
                }
                Err(error) if buf.done() == 0 => return Err(error),
                Err(_) => break,
            }
        }
        Ok(buf.done())
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<usize> {
        if command != RNDGETENTCNT {
            return Err(Errno::ENOTTY);
        }
        user::write(argument, &ENTROPY_BITS.to_ne_bytes()).map_err(|_| Errno::EFAULT)?;
        Ok(0)
    }
}
