//! Pseudo-terminals: a terminal whose hardware is a program.
//!
//! Opening /dev/ptmx makes a pair. What the slave's programs write, after output processing, is read
//! from the master; what is written to the master is the slave's input. In packet mode (TIOCPKT) each read of the master
//! begins with a byte that says whether data follows or what else happened to the slave, which may have overtaken data.
//! Sources: pty(7), pts(4), TIOCPKT(2const).

use crate::tty::{Hardware, Tty};
use abi::Errno;
use abi::errno::Result;
use abi::poll::PollEvents;
use abi::stat::DevId;
use abi::tty::*;
use alloc::collections::VecDeque;
use alloc::format;
use alloc::sync::Arc;
use core::any::Any;
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering::SeqCst};
use sync::SpinLock;
use sync::levels::TerminalInput;
use task::WaitQueue;
use vfs::{File, FileOps, FileTraits, IoBuf, PollTable};

/// Major device number of slaves (Linux's UNIX98_PTY_SLAVE_MAJOR).
pub const SLAVE_MAJOR: u32 = 136;

/// Bytes of output that the master has not read yet.
const OUTPUT_MAX: usize = 16_384;
/// So many of them are the master's own (Linux's N_TTY_BUF_SIZE).
const LINE_MAX: usize = 4096;

/// The master's end, as the slave's hardware.
struct Link {
    output: SpinLock<VecDeque<u8>, TerminalInput>,
    read_wait: Arc<WaitQueue>,
    write_wait: Arc<WaitQueue>,
    /// Packet mode.
    packets: AtomicBool,
    /// `TIOCPKT_*` that the master has not read yet.
    status: AtomicU8,
}

impl Link {
    /// Something happened that a master in packet mode is told; `instead_of` is no longer so.
    fn tell(&self, what: u8, instead_of: u8) {
        if self.packets.load(SeqCst) {
            let change = |status: u8| Some(status & !instead_of | what);
            let _ = self.status.fetch_update(SeqCst, SeqCst, change);
            self.read_wait.wake_all();
        }
    }

    /// Whether a master in packet mode is to be told something before any data.
    fn news(&self) -> bool {
        self.packets.load(SeqCst) && self.status.load(SeqCst) != 0
    }

    fn take_news(&self) -> Option<u8> {
        self.news().then(|| self.status.swap(0, SeqCst)).filter(|news| *news != 0)
    }

    fn set_packets(&self, on: bool) {
        if on && !self.packets.load(SeqCst) {
            // What happened before is not told.
            self.status.store(0, SeqCst);
        }
        self.packets.store(on, SeqCst);
    }
}

/// Whether Ctrl-S and Ctrl-Q stop and start the output: then a master's program may do that itself.
fn has_usual_flow_control(termios: &Termios) -> bool {
    const CTRL_S: u8 = 0x13;
    const CTRL_Q: u8 = 0x11;
    termios.c_iflag & IXON != 0 && termios.c_cc[VSTOP] == CTRL_S && termios.c_cc[VSTART] == CTRL_Q
}

impl Hardware for Link {
    fn write(&self, bytes: &[u8]) -> usize {
        let mut output = self.output.lock();
        let count = bytes.len().min(OUTPUT_MAX - output.len());
        output.extend(&bytes[..count]);
        drop(output);
        self.read_wait.wake_all();
        count
    }

    fn room(&self) -> usize {
        OUTPUT_MAX - self.output.lock().len()
    }

    fn pending(&self) -> usize {
        // What the master has not read is out, as far as the slave is concerned.
        0
    }

    /// What the slave has written is on the master's side already, where TCFLSH of the slave does not reach: on Linux, as
    /// much of it as a line discipline holds.
    fn flush(&self) {
        self.output.lock().truncate(LINE_MAX);
        self.tell(TIOCPKT_FLUSHWRITE, 0);
    }

