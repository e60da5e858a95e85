//! An open terminal.

use crate::tty::Tty;
use abi::Errno;
use abi::errno::Result;
use abi::fcntl::O_NOCTTY;
use abi::poll::PollEvents;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::Ordering::SeqCst;
use kcore::Thread;
use ldisc::ReadOutcome;
use task::{WaitMode, WaitQueue};
use vfs::{File, FileOps, FileTraits, IoBuf, PollTable};

/// Bytes moved between user memory and the terminal at a time.
const PIECE: usize = 256;

/// What a file of a terminal does.
pub struct TtyFile {
    tty: Arc<Tty>,
}

impl TtyFile {
    /// Opens a terminal with the flags of open(2): without O_NOCTTY it becomes the controlling terminal
    /// of a session leader that has none. EBUSY after TIOCEXCL, EIO once a pseudo-terminal hung up.
    pub fn open(tty: &Arc<Tty>, flags: u32) -> Result<TtyFile> {
        let thread = Thread::current();
        let privileged = thread.as_ref().is_none_or(|t| t.cred().capable(abi::cap::CAP_SYS_ADMIN));
        if tty.control.lock().exclusive && !privileged {
            return Err(Errno::EBUSY);
        }
        if tty.opens.fetch_add(1, SeqCst) == 0 {
            tty.revive();
        }
        if let Some(thread) = thread.filter(|_| flags & O_NOCTTY == 0) {
            // A session that may not have it simply does not get it.
            let _ = tty.acquire(thread.process(), false);
        }
        Ok(TtyFile { tty: tty.clone() })
    }

    pub fn tty(&self) -> &Arc<Tty> {
        &self.tty
    }

    /// Raw mode with a timer: VTIME counts from the call (VMIN 0) or from each byte on.
    fn read_timed(&self, file: &File, vmin: u8, vtime: u8, buf: &mut IoBuf) -> Result<usize> {
        let tenth_ns = 100_000_000;
        let wanted = usize::from(vmin).min(buf.remaining()).max(1);
        let mut done = 0;
        while done < wanted {
            let timer = vmin == 0 || done > 0;
            let deadline_ns = timer.then(|| time::monotonic_ns() + u64::from(vtime) * tenth_ns);
            let ready = || (self.tty.available() > 0 || self.tty.is_hung_up()).then_some(());
            if !file.is_nonblocking() {
                let end = self.tty.read_wait.wait_until(WaitMode::Interruptible, deadline_ns, ready);
                match end {
                    Err(task::WaitEnd::Timeout) => break,
                    Err(task::WaitEnd::Signal) if done == 0 => return Err(Errno::ERESTARTSYS),
                    Err(task::WaitEnd::Signal) => break,
                    Ok(()) => {}
                }
            }
            match self.take(buf, true)? {
                Some(0) => break,
                Some(count) => done += count,
                None if file.is_nonblocking() && done == 0 => return Err(Errno::EAGAIN),
                None => break,
            }
        }
        Ok(done)
    }

    /// Moves what is ready to the reader: `None` for nothing, `Some(0)` for the end.
    fn take(&self, buf: &mut IoBuf, waited: bool) -> Result<Option<usize>> {
        let mut piece = [0; PIECE];
        let mut done = 0;
        while buf.remaining() > 0 {
            let len = piece.len().min(buf.remaining());
            match self.tty.try_read(&mut piece[..len], waited || done > 0) {
                ReadOutcome::Bytes(0) => return Ok(Some(done)),
                ReadOutcome::Bytes(count) => {
                    done += buf.put(&piece[..count])?;
                    // A whole line, or the last of the raw input.
                    if count < len || piece[count - 1] == b'\n' {
                        break;
                    }
                }
                ReadOutcome::Empty => break,
            }
        }
        Ok((done > 0).then_some(done))
    }
}

impl Drop for TtyFile {
    fn drop(&mut self) {
        self.tty.opens.fetch_sub(1, SeqCst);
        // A master waits for its last slave to go.
        self.tty.hardware().input_wanted();
    }
}

impl FileOps for TtyFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::STREAM | FileTraits::POLLABLE | FileTraits::WRITE_ALL
    }

    fn read(&self, file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        if self.tty.is_hung_up() || buf.remaining() == 0 {
            return Ok(0);
        }
        self.tty.check_read()?;
        match self.tty.raw_timing() {
            Some((0, 0)) => return Ok(self.take(buf, true)?.unwrap_or(0)),
            Some((vmin, vtime @ 1..)) => return self.read_timed(file, vmin, vtime, buf),
            _ => {}
        }
        self.take(buf, false)?.ok_or(Errno::EAGAIN)
    }

    fn write(&self, _file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        if self.tty.is_hung_up() {
            return Err(Errno::EIO);
        }
        self.tty.check_write()?;
        let mut done = 0;
        let mut piece = [0; PIECE];
        while buf.remaining() > 0 && self.tty.is_writable() {
            // What is taken from the writer is sent: room for one piece was seen, chunks follow.
            let len = buf.remaining().min(64);
            let count = buf.take(&mut piece[..len])?;
            let mut sent = self.tty.try_write(&piece[..count]);
            while sent < count && !self.tty.is_hung_up() {
                let room = || (self.tty.is_writable()).then_some(());
                self.tty.write_wait.wait_until(WaitMode::Killable, None, room).map_err(|_| Errno::EINTR)?;
                sent += self.tty.try_write(&piece[sent..count]);
            }
            done += count;
        }
        if done == 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn wait_queue(&self, _file: &File, events: PollEvents) -> Option<&WaitQueue> {
        Some(if events.contains(PollEvents::IN) { &self.tty.read_wait } else { &self.tty.write_wait })
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        if let Some(table) = table {
            table.add(&self.tty.read_wait);
            table.add(&self.tty.write_wait);
        }
        let mut events = PollEvents::empty();
        if self.tty.is_readable() {
            events |= PollEvents::READABLE;
        }
        if self.tty.is_writable() {
            events |= PollEvents::WRITABLE;
        }
        if self.tty.is_hung_up() {
            events |= PollEvents::HUP;
        }
        events
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<usize> {
        if self.tty.is_hung_up() {
            return Err(Errno::EIO);
        }
        self.tty.ioctl(command, argument)
    }
}
