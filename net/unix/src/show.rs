//! `/proc/net/unix`, and the list of all sockets behind it.
//!
//! The list is one lock that making and ending a socket takes, and nothing else: a connection costs two visits, which
//! is little beside the rest of it.

use crate::socket_state::{Stage, Unix};
use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::{Arc, Weak};
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use kernfs::{NET, TextBuf, text};
use sync::SpinLock;
use sync::levels::DeviceTable;

static ALL: SpinLock<BTreeMap<u64, Weak<Unix>>, DeviceTable> = SpinLock::new(BTreeMap::new());

pub fn next_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Relaxed)
}

pub fn add(id: u64, socket: &Arc<Unix>) {
    ALL.lock().insert(id, Arc::downgrade(socket));
}

pub fn remove(id: u64) {
    ALL.lock().remove(&id);
}

pub fn init() {
    NET.add("unix", text(show));
}

/// The first socket behind `after`. One at a time: programs decide how many there are.
fn next(after: u64) -> Option<(u64, Weak<Unix>)> {
    ALL.lock().range(after + 1..).next().map(|(&id, socket)| (id, socket.clone()))
}

/// `SS_UNCONNECTED` and `SS_CONNECTED`.
fn state_of(stage: Stage) -> u32 {
    if stage == Stage::Connected { 3 } else { 1 }
}

fn show(out: &mut TextBuf) -> fmt::Result {
    const ACCEPTS: u32 = 0x10000;
    writeln!(out, "Num       RefCount Protocol Flags    Type St Inode Path")?;
    let mut after = 0;
    while let Some((id, socket)) = next(after) {
        after = id;
        let Some(socket) = socket.upgrade() else { continue };
        let (stage, bound) = {
            let state = socket.state.lock();
            (state.stage, state.bound.clone())
        };
        let flags = if stage == Stage::Listening { ACCEPTS } else { 0 };
        let references = Arc::strong_count(&socket) - 1;
        write!(
            out,
            "{:016x}: {references:08X} 00000000 {flags:08X} {:04X} {:02X} {:5}",
            0,
            socket.options.kind,
            state_of(stage),
            socket.inode.load(Relaxed)
        )?;
        if let Some(bound) = bound {
            write!(out, " {}", String::from_utf8_lossy(&bound.show()))?;
        }
        writeln!(out)?;
    }
    Ok(())
}
