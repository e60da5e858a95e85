//! POSIX access control lists, acl(5): who may do what to a file, and the forms in which lists are stored.
//!
//! **Problem.** Owner, group and others are too few. A list names more users and groups; the mode's group bits become
//! the most that any of them gets.
//!
//! **Interface.** [`from_user`] and [`to_user`] are the form of the attributes `system.posix_acl_*` (version 2, entries of 8
//! bytes), [`from_disk`] and [`to_disk`] that of ext4 (version 1, entries of 4 bytes, of 8 where the tag has an id), both
//! little-endian. [`permits`] decides; [`chmod`], [`inherit`] and [`to_mode`] keep list and mode together.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use abi::Errno;
use abi::errno::Result;
use alloc::vec::Vec;

const DISK_VERSION: u32 = 1;
const USER_VERSION: u32 = 2;
const HEADER: usize = 4;
const NO_ID: u32 = !0;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// One entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AclEntry {
    pub tag: u16,
    /// rwx as 4, 2, 1.
    pub rights: u16,
    pub id: u32,
}

/// The attribute that holds the list of a file.
pub const ACCESS: &[u8] = b"system.posix_acl_access";
/// The attribute that holds the list which files in a directory start with.
pub const DEFAULT: &[u8] = b"system.posix_acl_default";

