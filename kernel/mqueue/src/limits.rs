//! How many queues, and how large: /proc/sys/fs/mqueue and RLIMIT_MSGQUEUE.

use crate::Capacity;
use abi::cap::CAP_SYS_RESOURCE;
use abi::resource::RLIMIT_MSGQUEUE;
use abi::{Errno, errno::Result};
use alloc::sync::Arc;
use core::fmt::Write;
use core::ops::RangeInclusive;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use kcore::Thread;
use kcore::rlimit::{self, UserCounts};
use kernfs::{PROC, knob};
use vfs::Cred;

/// What even the privileged are held to.
const HARD_MESSAGES: u64 = 65_536;
const HARD_BYTES: u64 = 16 * 1024 * 1024;
/// What the kernel spends on each message besides its bytes, as Linux counts: its head, and a node of the tree.
const HEAD_BYTES: u64 = 48 + 48;

struct Setting {
    name: &'static str,
    value: AtomicU64,
    range: RangeInclusive<u64>,
}

const fn setting(name: &'static str, value: u64, range: RangeInclusive<u64>) -> Setting {
    Setting { name, value: AtomicU64::new(value), range }
}

static QUEUES_MAX: Setting = setting("queues_max", 256, 0..=i32::MAX as u64);
static MSG_MAX: Setting = setting("msg_max", 10, 1..=HARD_MESSAGES);
static MSGSIZE_MAX: Setting = setting("msgsize_max", 8192, 128..=HARD_BYTES);
static MSG_DEFAULT: Setting = setting("msg_default", 10, 1..=HARD_MESSAGES);
static MSGSIZE_DEFAULT: Setting = setting("msgsize_default", 8192, 128..=HARD_BYTES);

/// Queues that there are.
static QUEUES: AtomicU64 = AtomicU64::new(0);

/// Registers the settings. Boot.
pub fn init() {
    for setting in [&QUEUES_MAX, &MSG_MAX, &MSGSIZE_MAX, &MSG_DEFAULT, &MSGSIZE_DEFAULT] {
        let store = |text: &str| {
            let value = text.parse().ok().filter(|value| setting.range.contains(value));
            setting.value.store(value.ok_or(Errno::EINVAL)?, Relaxed);
            Ok(())
        };
        let show = |out: &mut kernfs::TextBuf| writeln!(out, "{}", setting.value.load(Relaxed));
        PROC.add(&alloc::format!("sys/fs/mqueue/{}", setting.name), knob(0o644, show, store));
    }
}

/// What a queue gets when nobody says.
pub fn default_capacity() -> Capacity {
    let least = |default: &Setting, max: &Setting| default.value.load(Relaxed).min(max.value.load(Relaxed));
    Capacity { messages: least(&MSG_DEFAULT, &MSG_MAX), bytes: least(&MSGSIZE_DEFAULT, &MSGSIZE_MAX) }
}

/// EINVAL for a capacity that one may not ask for.
pub fn check(capacity: Capacity, cred: &Cred) -> Result<()> {
    let (messages, bytes) = match cred.capable(CAP_SYS_RESOURCE) {
        true => (HARD_MESSAGES, HARD_BYTES),
        false => (MSG_MAX.value.load(Relaxed), MSGSIZE_MAX.value.load(Relaxed)),
    };
    let fits = (1..=messages).contains(&capacity.messages) && (1..=bytes).contains(&capacity.bytes);
    if fits { Ok(()) } else { Err(Errno::EINVAL) }
}

/// What a queue takes of its user's share, for as long as it lives.
pub struct Charge {
    user: Arc<UserCounts>,
    bytes: u64,
}

impl Charge {
    /// ENOSPC beyond the number of queues, EMFILE beyond RLIMIT_MSGQUEUE.
    pub fn new(capacity: Capacity, cred: &Cred) -> Result<Charge> {
        let limit = Thread::with_current(|thread| rlimit::soft(thread.process(), RLIMIT_MSGQUEUE));
        let bytes = capacity.messages.saturating_mul(capacity.bytes + HEAD_BYTES);
        let before = QUEUES.fetch_add(1, Relaxed);
        if before >= QUEUES_MAX.value.load(Relaxed) && !cred.capable(CAP_SYS_RESOURCE) {
            QUEUES.fetch_sub(1, Relaxed);
            return Err(Errno::ENOSPC);
        }
        let user = UserCounts::of(cred.uid);
        if !user.charge_queue(bytes, limit.unwrap_or(u64::MAX)) {
            QUEUES.fetch_sub(1, Relaxed);
            return Err(Errno::EMFILE);
        }
        Ok(Charge { user, bytes })
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.user.uncharge_queue(self.bytes);
        QUEUES.fetch_sub(1, Relaxed);
    }
}
