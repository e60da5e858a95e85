//! Files that show the kernel: what procfs and sysfs are made of.
//!
//! **Problem.** Hundreds of small files are texts made up when they are read; many change something when
//! they are written; whole directories come and go with what they describe.
//!
//! **Interface.** A file is a [`Text`] ([`text`] and [`knob`] make one of closures), a directory a
//! [`Dir`]: the fixed [`Tree`], or one that looks its entries up each time (a process). [`KernFs`] makes
//! a mountable file system of a root directory. [`Tree::add`] registers by path; the trees are [`PROC`], [`SYS`]
//! and [`DEBUG`].
//!
//! **Idea.** Linux's kernfs and seq_file in one: a text is made at the first read and kept with the open
//! file, so that a reader in small pieces sees one consistent text; reading again from position 0 makes it
//! anew.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod node;
pub mod roots;
mod tree;

pub use node::{KernFs, MAX_WRITE};
pub use roots::{DEBUG, PROC, SYS};
pub use tree::{FixedLink, SubTree, Tree, knob, text};

use abi::errno::Result;
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use vfs::{Caller, Link, OpsRef};

/// What a name in such a file system stands for.
#[derive(Clone)]
pub enum Node {
    Dir(Arc<dyn Dir>),
    Text(Arc<dyn Text>),
    Link(Arc<dyn LinkTarget>),
    /// A file that does its own reading and writing.
    File(Arc<dyn Opens>),
}

/// What every node says of itself.
pub trait Meta: Send + Sync {
    /// Permission bits.
    fn mode(&self) -> u32;

    /// User and group that own it.
    fn owner(&self) -> (u32, u32) {
        (0, 0)
    }

    /// Whether what it describes still exists.
    fn is_alive(&self) -> bool {
        true
    }
}

/// A directory. May sleep.
pub trait Dir: Meta {
    fn lookup(&self, name: &[u8]) -> Result<Option<Node>>;

    /// Calls `each` with the entries in a fixed order, from number `from` on, until it answers false.
    /// Entries that come and go keep their number (a process its pid), so that a listing in pieces
    /// neither loses nor repeats one.
    fn list(&self, from: u64, each: &mut dyn FnMut(u64, &[u8], Kind) -> bool) -> Result<()>;

    /// The registered tree, where it is one.
    fn as_tree(&self) -> Option<&Tree> {
        None
    }
}

/// The type shown in a listing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Dir,
    File,
    Link,
}

impl Node {
    pub fn kind(&self) -> Kind {
        match self {
            Node::Dir(_) => Kind::Dir,
            Node::Text(_) | Node::File(_) => Kind::File,
            Node::Link(_) => Kind::Link,
        }
    }
}

/// A file of text.
pub trait Text: Meta {
    /// Appends the text. May sleep.
    fn show(&self, out: &mut String, caller: &Asker) -> Result<()>;

    /// Takes what was written in one write(2). EINVAL where only reading makes sense.
    fn store(&self, _bytes: &[u8], _caller: &Asker) -> Result<()> {
        Err(abi::Errno::EIO)
    }

    /// Texts that are not UTF-8 (`/proc/PID/cmdline`) come here instead.
    fn show_bytes(&self, out: &mut Vec<u8>, caller: &Asker) -> Result<()> {
        let mut text = String::new();
        self.show(&mut text, caller)?;
        *out = text.into_bytes();
        Ok(())
    }
}

/// Who opened a file: kept with it, as rights are those of the opener.
pub struct Asker {
    pub cred: Arc<vfs::Cred>,
    /// The opener's root directory, for paths in texts.
    pub root: vfs::Path,
}

/// Where a symbolic link leads.
pub trait LinkTarget: Meta {
    fn follow(&self, caller: &Caller) -> Result<Link>;

    /// What readlink(2) gives when that is no path ("pipe:[12]").
    fn text(&self, _caller: &Caller) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// Whether it jumps to a place instead of giving a path to walk.
    fn is_magic(&self) -> bool {
        true
    }
}

/// A file with operations of its own.
pub trait Opens: Meta {
    fn open(&self, flags: u32, caller: &Caller) -> Result<OpsRef>;
}
