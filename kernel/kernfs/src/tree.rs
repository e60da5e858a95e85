//! Fixed directories, filled at boot and by drivers that come later; files made of closures.

use crate::{Asker, Dir, Each, LinkTarget, Meta, Node, Text, TextBuf, written};
use abi::Errno;
use abi::errno::Result;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use sync::SpinLock;
use sync::levels::SuperBlock;
use vfs::{Caller, Link};

/// A directory with registered entries.
pub struct Tree {
    entries: SpinLock<BTreeMap<Vec<u8>, Node>, SuperBlock>,
    /// Taken out of the tree above: what was looked up before leads nowhere any more.
    removed: AtomicBool,
}

impl Default for Tree {
    fn default() -> Self {
        Tree::new()
    }
}

impl Tree {
    pub const fn new() -> Tree {
        Tree { entries: SpinLock::new(BTreeMap::new()), removed: AtomicBool::new(false) }
    }

    /// Registers `node` at a path below this directory, making directories on the way. An entry that is
    /// there already is replaced.
    pub fn add(&self, path: &str, node: Node) {
        match path.split_once('/') {
            None => drop(self.entries.lock().insert(path.into(), node)),
            Some((first, rest)) => {
                let dir = self.subtree(first);
                if let Some(tree) = dir.as_tree() {
                    tree.add(rest, node);
                }
            }
        }
    }

    /// Takes an entry away; whether it was there.
    pub fn remove(&self, path: &str) -> bool {
        let Some((first, rest)) = path.split_once('/') else {
            let removed = self.entries.lock().remove(path.as_bytes());
            return removed.inspect(|node| node.meta().removed()).is_some();
        };
        match self.get(first.as_bytes()) {
            Some(Node::Dir(dir)) => dir.as_tree().is_some_and(|tree| tree.remove(rest)),
            _ => false,
        }
    }

    /// The directory `name`, made when there is none of that name.
    fn subtree(&self, name: &str) -> Arc<dyn Dir> {
        let mut entries = self.entries.lock();
        if let Some(Node::Dir(dir)) = entries.get(name.as_bytes()) {
            return dir.clone();
        }
        let tree: Arc<dyn Dir> = Arc::new(SubTree(Tree::new()));
        entries.insert(name.into(), Node::Dir(tree.clone()));
        tree
    }

    fn get(&self, name: &[u8]) -> Option<Node> {
        self.entries.lock().get(name).cloned()
    }

    /// As [`Dir::list`]; entries are numbered in the order of their names.
    pub fn list(&self, from: u64, each: &mut Each) {
        let entries: Vec<_> =
            self.entries.lock().iter().map(|(name, node)| (name.clone(), node.kind())).collect();
        for (number, (name, kind)) in (0..).zip(entries).skip(from as usize) {
            if !each(number, &name, kind) {
                return;
            }
        }
    }

    /// As [`Dir::directories`].
    pub fn directories(&self) -> u32 {
        let is_dir = |node: &&Node| matches!(node, Node::Dir(_));
        self.entries.lock().values().filter(is_dir).count() as u32
    }

    /// As [`Dir::lookup`].
    pub fn lookup(&self, name: &[u8]) -> Option<Node> {
        self.get(name)
    }
}

/// A [`Tree`] as a directory below another.
pub struct SubTree(pub Tree);

impl core::ops::Deref for SubTree {
    type Target = Tree;
    fn deref(&self) -> &Tree {
        &self.0
    }
}

impl Meta for SubTree {
    fn mode(&self) -> u32 {
        0o555
    }

    fn removed(&self) {
        self.0.removed.store(true, Relaxed);
    }

    fn is_alive(&self) -> bool {
        !self.0.removed.load(Relaxed)
    }
}

impl Dir for SubTree {
    fn lookup(&self, name: &[u8]) -> Result<Option<Node>> {
        Ok(self.get(name))
    }

    fn directories(&self) -> u32 {
        self.0.directories()
    }

    fn as_tree(&self) -> Option<&Tree> {
        Some(&self.0)
    }

    fn list(&self, from: u64, _asker: &Asker, each: &mut Each) -> Result<()> {
        self.0.list(from, each);
        Ok(())
    }
}

type Show = dyn Fn(&mut TextBuf) -> Result<()> + Send + Sync;
type Store = dyn Fn(&str) -> Result<()> + Send + Sync;

struct Closures {
    mode: u32,
    show: alloc::boxed::Box<Show>,
    store: Option<alloc::boxed::Box<Store>>,
}

impl Meta for Closures {
    fn mode(&self) -> u32 {
        self.mode
    }
}

impl Text for Closures {
    fn show(&self, out: &mut TextBuf, _asker: &Asker) -> Result<()> {
        (self.show)(out)
    }

    fn store(&self, bytes: &[u8], _asker: &Asker) -> Result<()> {
        let store = self.store.as_ref().ok_or(Errno::EIO)?;
        let text = core::str::from_utf8(bytes).map_err(|_| Errno::EINVAL)?;
        store(text.trim())
    }
}

/// A read-only file whose text a closure makes.
pub fn text(show: impl Fn(&mut TextBuf) -> core::fmt::Result + Send + Sync + 'static) -> Node {
    let show = move |out: &mut TextBuf| written(show(out));
    Node::Text(Arc::new(Closures { mode: 0o444, show: alloc::boxed::Box::new(show), store: None }))
}

/// A file that shows a setting and changes it; `store` gets the text without blanks at its ends.
pub fn knob(
    mode: u32,
    show: impl Fn(&mut TextBuf) -> core::fmt::Result + Send + Sync + 'static,
    store: impl Fn(&str) -> Result<()> + Send + Sync + 'static,
) -> Node {
    let show = move |out: &mut TextBuf| written(show(out));
    let store: alloc::boxed::Box<Store> = alloc::boxed::Box::new(store);
    Node::Text(Arc::new(Closures { mode, show: alloc::boxed::Box::new(show), store: Some(store) }))
}

/// A link with a fixed text.
pub struct FixedLink(pub &'static str);

impl Meta for FixedLink {
    fn mode(&self) -> u32 {
        0o777
    }
}

impl LinkTarget for FixedLink {
    fn follow(&self, _caller: &Caller) -> Result<Link> {
        Ok(Link::Text(self.0.as_bytes().into()))
    }

    fn is_magic(&self) -> bool {
        false
    }
}