    fn set_termios(&self, old: &Termios, new: &Termios) {
        match (has_usual_flow_control(old), has_usual_flow_control(new)) {
            (false, true) => self.tell(TIOCPKT_DOSTOP, TIOCPKT_NOSTOP),
            (true, false) => self.tell(TIOCPKT_NOSTOP, TIOCPKT_DOSTOP),
            _ => {}
        }
        if (old.c_lflag | new.c_lflag) & EXTPROC != 0 {
            self.tell(TIOCPKT_IOCTL, 0);
        }
    }

    fn flow_changed(&self, stopped: bool) {
        let (now, before) =
            if stopped { (TIOCPKT_STOP, TIOCPKT_START) } else { (TIOCPKT_START, TIOCPKT_STOP) };
        self.tell(now, before);
    }

    fn input_flushed(&self) {
        self.tell(TIOCPKT_FLUSHREAD, 0);
    }

    fn interrupted(&self) {
        self.flush();
        self.tell(TIOCPKT_FLUSHREAD, 0);
    }

    fn input_wanted(&self) {
        self.write_wait.wake_all();
        self.read_wait.wake_all();
    }
}

/// A pair, seen from the master.
pub struct Pair {
    pub number: u32,
    slave: Arc<Tty>,
    link: Arc<Link>,
    /// TIOCSPTLCK: the slave may not be opened.
    locked: AtomicBool,
    /// The slave was opened at least once: with none left the master reads EIO.
    was_open: AtomicBool,
}

impl Pair {
    /// Makes a pair with the slave's number; locked, as pty(7) says.
    pub fn new(number: u32) -> Arc<Pair> {
        let link = Arc::new(Link {
            output: SpinLock::new(VecDeque::new()),
            read_wait: Arc::new(WaitQueue::new(&"ptm_read")),
            write_wait: Arc::new(WaitQueue::new(&"ptm_write")),
            packets: AtomicBool::new(false),
            status: AtomicU8::new(0),
        });
        let slave = Tty::new(format!("pts/{number}"), DevId::new(SLAVE_MAJOR, number), link.clone());
        Arc::new(Pair {
            number,
            slave,
            link,
            locked: AtomicBool::new(true),
            was_open: AtomicBool::new(false),
        })
    }

    pub fn slave(&self) -> &Arc<Tty> {
        &self.slave
    }

    /// Opens the slave's end. EIO while locked or when the master is gone.
    pub fn open_slave(&self, flags: u32) -> Result<crate::TtyFile> {
        if self.locked.load(SeqCst) || self.slave.is_hung_up() {
            return Err(Errno::EIO);
        }
        let file = crate::TtyFile::open(&self.slave, flags)?;
        self.was_open.store(true, SeqCst);
        Ok(file)
    }

    /// TCFLSH on the master: its input is what the slave has written; its output has reached the slave already.
    fn flush_master(&self, which: usize) -> Result<usize> {
        match which {
            TCIFLUSH | TCIOFLUSH => self.link.output.lock().clear(),
            TCOFLUSH => return Ok(0),
            _ => return Err(Errno::EINVAL),
        }
        self.slave.output_ready();
        Ok(0)
    }

    fn slave_is_gone(&self) -> bool {
        self.was_open.load(SeqCst) && self.slave.opens.load(SeqCst) == 0
    }
}

/// An open master; dropping it hangs the slave up.
pub struct MasterFile {
    pair: Arc<Pair>,
    /// Takes the slave's name away.
    closed: alloc::boxed::Box<dyn Fn(u32) + Send + Sync>,
}

impl MasterFile {
    /// `closed` is called with the number when the master is closed.
    pub fn new(pair: Arc<Pair>, closed: impl Fn(u32) + Send + Sync + 'static) -> MasterFile {
        MasterFile { pair, closed: alloc::boxed::Box::new(closed) }
    }

    pub fn pair(&self) -> &Arc<Pair> {
        &self.pair
    }
}

impl Drop for MasterFile {
    fn drop(&mut self) {
        self.pair.slave.hang_up();
        (self.closed)(self.pair.number);
    }
}

