//! Symbolic links in /sys whose target is made at run time.

use abi::errno::Result;
use alloc::string::String;
use alloc::sync::Arc;
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};
use kernfs::{LinkTarget, Meta, Node};
use vfs::{Caller, Link};

struct Target {
    path: Arc<[u8]>,
    removed: AtomicBool,
}

impl Meta for Target {
    fn mode(&self) -> u32 {
        0o777
    }

    fn removed(&self) {
        self.removed.store(true, Relaxed);
    }

    fn is_alive(&self) -> bool {
        !self.removed.load(Relaxed)
    }
}

impl LinkTarget for Target {
    fn follow(&self, _caller: &Caller) -> Result<Link> {
        Ok(Link::Text(self.path.clone()))
    }

    fn is_magic(&self) -> bool {
        false
    }
}

/// A link to a path.
pub(crate) fn to(path: String) -> Node {
    Node::Link(Arc::new(Target { path: path.into_bytes().into(), removed: AtomicBool::new(false) }))
}
