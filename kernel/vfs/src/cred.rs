//! Who a task acts as: user and group ids, capabilities (credentials(7), capabilities(7)).
//!
//! Credentials are shared by `Arc` and never changed in place: a change clones, edits, and swaps the
//! pointer, so that whoever checks rights sees one consistent set.

use abi::cap;
use alloc::sync::Arc;

/// A set of capabilities; bit `n` is capability `n`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CapSet(pub u64);

impl CapSet {
    pub const EMPTY: CapSet = CapSet(0);
    /// Every capability Linux 6.12 defines.
    pub const FULL: CapSet = CapSet((1 << (cap::CAP_LAST_CAP + 1)) - 1);

    #[inline]
    pub const fn has(self, capability: u32) -> bool {
        capability < 64 && self.0 & (1 << capability) != 0
    }

    pub const fn with(self, capability: u32) -> CapSet {
        CapSet(self.0 | 1 << capability)
    }

    pub const fn without(self, capability: u32) -> CapSet {
        CapSet(self.0 & !(1 << capability))
    }

    pub const fn and(self, other: CapSet) -> CapSet {
        CapSet(self.0 & other.0)
    }

    pub const fn or(self, other: CapSet) -> CapSet {
        CapSet(self.0 | other.0)
    }

    pub const fn is_subset_of(self, other: CapSet) -> bool {
        self.0 & !other.0 == 0
    }
}

/// The credentials of a task.
#[derive(Clone, Debug)]
pub struct Cred {
    pub uid: u32,
    pub euid: u32,
    pub suid: u32,
    /// The user id that file operations check.
    pub fsuid: u32,
    pub gid: u32,
    pub egid: u32,
    pub sgid: u32,
    pub fsgid: u32,
    /// Supplementary groups, sorted.
    pub groups: Arc<[u32]>,
    pub inheritable: CapSet,
    pub permitted: CapSet,
    pub effective: CapSet,
    pub bounding: CapSet,
    pub ambient: CapSet,
    /// `SECBIT_*`.
    pub securebits: u32,
    pub no_new_privs: bool,
}

impl Cred {
    /// The first process: root with all capabilities.
    pub fn root() -> Arc<Cred> {
        Arc::new(Cred {
            uid: 0,
            euid: 0,
            suid: 0,
            fsuid: 0,
            gid: 0,
            egid: 0,
            sgid: 0,
            fsgid: 0,
            groups: Arc::from([]),
            inheritable: CapSet::EMPTY,
            permitted: CapSet::FULL,
            effective: CapSet::FULL,
            bounding: CapSet::FULL,
            ambient: CapSet::EMPTY,
            securebits: 0,
            no_new_privs: false,
        })
    }

    /// Whether the task may use the privilege (`CAP_*`).
    #[inline]
    pub fn capable(&self, capability: u32) -> bool {
        self.effective.has(capability)
    }

    /// Whether `gid` is the file-system group or a supplementary one.
    pub fn in_group(&self, gid: u32) -> bool {
        self.fsgid == gid || self.groups.binary_search(&gid).is_ok()
    }

    /// As [`Cred::in_group`] with the effective group, for checks that are not about files.
    pub fn in_egroup(&self, gid: u32) -> bool {
        self.egid == gid || self.groups.binary_search(&gid).is_ok()
    }

    /// The credentials that access(2) checks with: real ids; capabilities only for real root.
    pub fn for_access(&self) -> Cred {
        let mut real = self.clone();
        (real.fsuid, real.fsgid) = (self.uid, self.gid);
        if self.securebits & cap::SECBIT_NO_SETUID_FIXUP == 0 {
            real.effective = if self.uid == 0 { self.permitted } else { CapSet::EMPTY };
        }
        real
    }
}
