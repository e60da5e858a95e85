//! A file tree in memory, on its way into an archive or a directory.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result};

/// What a path names. Everything belongs to root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Node {
    /// A directory.
    Dir { mode: u32 },
    /// A regular file.
    File { mode: u32, content: Vec<u8> },
    /// A symbolic link.
    Symlink { target: String },
    /// A character device.
    Char { mode: u32, major: u32, minor: u32 },
}

/// Paths without a leading slash, and what they name.
#[derive(Clone, Default, Debug)]
pub struct Tree {
    nodes: BTreeMap<String, Node>,
}

impl Tree {
    /// All nodes, a directory before its content.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &Node)> {
        self.nodes.iter().map(|(path, node)| (path.as_str(), node))
    }

    fn insert(&mut self, path: &str, node: Node) {
        let parents = path.match_indices('/').map(|(at, _)| &path[..at]);
        for parent in parents {
            self.nodes.entry(parent.to_owned()).or_insert(Node::Dir { mode: 0o755 });
        }
        self.nodes.insert(path.to_owned(), node);
    }

    /// Adds a directory; parents come by themselves, here and below.
    pub fn dir(&mut self, path: &str, mode: u32) {
        self.insert(path, Node::Dir { mode });
    }

    /// Adds a file.
    pub fn file(&mut self, path: &str, mode: u32, content: impl Into<Vec<u8>>) {
        self.insert(path, Node::File { mode, content: content.into() });
    }

    /// Adds a symbolic link, unless the path is taken.
    pub fn symlink(&mut self, path: &str, target: &str) {
        if !self.nodes.contains_key(path) {
            self.insert(path, Node::Symlink { target: target.to_owned() });
        }
    }

    /// Adds a character device.
    pub fn char_device(&mut self, path: &str, mode: u32, major: u32, minor: u32) {
        self.insert(path, Node::Char { mode, major, minor });
    }

    /// Writes the tree to an existing directory; devices, which only root may make, are left out.
    pub fn write_to(&self, dir: &Path) -> Result<()> {
        for (path, node) in self.nodes() {
            let at = dir.join(path);
            write_node(&at, node).with_context(|| format!("cannot write {}", at.display()))?;
        }
        Ok(())
    }
}

fn write_node(at: &Path, node: &Node) -> std::io::Result<()> {
    match node {
        Node::Dir { mode } => {
            fs::create_dir_all(at)?; // "." is there
            fs::set_permissions(at, fs::Permissions::from_mode(*mode))
        }
        Node::File { mode, content } => {
            fs::write(at, content)?;
            fs::set_permissions(at, fs::Permissions::from_mode(*mode))
        }
        Node::Symlink { target } => symlink(target, at),
        Node::Char { .. } => Ok(()),
    }
}
