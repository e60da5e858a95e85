//! Symbolic links in /sys whose target is made at run time.

use abi::errno::Result;
use alloc::string::String;
use alloc::sync::Arc;
use kernfs::{LinkTarget, Meta, Node};
use vfs::{Caller, Link};

struct Target(Arc<[u8]>);

impl Meta for Target {
    fn mode(&self) -> u32 {
        0o777
    }
}

impl LinkTarget for Target {
    fn follow(&self, _caller: &Caller) -> Result<Link> {
        Ok(Link::Text(self.0.clone()))
    }

    fn is_magic(&self) -> bool {
        false
    }
}

/// A link to a path.
pub(crate) fn to(path: String) -> Node {
    Node::Link(Arc::new(Target(path.into_bytes().into())))
}
