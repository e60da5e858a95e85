//! /proc/kmsg: the kernel's log for one reader, who gets each line once (proc_kmsg(5)).

use abi::cap::{CAP_SYS_ADMIN, CAP_SYSLOG};
use abi::poll::PollEvents;
use abi::{Errno, errno::Result};
use core::any::Any;
use kcore::syslog;
use kernfs::{Meta, Opens};
use task::WaitQueue;
use vfs::{Caller, File, FileOps, FileTraits, IoBuf, OpsRef, PollTable};

pub struct Kmsg;

impl Meta for Kmsg {
    fn mode(&self) -> u32 {
        0o400
    }
}

impl Opens for Kmsg {
    fn open(&self, _flags: u32, caller: &Caller) -> Result<OpsRef> {
        if !caller.capable(CAP_SYSLOG) && !caller.capable(CAP_SYS_ADMIN) {
            return Err(Errno::EPERM);
        }
        Ok(OpsRef::Static(&OpenKmsg))
    }
}

struct OpenKmsg;

impl FileOps for OpenKmsg {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::NO_POSITION | FileTraits::POLLABLE
    }

    fn read(&self, _file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        syslog::read(buf)
    }

    fn wait_queue(&self, _file: &File, _events: PollEvents) -> Option<&WaitQueue> {
        Some(syslog::queue())
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.add(syslog::queue());
        }
        if syslog::is_unread() { PollEvents::READABLE } else { PollEvents::empty() }
    }
}
