//! Files that show the kernel: what procfs and sysfs are made of.
//!
//! **Problem.** Hundreds of small files are texts made up when they are read; many change something when
//! they are written; whole directories come and go with what they describe.
//!
//! **Interface.** A file is a [`Text`] ([`text`] and [`knob`] make one of closures) or a sequence of
//! [`Records`]; a directory is a [`Dir`]: the fixed [`Tree`], or one that looks its entries up each time (a
//! process). [`KernFs`] makes a mountable file system of a root directory. [`Tree::add`] registers by path;
//! the trees are [`PROC`], [`NET`], [`SYS`] and [`DEBUG`].
//!
//! **Idea.** Linux's kernfs and seq_file in one: a text is made at the first read and kept with the open
//! file, so that a reader in small pieces sees one consistent text; reading again from position 0 makes it
//! anew. What a program can make long (its memory map) is a sequence of records instead, of which an open
//! file keeps a page.

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bitmap;
mod buffer;
mod node;
mod open;
pub mod roots;
mod tree;

pub use buffer::{TextBuf, written};
pub use node::{KernFs, new_root, object_of};
pub use open::MAX_WRITE;
pub use roots::{DEBUG, NET, PROC, SYS};
pub use tree::{FixedLink, SubTree, Tree, knob, text};

use abi::errno::Result;
use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::any::Any;
use vfs::poll::Changes;
use vfs::{Caller, Link, OpsRef};

/// What a name in such a file system stands for.
#[derive(Clone)]
pub enum Node {
    Dir(Arc<dyn Dir>),
    Text(Arc<dyn Text>),
    Records(Arc<dyn Records>),
    Link(Arc<dyn LinkTarget>),
    /// A file that does its own reading and writing.
    File(Arc<dyn Opens>),
}

/// What every node says of itself.
pub trait Meta: Send + Sync {
    /// Permission bits.
    fn mode(&self) -> u32;

    /// User and group that own it, where that changes by itself; else root, until somebody changes it.
    fn owner(&self) -> Option<(u32, u32)> {
        None
    }

    /// Replaces the check of the permission bits; `mask` has the bits of access(2).
    fn permission(&self, _mask: u32, _caller: &Caller) -> Option<Result<()>> {
        None
    }

    /// It was taken out of its [`Tree`]; [`Meta::is_alive`] says no from now on, where that matters: names that were
    /// looked up before stay in the name cache until they are asked.
    fn removed(&self) {}

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
    /// neither loses nor repeats one. `asker` opened the directory.
    fn list(&self, from: u64, asker: &Asker, each: &mut Each) -> Result<()>;

    /// How many of its entries are directories, for the link count.
    fn directories(&self) -> u32;

    /// What it is the directory of, for a caller that knows the type ([`object_of`]).
    fn object(&self) -> Option<&dyn Any> {
        None
    }

    /// The registered tree, where it is one.
    fn as_tree(&self) -> Option<&Tree> {
        None
    }
}

/// Takes an entry of a listing, number, name and type; false: no more fit.
pub type Each<'a> = dyn FnMut(u64, &[u8], Kind) -> bool + 'a;

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
            Node::Text(_) | Node::Records(_) | Node::File(_) => Kind::File,
            Node::Link(_) => Kind::Link,
        }
    }
}

/// A file of text.
pub trait Text: Meta {
    /// Whether it may be opened, besides the permission bits.
    fn open(&self, _asker: &Asker) -> Result<()> {
        Ok(())
    }

    /// Appends the text. May sleep.
    fn show(&self, out: &mut TextBuf, asker: &Asker) -> Result<()>;

    /// What poll(2) of an open file tells of, where that is something.
    fn changes(&self) -> Option<&'static Changes> {
        None
    }

    /// Takes what was written in one write(2). EIO where only reading makes sense.
    fn store(&self, _bytes: &[u8], _asker: &Asker) -> Result<()> {
        Err(abi::Errno::EIO)
    }
}

/// A file of records, each a line or a few, that are made one by one while it is read: the length of such a
/// file costs no memory, and no lock is held from one record to the next.
pub trait Records: Meta {
    fn open(&self, caller: &Caller) -> Result<Box<dyn RecordSource>>;
}

/// The records of an open file.
pub trait RecordSource: Send + Sync {
    /// Appends the record at `cursor` (0: the first), or none when what was there is gone, and says where the
    /// next one is. Cursors ascend. May sleep.
    fn next(&self, cursor: u64, out: &mut TextBuf) -> Result<Next>;
}

/// What follows a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    At(u64),
    End,
}

/// Who opened a file: kept with it, as rights are those of the opener.
pub struct Asker {
    pub cred: Arc<vfs::Cred>,
    /// The opener's root directory, for paths in texts.
    pub root: vfs::Path,
    /// The opener's thread, by number.
    pub tid: u32,
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