impl FileOps for MasterFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::STREAM | FileTraits::POLLABLE | FileTraits::WRITE_ALL
    }

    fn read(&self, _file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        // Asked before: a slave may write and close between a look at the output and this.
        let gone = self.pair.slave_is_gone();
        let link = &self.pair.link;
        if let Some(news) = link.take_news() {
            return buf.put(&[news]);
        }
        let mut done = 0;
        if link.packets.load(SeqCst) && !link.output.lock().is_empty() {
            done += buf.put(&[TIOCPKT_DATA])?;
        }
        let mut piece = [0; 256];
        while buf.remaining() > 0 {
            let len = piece.len().min(buf.remaining());
            let mut output = link.output.lock();
            let count = len.min(output.len());
            piece.iter_mut().zip(output.drain(..count)).for_each(|(slot, byte)| *slot = byte);
            drop(output);
            if count == 0 {
                break;
            }
            done += buf.put(&piece[..count])?;
        }
        if done > 0 {
            self.pair.slave.output_ready();
            return Ok(done);
        }
        Err(if gone { Errno::EIO } else { Errno::EAGAIN })
    }

    fn write(&self, _file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let mut done = 0;
        let mut piece = [0; 256];
        while buf.remaining() > 0 && self.pair.slave.has_room() {
            // No more than surely fits, so that nothing taken from the writer is dropped in raw mode.
            let len = self.pair.slave.input_room().min(piece.len()).min(buf.remaining()).max(1);
            let count = buf.take(&mut piece[..len])?;
            self.pair.slave.input(&piece[..count]);
            done += count;
        }
        if done == 0 && buf.remaining() > 0 { Err(Errno::EAGAIN) } else { Ok(done) }
    }

    fn wait_queue(&self, _file: &File, events: PollEvents) -> Option<&WaitQueue> {
        let link = &self.pair.link;
        Some(if events.contains(PollEvents::IN) { &link.read_wait } else { &link.write_wait })
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        let link = &self.pair.link;
        if let Some(table) = table {
            table.add(&link.read_wait);
            table.add(&link.write_wait);
        }
        let mut events = PollEvents::empty();
        if !link.output.lock().is_empty() {
            events |= PollEvents::READABLE;
        }
        if self.pair.slave.has_room() {
            events |= PollEvents::WRITABLE;
        }
        if link.news() {
            events |= PollEvents::PRI | PollEvents::READABLE;
        }
        if self.pair.slave_is_gone() {
            events |= PollEvents::HUP;
        }
        events
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<usize> {
        let put = |value: u32| mem::user::write(argument, &value.to_ne_bytes()).map_err(|_| Errno::EFAULT);
        match command {
            TIOCGPTN => put(self.pair.number)?,
            TIOCGPTLCK => put(u32::from(self.pair.locked.load(SeqCst)))?,
            TIOCSPTLCK => {
                let mut value = [0; 4];
                mem::user::read(argument, &mut value).map_err(|_| Errno::EFAULT)?;
                self.pair.locked.store(value != [0; 4], SeqCst);
            }
            TIOCPKT => {
                let mut value = [0; 4];
                mem::user::read(argument, &mut value).map_err(|_| Errno::EFAULT)?;
                self.pair.link.set_packets(value != [0; 4]);
            }
            TIOCGPKT => put(u32::from(self.pair.link.packets.load(SeqCst)))?,
            FIONREAD => put(self.pair.link.output.lock().len() as u32)?,
            TCFLSH => return self.pair.flush_master(argument),
            // What runs in front is asked by terminal emulators, whose own terminal is another.
            TIOCGPGRP => return self.pair.slave.get_foreground(argument),
            TIOCGSID => return self.pair.slave.get_session(argument),
            // The master has no controlling role; the slave's terminal answers the rest.
            TIOCSCTTY | TIOCNOTTY => return Err(Errno::ENOTTY),
            _ => return self.pair.slave.ioctl(command, argument),
        }
        Ok(0)
    }
}