fn le16(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn le32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn has_id(tag: u16) -> bool {
    matches!(tag, USER | GROUP)
}

/// Reads what a program gave. EINVAL: no valid list; EOPNOTSUPP: another version.
pub fn from_user(bytes: &[u8]) -> Result<Vec<AclEntry>> {
    if bytes.len() < HEADER || !(bytes.len() - HEADER).is_multiple_of(8) {
        return Err(Errno::EINVAL);
    }
    if le32(bytes, 0) != USER_VERSION {
        return Err(Errno::EOPNOTSUPP);
    }
    let parse = |entry: &[u8]| {
        let tag = le16(entry, 0);
        AclEntry { tag, rights: le16(entry, 2), id: if has_id(tag) { le32(entry, 4) } else { NO_ID } }
    };
    let entries: Vec<AclEntry> = bytes[HEADER..].chunks_exact(8).map(parse).collect();
    if entries.is_empty() || is_valid(&entries) { Ok(entries) } else { Err(Errno::EINVAL) }
}

/// As programs see it.
pub fn to_user(entries: &[AclEntry]) -> Vec<u8> {
    let mut bytes = USER_VERSION.to_le_bytes().to_vec();
    for entry in entries {
        bytes.extend_from_slice(&entry.tag.to_le_bytes());
        bytes.extend_from_slice(&entry.rights.to_le_bytes());
        bytes.extend_from_slice(&entry.id.to_le_bytes());
    }
    bytes
}

/// Reads the medium's form. EINVAL when it is damaged, as on Linux.
pub fn from_disk(bytes: &[u8]) -> Result<Vec<AclEntry>> {
    if bytes.len() < HEADER || le32(bytes, 0) != DISK_VERSION {
        return Err(Errno::EINVAL);
    }
    let mut entries = Vec::new();
    let mut at = HEADER;
    while at < bytes.len() {
        let tag = le16(bytes, at);
        let len = if has_id(tag) { 8 } else { 4 };
        if at + len > bytes.len() {
            return Err(Errno::EINVAL);
        }
        let id = if has_id(tag) { le32(bytes, at + 4) } else { NO_ID };
        entries.push(AclEntry { tag, rights: le16(bytes, at + 2), id });
        at += len;
    }
    Ok(entries)
}

pub fn to_disk(entries: &[AclEntry]) -> Vec<u8> {
    let mut bytes = DISK_VERSION.to_le_bytes().to_vec();
    for entry in entries {
        bytes.extend_from_slice(&entry.tag.to_le_bytes());
        bytes.extend_from_slice(&entry.rights.to_le_bytes());
        if has_id(entry.tag) {
            bytes.extend_from_slice(&entry.id.to_le_bytes());
        }
    }
    bytes
}

/// The order and the numbers that acl(5) asks for.
fn is_valid(entries: &[AclEntry]) -> bool {
    let count = |tag: u16| entries.iter().filter(|entry| entry.tag == tag).count();
    let rank =
        |tag: u16| [USER_OBJ, USER, GROUP_OBJ, GROUP, MASK, OTHER].iter().position(|known| *known == tag);
    let named = count(USER) + count(GROUP) > 0;
    entries.iter().all(|entry| rank(entry.tag).is_some() && entry.rights & !7 == 0)
        && entries.windows(2).all(|pair| rank(pair[0].tag) <= rank(pair[1].tag))
        && (count(USER_OBJ), count(GROUP_OBJ), count(OTHER)) == (1, 1, 1)
        && count(MASK) <= 1
        && (!named || count(MASK) == 1)
}

/// Whether the list gives somebody who is not the file's owner the rights `want` (rwx as 4, 2, 1), as posix_acl_permission
/// has it: a user's own entry decides, then the entries of its groups, then that of all others. `in_group` is asked
/// for `group`, the file's, and for those that the list names.
pub fn permits(
    entries: &[AclEntry],
    want: u32,
    user: u32,
    group: u32,
    in_group: impl Fn(u32) -> bool,
) -> bool {
    let mask = entries.iter().find(|entry| entry.tag == MASK).map_or(7, |entry| entry.rights);
    let gives = |entry: &AclEntry, mask: u16| u32::from(entry.rights & mask) & want == want;
    if let Some(own) = entries.iter().find(|entry| entry.tag == USER && entry.id == user) {
        return gives(own, mask);
    }
    let mine = |entry: &&AclEntry| match entry.tag {
        GROUP_OBJ => in_group(group),
        GROUP => in_group(entry.id),
        _ => false,
    };
    let mut groups = entries.iter().filter(mine).peekable();
    if groups.peek().is_some() {
        return groups.any(|entry| gives(entry, mask));
    }
    entries.iter().find(|entry| entry.tag == OTHER).is_some_and(|entry| gives(entry, 7))
}

/// The permission bits of a file with this list, and whether they say all that the list says.
pub fn to_mode(entries: &[AclEntry]) -> (u32, bool) {
    let rights =
        |tag: u16| entries.iter().find(|entry| entry.tag == tag).map(|entry| u32::from(entry.rights & 7));
    let group = rights(MASK).or(rights(GROUP_OBJ)).unwrap_or(0);
    let mode = rights(USER_OBJ).unwrap_or(0) << 6 | group << 3 | rights(OTHER).unwrap_or(0);
    (mode, entries.iter().all(|entry| matches!(entry.tag, USER_OBJ | GROUP_OBJ | OTHER)))
}

/// The list after chmod: owner, mask (or group) and others change.
pub fn chmod(entries: &mut [AclEntry], mode: u32) {
    let masked = entries.iter().any(|entry| entry.tag == MASK);
    for entry in entries {
        match entry.tag {
            USER_OBJ => entry.rights = (mode >> 6 & 7) as u16,
            MASK => entry.rights = (mode >> 3 & 7) as u16,
            GROUP_OBJ if !masked => entry.rights = (mode >> 3 & 7) as u16,
            OTHER => entry.rights = (mode & 7) as u16,
            _ => {}
        }
    }
}

/// The list of a new file from its directory's default list: no right that `mode` does not ask for. The mode's
/// permission bits become what the list says.
pub fn inherit(entries: &mut [AclEntry], mode: &mut u32) {
    let masked = entries.iter().any(|entry| entry.tag == MASK);
    for entry in entries.iter_mut() {
        let shift = match entry.tag {
            USER_OBJ => 6,
            MASK => 3,
            GROUP_OBJ if !masked => 3,
            OTHER => 0,
            _ => continue,
        };
        entry.rights &= (*mode >> shift & 7) as u16;
    }
    *mode = *mode & !0o777 | to_mode(entries).0;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tag: u16, rights: u16, id: u32) -> AclEntry {
        AclEntry { tag, rights, id }
    }

    #[test]
    fn forms_are_equal() {
        let list = [
            entry(USER_OBJ, 7, NO_ID),
            entry(USER, 5, 1000),
            entry(GROUP_OBJ, 5, NO_ID),
            entry(MASK, 5, NO_ID),
            entry(OTHER, 0, NO_ID),
        ];
        assert_eq!(from_user(&to_user(&list)), Ok(list.to_vec()));
        assert_eq!(from_disk(&to_disk(&list)), Ok(list.to_vec()));
        assert_eq!(to_disk(&list).len(), 4 + 4 * 4 + 8);
        assert_eq!(to_mode(&list), (0o750, false));
        let mut changed = list;
        chmod(&mut changed, 0o641);
        assert_eq!(to_mode(&changed), (0o641, false));
        let mut mode = 0o100666;
        let mut made = list;
        inherit(&mut made, &mut mode);
        assert_eq!(mode, 0o100640);
    }

    #[test]
    fn the_first_entry_that_fits_decides() {
        let list = [
            entry(USER_OBJ, 7, NO_ID),
            entry(USER, 6, 1),
            entry(USER, 0, 2),
            entry(GROUP_OBJ, 1, NO_ID),
            entry(GROUP, 6, 30),
            entry(MASK, 4, NO_ID),
            entry(OTHER, 2, NO_ID),
        ];
        let ask =
            |user, groups: &[u32], want| permits(&list, want, user, 20, |group| groups.contains(&group));
        // A named user gets no more than the mask, whatever groups say.
        assert_eq!([4, 2].map(|want| ask(1, &[20, 30], want)), [true, false]);
        assert!(!ask(2, &[30], 4));
        // Of several groups one that gives all is enough; none: others' rights do not count.
        assert_eq!([4, 2, 1].map(|want| ask(3, &[20, 30], want)), [true, false, false]);
        assert!(!ask(3, &[20], 2));
        // The mask is not for others.
        assert_eq!([4, 2].map(|want| ask(3, &[], want)), [false, true]);
    }

    #[test]
    fn bad_lists_are_refused() {
        assert_eq!(from_user(&[1, 0, 0, 0]), Err(Errno::EOPNOTSUPP));
        assert_eq!(from_user(&to_user(&[entry(USER_OBJ, 7, NO_ID)])), Err(Errno::EINVAL));
        assert_eq!(from_user(&[2, 0, 0]), Err(Errno::EINVAL));
    }
}
