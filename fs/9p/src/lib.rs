//! 9P: the files of a server, over any channel (virtio).
//!
//! **Problem.** The file layer asks for inodes, pages and names; the server knows files by numbers that a client
//! chooses, answers every question by a message, may change its files by itself, and may be wrong.
//!
//! **Interface.** The file system type `9p`; options in the README.
//!
//! **Idea.**
//!
//! | part | gives |
//! |---|---|
//! | [`client`] | a session: messages, and numbers of files that go by themselves |
//! | [`io`] | open files of the server: bytes to and from pages |
//! | [`instance`] | a mount: inodes in use by the server's identity |
//! | [`inode`], [`file`] | names, attributes, open files to the file layer |
//! | [`data`] | pages to the page cache, and when they are no longer believed |
//!
//! **Locks.** A request is never sent with a spin lock held. The file layer's contents locks may be held, also that of
//! the page cache's folio; nothing here waits for another request.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod client;
mod data;
mod file;
mod inode;
mod instance;
mod io;
mod lock;
mod options;

use abi::errno::Result;
use alloc::sync::Arc;
use vfs::{Caller, Dentry, FsType, register_filesystem};

struct Type;

impl FsType for Type {
    fn name(&self) -> &'static str {
        "9p"
    }

    fn mount(&self, source: &[u8], flags: u64, data: &[u8], caller: &Caller) -> Result<Arc<Dentry>> {
        instance::mount(source, flags, data, caller)
    }
}

/// Makes it mountable. At boot.
pub fn init() -> Result<()> {
    register_filesystem(&Type)
}
