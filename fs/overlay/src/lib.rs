//! overlayfs: directories on top of each other, seen as one; changes go to the topmost.
//!
//! **Problem.** Many trees differ in little from one that all share and nobody may change.
//!
//! **Interface.** The file system type `overlay`; options and limits in the README.
//!
//! **Idea.** An inode here knows its *real* ones: one in the upper layer, or those in lower layers. A lookup asks the
//! layers from the top, until something hides what is below. Contents and attributes are those of the topmost real
//! inode; pages are cached once, in the layer. Before a change everything on the way down from the root is made in the
//! upper layer ([`copy_up`]): prepared in the work directory, then renamed to its place, so that nobody sees half of it.
//!
//! | part | gives |
//! |---|---|
//! | [`layers`] | the layers, and the file layer's calls on them |
//! | [`node`], [`names`] | inodes: lookup and attributes; making, removing, renaming |
//! | [`copy_up`] | a lower file's way to the upper layer |
//! | [`file`], [`listing`] | open files; directories merged |
//!
//! **Locks.** An overlay inode's contents lock, the copying lock, then everything of the layers, below
//! [`task::stacked`].

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod copy_up;
mod file;
mod layers;
mod listing;
mod mounting;
mod names;
mod node;
mod options;

use abi::errno::Result;
use alloc::sync::Arc;
use vfs::{Caller, Dentry, FsType, register_filesystem};

struct Type;

impl FsType for Type {
    fn name(&self) -> &'static str {
        "overlay"
    }

    fn mount(&self, source: &[u8], flags: u64, data: &[u8], caller: &Caller) -> Result<Arc<Dentry>> {
        mounting::mount(source, flags, data, caller)
    }
}

/// Makes it mountable. At boot.
pub fn init() -> Result<()> {
    register_filesystem(&Type)
}
