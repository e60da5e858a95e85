//! A socket as an open file.

use crate::{Incoming, Outgoing, Party, Socket, call};
use abi::Errno;
use abi::errno::Result;
use abi::fcntl::{O_NONBLOCK, O_RDWR};
use abi::poll::PollEvents;
use abi::stat::{S_IFSOCK, SOCKFS_MAGIC};
use abi::tty::{FIONREAD, TIOCOUTQ};
use alloc::boxed::Box;
use alloc::string::String;
use alloc::sync::Arc;
use core::any::Any;
use sync::Once;
use vfs::anon::AnonInode;
use vfs::open::pseudo_file;
use vfs::{
    File, FileOps, FileTraits, InodeFlags, InodeRef, IoBuf, NewInode, NewSuper, PlainSuper, PollTable,
};
use vfs::{OpsRef, SuperBlock};

struct SocketFile {
    socket: Arc<dyn Socket>,
}

fn superblock() -> &'static Arc<SuperBlock> {
    static SUPER: Once<Arc<SuperBlock>> = Once::new();
    if SUPER.get().is_none() {
        let new = NewSuper {
            fs_name: "sockfs",
            source: String::new(),
            magic: SOCKFS_MAGIC,
            read_only: false,
            ops: Box::new(PlainSuper),
        };
        let _ = SUPER.set(new.build()); // two at once: the first stays
    }
    SUPER.get_expect()
}

/// Calls with who makes the system call that runs now. write(2) does not hand it down, as no other kind of file asks.
pub type WithCaller = fn(&mut dyn FnMut(&Party));

static CALLER: Once<WithCaller> = Once::new();

/// Tells how to find the caller of write(2). At boot.
pub fn set_caller(with_caller: WithCaller) {
    let _ = CALLER.set(with_caller);
}

/// An open file for a socket, shown as `socket:[INODE]`.
pub fn file(socket: Arc<dyn Socket>, nonblocking: bool, who: &Party) -> Arc<File> {
    let sb = superblock();
    let mut new = NewInode::new(sb.next_ino(), S_IFSOCK | 0o777);
    new.flags = InodeFlags::PSEUDO | InodeFlags::NO_ATIME;
    (new.uid, new.gid) = (who.caller.cred.fsuid, who.caller.cred.fsgid);
    let inode: InodeRef = new.build(sb, AnonInode);
    socket.set_inode(inode.ino);
    let name = alloc::format!("socket:[{}]", inode.ino);
    let status = if nonblocking { O_NONBLOCK } else { 0 };
    pseudo_file(name.as_bytes(), inode, OpsRef::shared(SocketFile { socket }), O_RDWR | status)
}

/// The socket behind a file. ENOTSOCK.
pub fn of_file(file: &File) -> Result<&Arc<dyn Socket>> {
    file.ops_as::<SocketFile>().map(|own| &own.socket).ok_or(Errno::ENOTSOCK)
}

impl FileOps for SocketFile {
    fn as_any(&self) -> &dyn Any {
        self
    }

    fn traits(&self) -> FileTraits {
        FileTraits::STREAM | FileTraits::POLLABLE
    }

    /// Waits here and not in the file's general wait, which knows no time limit: hence no `wait_queue` either.
    fn read(&self, file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let nonblocking = buf.nowait || file.is_nonblocking();
        call::receive(&*self.socket, nonblocking, &mut Incoming::new(buf, 0))
    }

    fn write(&self, file: &File, _pos: &mut u64, buf: &mut IoBuf) -> Result<usize> {
        let nonblocking = buf.nowait || file.is_nonblocking();
        let control = crate::Control::default();
        let message = &mut Outgoing { data: buf, address: None, target: None, control, flags: 0 };
        let mut result = Err(Errno::EIO);
        let mut send = |who: &Party| result = call::send(&*self.socket, nonblocking, message, who);
        if let Some(with_caller) = CALLER.get() {
            with_caller(&mut send);
        }
        result
    }

    fn poll(&self, _file: &File, table: Option<&mut PollTable>) -> PollEvents {
        self.socket.poll(table)
    }

    fn ioctl(&self, _file: &File, command: u32, argument: usize) -> Result<usize> {
        let (input, output) = self.socket.waiting_bytes();
        let bytes = match command {
            FIONREAD => input,
            TIOCOUTQ => output,
            _ => return Err(Errno::ENOTTY),
        };
        let bytes = i32::try_from(bytes).unwrap_or(i32::MAX);
        mem::user::write(argument, &bytes.to_ne_bytes()).map_err(|_| Errno::EFAULT)?;
        Ok(0)
    }

    fn release(&self, _file: &File) {
        self.socket.close();
    }
}
