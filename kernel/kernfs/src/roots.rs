//! The roots that every layer registers its files in; `fs/procfs` and `fs/sysfs` mount them.
//!
//! They live here and not in those file systems so that a crate of the kernel can show itself without knowing a leaf.

use crate::{Asker, Dir, Each, Meta, Node, Tree};
use abi::errno::Result;
use alloc::sync::Arc;

/// What `/proc` has besides processes: `PROC.add("uptime", text(..))`, `PROC.add("sys/vm/swappiness", knob(..))`.
pub static PROC: Tree = Tree::new();
/// `/proc/PID/net`, which is the same for all processes.
pub static NET: Tree = Tree::new();
/// `/sys`.
pub static SYS: Tree = Tree::new();
/// debugfs, mounted at `/sys/kernel/debug`.
pub static DEBUG: Tree = Tree::new();

/// A [`Tree`] that lives for ever as the root directory of a file system.
struct Root(&'static Tree);

impl Meta for Root {
    fn mode(&self) -> u32 {
        0o555
    }
}

impl Dir for Root {
    fn lookup(&self, name: &[u8]) -> Result<Option<Node>> {
        Ok(self.0.lookup(name))
    }

    fn directories(&self) -> u32 {
        self.0.directories()
    }

    fn as_tree(&self) -> Option<&Tree> {
        Some(self.0)
    }

    fn list(&self, from: u64, _asker: &Asker, each: &mut Each) -> Result<()> {
        self.0.list(from, each);
        Ok(())
    }
}

/// A root for [`crate::KernFs`].
pub fn root(tree: &'static Tree) -> Arc<dyn Dir> {
    Arc::new(Root(tree))
}
