//! pidfd_open(2): a process as a descriptor, whose number cannot come to mean another process.

use crate::process::{Process, ProcessState};
use crate::{Result, SubjectId};
use abi::Errno;
use abi::fcntl::{O_NONBLOCK, O_RDWR};
use abi::poll::PollEvents;
use alloc::sync::Arc;
use core::any::Any;
use core::fmt;
use task::WaitQueue;
use vfs::{File, FileOps, FileTraits, OpsRef, PollTable, anon};

/// The object behind the descriptor. It keeps the number and the record of the process, not its memory.
pub struct PidFd {
    process: Arc<Process>,
}

/// A descriptor's file for `process`.
pub fn create(process: Arc<Process>, nonblocking: bool) -> Arc<File> {
    let status = if nonblocking { O_NONBLOCK } else { 0 };
    anon::file("[pidfd]", OpsRef::shared(PidFd { process }), O_RDWR | status)
}

/// The process that a file stands for; EBADF for another kind of file.
pub fn process_of(file: &File) -> Result<&Arc<Process>> {
    file.ops_as::<PidFd>().map(|fd| &fd.process).ok_or(Errno::EBADF)
}

/// The process that pidfd_send_signal(2) means: a pidfd's, or the one whose `/proc/PID` is open, as on Linux. ESRCH when
/// that one was waited for, EBADF for another kind of file.
pub fn signalled_by(file: &File) -> Result<Arc<Process>> {
    match kernfs::object_of::<SubjectId>(file.inode()) {
        Some(id) => id.process().ok_or(Errno::ESRCH),
        None => process_of(file).cloned(),
    }
}

impl FileOps for PidFd {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::STREAM | FileTraits::POLLABLE
    }

    fn wait_queue(&self, _file: &File, _events: PollEvents) -> Option<&WaitQueue> {
        Some(&self.process.exit_wait)
    }

    /// Readable once the process has ended, whether it was waited for or not.
    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.add(&self.process.exit_wait);
        }
        match self.process.state() {
            ProcessState::Alive => PollEvents::empty(),
            ProcessState::Zombie => PollEvents::READABLE,
            ProcessState::Reaped => PollEvents::READABLE | PollEvents::HUP,
        }
    }

    fn show_fdinfo(&self, _file: &File, out: &mut dyn fmt::Write) -> fmt::Result {
        let pid = match self.process.state() {
            ProcessState::Reaped => -1,
            _ => i64::from(self.process.pid()),
        };
        writeln!(out, "Pid:\t{pid}\nNSpid:\t{pid}")
    }
}
