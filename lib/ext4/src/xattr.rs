//! Extended attributes: behind the inode's fixed part, and in one block of their own.
//!
//! A change reads all attributes of the place it touches, changes the list, and writes the place anew: few files have
//! more than two. The block may be shared by several inodes (Linux does that); a shared one is copied, never changed.

use crate::balloc::Claim;
use crate::cache::{BlockRef, Seal};
use crate::crc::crc32c;
use crate::env::{Env, Lock};
use crate::fs::Fs;
use crate::inode::{Inode, Node};
use crate::journal::Handle;
use crate::layout::{INODE_OLD_LEN, le16, le32, put16, put32};
use crate::{BAD_CSUM, DAMAGED};
use abi::Errno;
use abi::errno::Result;
use alloc::vec::Vec;

const MAGIC: u32 = 0xea02_0000;
const HEADER: usize = 32;
const ENTRY: usize = 16;
const CSUM_AT: usize = 16;

/// Blocks that a change may touch: inode, old block, new block, their bitmaps and descriptors.
const CREDITS: usize = 10;

/// XATTR_CREATE and XATTR_REPLACE of setxattr(2).
const CREATE: u32 = 1;
const REPLACE: u32 = 2;

const ACL_ACCESS: u8 = 2;
const ACL_DEFAULT: u8 = 3;

/// The prefixes, by the number that stands for them.
const PREFIXES: [(u8, &[u8]); 7] = [
    (1, b"user."),
    (ACL_ACCESS, b"system.posix_acl_access"),
    (ACL_DEFAULT, b"system.posix_acl_default"),
    (4, b"trusted."),
    (6, b"security."),
    (7, b"system."),
    (8, b"system.richacl"),
];

/// One attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attribute {
    index: u8,
    name: Vec<u8>,
    value: Vec<u8>,
}

/// The number of a full name's prefix, and the rest. EOPNOTSUPP for a name without one.
fn split(name: &[u8]) -> Result<(u8, &[u8])> {
    for (index, whole) in [PREFIXES[1], PREFIXES[2]] {
        if name == whole {
            return Ok((index, b""));
        }
    }
    for (index, prefix) in [PREFIXES[0], PREFIXES[3], PREFIXES[4]] {
        if let Some(rest) = name.strip_prefix(prefix)
            && !rest.is_empty()
        {
            return Ok((index, rest));
        }
    }
    Err(Errno::EOPNOTSUPP)
}

fn prefix(index: u8) -> Option<&'static [u8]> {
    PREFIXES.iter().find(|known| known.0 == index).map(|known| known.1)
}

fn padded(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// The checksum of a block of attributes.
fn csum(seed: u32, nr: u64, bytes: &[u8]) -> u32 {
    let crc = crc32c(crc32c(seed, &nr.to_le_bytes()), &bytes[..CSUM_AT]);
    crc32c(crc32c(crc, &[0; 4]), &bytes[CSUM_AT + 4..])
}

pub(crate) fn seal(seed: u32, nr: u64, bytes: &mut [u8]) {
    let crc = csum(seed, nr, bytes);
    put32(bytes, CSUM_AT, crc);
}

/// Reads entries that begin at `first`; values are at offsets from `base`.
fn parse(bytes: &[u8], first: usize, base: usize) -> Result<Vec<Attribute>> {
    let mut all = Vec::new();
    let mut at = first;
    while at + 4 <= bytes.len() && le32(bytes, at) != 0 {
        if at + ENTRY > bytes.len() {
            return Err(DAMAGED);
        }
        let (name_len, index) = (usize::from(bytes[at]), bytes[at + 1]);
        let (offset, inode, size) =
            (usize::from(le16(bytes, at + 2)), le32(bytes, at + 4), le32(bytes, at + 8) as usize);
        let name = bytes.get(at + ENTRY..at + ENTRY + name_len).ok_or(DAMAGED)?;
        let value = bytes.get(base + offset..).and_then(|from| from.get(..size)).ok_or(DAMAGED)?;
        if inode != 0 {
            return Err(Errno::EOPNOTSUPP);
        }
        all.push(Attribute {
            index,
            name: name.to_vec(),
            value: if size == 0 { Vec::new() } else { value.to_vec() },
        });
        at += ENTRY + padded(name_len);
    }
    Ok(all)
}

/// Bytes that attributes take, the end mark included.
fn size_of_all(all: &[Attribute]) -> usize {
    4 + all.iter().map(|a| ENTRY + padded(a.name.len()) + padded(a.value.len())).sum::<usize>()
}

fn hash_of(attribute: &Attribute) -> u32 {
    let mut hash = 0u32;
    for byte in &attribute.name {
        hash = hash.rotate_left(5) ^ u32::from(*byte);
    }
    for word in attribute.value.chunks(4) {
        let mut bytes = [0; 4];
        bytes[..word.len()].copy_from_slice(word);
        hash = hash.rotate_left(16) ^ u32::from_le_bytes(bytes);
    }
    hash
}

/// Writes entries from `first` on, values from the end down; all fit. Returns the entries' hashes in order.
fn build(bytes: &mut [u8], first: usize, base: usize, all: &[Attribute], hashed: bool) -> Vec<u32> {
    bytes[first..].fill(0);
    let (mut at, mut end) = (first, bytes.len());
    let mut hashes = Vec::new();
    for attribute in all {
        let size = attribute.value.len();
        end -= padded(size);
        let hash = if hashed { hash_of(attribute) } else { 0 };
        bytes[at] = attribute.name.len() as u8;
        bytes[at + 1] = attribute.index;
        put16(bytes, at + 2, if size == 0 { 0 } else { (end - base) as u16 });
        put32(bytes, at + 8, size as u32);
        put32(bytes, at + 12, hash);
        bytes[at + ENTRY..at + ENTRY + attribute.name.len()].copy_from_slice(&attribute.name);
        bytes[end..end + size].copy_from_slice(&attribute.value);
        at += ENTRY + padded(attribute.name.len());
        hashes.push(hash);
    }
    hashes
}

impl Inode {
    /// Where attributes begin in the inode, if it has room for any.
    fn attribute_room(&self) -> Option<usize> {
        let at = INODE_OLD_LEN + self.extra_len();
        (self.extra_len() > 0 && at + 8 <= self.raw.len()).then_some(at)
    }

    fn inner_attributes(&self) -> Result<Vec<Attribute>> {
        match self.attribute_room() {
            Some(at) if le32(&self.raw, at) == MAGIC => parse(&self.raw, at + 4, at + 4),
            _ => Ok(Vec::new()),
        }
    }

    fn set_inner_attributes(&mut self, all: &[Attribute]) {
        let Some(at) = self.attribute_room() else { return };
        put32(&mut self.raw, at, if all.is_empty() { 0 } else { MAGIC });
        build(&mut self.raw, at + 4, at + 4, all, false);
    }

    fn inner_room(&self) -> usize {
        self.attribute_room().map_or(0, |at| self.raw.len() - at - 4)
    }
}

impl<E: Env> Fs<E> {
    fn attribute_block(&self, inode: &Inode) -> Result<Option<BlockRef<E>>> {
        let nr = inode.file_acl();
        if nr == 0 {
            return Ok(None);
        }
        if !self.valid_data(nr, 1) {
            self.fail("attribute block", inode.ino);
            return Err(DAMAGED);
        }
        let block = self.read(nr)?;
        let checked = block.verify(Seal::Attributes, |bytes| {
            if le32(bytes, 0) != MAGIC || le32(bytes, 8) != 1 {
                return Err(DAMAGED);
            }
            let good = !self.geo.has_csum() || csum(self.geo.csum_seed, nr, bytes) == le32(bytes, CSUM_AT);
            if good { Ok(()) } else { Err(BAD_CSUM) }
        });
        checked.inspect_err(|_| self.fail("attribute block", inode.ino))?;
        Ok(Some(block))
    }

    fn outer_attributes(&self, inode: &Inode) -> Result<Vec<Attribute>> {
        match self.attribute_block(inode)? {
            Some(block) => block.with(|bytes| parse(bytes, HEADER, 0)),
            None => Ok(Vec::new()),
        }
    }

    /// The value of an attribute. ENODATA; EOPNOTSUPP for a prefix that is not known.
    pub fn get_xattr(&self, node: &Node<E>, name: &[u8]) -> Result<Vec<u8>> {
        let (index, rest) = split(name)?;
        let state = node.state.lock();
        let value = self.find_attribute(&state.inode, index, rest)?.ok_or(Errno::ENODATA)?;
        match index {
            ACL_ACCESS | ACL_DEFAULT => Ok(posixacl::to_user(&posixacl::from_disk(&value)?)),
            _ => Ok(value),
        }
    }

    fn find_attribute(&self, inode: &Inode, index: u8, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let find = |all: Vec<Attribute>| {
            all.into_iter().find(|a| a.index == index && a.name == name).map(|a| a.value)
        };
        match find(inode.inner_attributes()?) {
            Some(value) => Ok(Some(value)),
            None => Ok(find(self.outer_attributes(inode)?)),
        }
    }

    /// Whether an inode has attributes at all, without reading more than it.
    pub fn has_xattrs(&self, node: &Node<E>) -> bool {
        let state = node.state.lock();
        let inner = state.inode.inner_attributes();
        state.inode.file_acl() != 0 || !inner.is_ok_and(|list| list.is_empty())
    }

    /// Appends the full names, each with a zero behind it.
    pub fn list_xattr(&self, node: &Node<E>, out: &mut Vec<u8>) -> Result<()> {
        let state = node.state.lock();
        for attribute in
            state.inode.inner_attributes()?.into_iter().chain(self.outer_attributes(&state.inode)?)
        {
            let Some(prefix) = prefix(attribute.index) else { continue };
            out.extend_from_slice(prefix);
            out.extend_from_slice(&attribute.name);
            out.push(0);
        }
        Ok(())
    }

    /// Sets (`None`: removes) an attribute. `flags` as of setxattr(2). EEXIST, ENODATA, ENOSPC, ERANGE. An access
    /// control list sets the permission bits too.
    pub fn set_xattr(&self, node: &Node<E>, name: &[u8], value: Option<&[u8]>, flags: u32) -> Result<()> {
        let (index, rest) = split(name)?;
        if rest.len() > 255 {
            return Err(Errno::ERANGE);
        }
        let mut mode = None;
        let converted;
        let value = match (index, value) {
            (ACL_ACCESS | ACL_DEFAULT, Some(bytes)) => {
                let entries = posixacl::from_user(bytes)?;
                let (bits, all) = posixacl::to_mode(&entries);
                if index == ACL_ACCESS && !entries.is_empty() {
                    mode = Some(bits);
                }
                converted = posixacl::to_disk(&entries);
                // A list that the permission bits express needs no attribute.
                let empty = entries.is_empty() || (index == ACL_ACCESS && all);
                (!empty).then_some(&converted[..])
            }
            (_, value) => value,
        };
        let handle = self.begin(CREDITS)?;
        let mut state = node.state.lock();
        if index == ACL_DEFAULT && !state.inode.is_dir() {
            return if value.is_some() { Err(Errno::EACCES) } else { Ok(()) };
        }
        let lenient = matches!(index, ACL_ACCESS | ACL_DEFAULT);
        let changed = self.change_attribute(&handle, &mut state.inode, (index, rest), value, flags);
        match changed {
            Err(Errno::ENODATA) if lenient && flags & REPLACE == 0 => {}
            other => other?,
        }
        if let Some(bits) = mode {
            let kept = state.inode.mode() & 0o7000;
            state.inode.apply(&crate::Change { mode: Some(kept | bits), ..Default::default() });
        }
        let times = crate::Times { ctime: self.env.now_ns(), ..state.inode.times() };
        state.inode.set_times(&times);
        self.store(&handle, node, &mut state)
    }

    fn change_attribute(
        &self,
        handle: &Handle<E>,
        inode: &mut Inode,
        (index, name): (u8, &[u8]),
        value: Option<&[u8]>,
        flags: u32,
    ) -> Result<()> {
        let (mut inner, mut outer) = (inode.inner_attributes()?, self.outer_attributes(inode)?);
        let before = (inner.len(), outer.len());
        inner.retain(|a| a.index != index || a.name != name);
        outer.retain(|a| a.index != index || a.name != name);
        let (was_inner, was_outer) = (inner.len() < before.0, outer.len() < before.1);
        match (was_inner || was_outer, value.is_some()) {
            (true, _) if flags & CREATE != 0 => return Err(Errno::EEXIST),
            (false, true) if flags & REPLACE != 0 => return Err(Errno::ENODATA),
            (false, false) => return Err(Errno::ENODATA),
            _ => {}
        }
        let mut outer_changes = was_outer;
        if let Some(value) = value {
            let new = Attribute { index, name: name.to_vec(), value: value.to_vec() };
            inner.push(new);
            if size_of_all(&inner) > inode.inner_room() {
                outer.extend(inner.pop());
                outer.sort_by(|a, b| (a.index, a.name.len(), &a.name).cmp(&(b.index, b.name.len(), &b.name)));
                outer_changes = true;
            }
        }
        if HEADER + size_of_all(&outer) > self.geo.block_size && outer_changes {
            return Err(if outer.len() == 1 { Errno::E2BIG } else { Errno::ENOSPC });
        }
        if outer_changes {
            self.write_outer(handle, inode, &outer)?;
        }
        inode.set_inner_attributes(&inner);
        Ok(())
    }

    /// Writes the block of attributes anew; no attributes, no block.
    fn write_outer(&self, handle: &Handle<E>, inode: &mut Inode, all: &[Attribute]) -> Result<()> {
        if all.is_empty() {
            return self.drop_attributes(handle, inode);
        }
        let old = self.attribute_block(inode)?;
        let own = old.filter(|block| block.with(|bytes| le32(bytes, 4)) <= 1);
        let block = match own {
            Some(block) => block,
            None => {
                let goal = self.group_first(self.group_of_inode(inode.ino));
                let (nr, _) = self.alloc_blocks(handle, goal, 1, Claim::Plain)?;
                let block = self.cache.blank(&self.env, nr)?;
                block.set_new_seal(Seal::Attributes);
                self.drop_attributes(handle, inode)?;
                inode.set_file_acl(nr);
                inode.add_blocks(1, &self.geo);
                block
            }
        };
        handle.join(&block)?;
        block.change(|bytes| {
            bytes.fill(0);
            put32(bytes, 0, MAGIC);
            put32(bytes, 4, 1);
            put32(bytes, 8, 1);
            let hashes = build(bytes, HEADER, 0, all, true);
            let whole = hashes.iter().fold(0u32, |hash, entry| hash.rotate_left(16) ^ entry);
            put32(bytes, 12, if hashes.contains(&0) { 0 } else { whole });
        });
        Ok(())
    }

    /// The inode gives up its block of attributes; the last user frees it.
    pub(crate) fn drop_attributes(&self, handle: &Handle<E>, inode: &mut Inode) -> Result<()> {
        let Some(block) = self.attribute_block(inode)? else { return Ok(()) };
        let users = block.with(|bytes| le32(bytes, 4));
        if users > 1 {
            handle.join(&block)?;
            block.change(|bytes| put32(bytes, 4, users - 1));
        } else {
            self.free_run(handle, block.nr, 1, true)?;
        }
        inode.set_file_acl(0);
        inode.add_blocks(-1, &self.geo);
        Ok(())
    }

    /// chmod of a file with an access control list: the list follows.
    pub(crate) fn chmod_acl(&self, handle: &Handle<E>, inode: &mut Inode, mode: u32) -> Result<()> {
        let Some(value) = self.find_attribute(inode, ACL_ACCESS, b"")? else { return Ok(()) };
        let mut entries = posixacl::from_disk(&value)?;
        posixacl::chmod(&mut entries, mode);
        self.change_attribute(handle, inode, (ACL_ACCESS, b""), Some(&posixacl::to_disk(&entries)), 0)
    }

    /// What a new file takes over from its directory's default list. Says whether there was one: then the umask does
    /// not count, and the list is in the inode.
    pub(crate) fn inherit_acl(&self, handle: &Handle<E>, dir: &Inode, inode: &mut Inode) -> Result<bool> {
        let Some(value) = self.find_attribute(dir, ACL_DEFAULT, b"")? else { return Ok(false) };
        if inode.is_dir() {
            self.change_attribute(handle, inode, (ACL_DEFAULT, b""), Some(&value), 0)?;
        }
        let mut entries = posixacl::from_disk(&value)?;
        let mut mode = inode.mode();
        posixacl::inherit(&mut entries, &mut mode);
        inode.base_mut().mode.set(mode as u16);
        if !posixacl::to_mode(&entries).1 {
            self.change_attribute(handle, inode, (ACL_ACCESS, b""), Some(&posixacl::to_disk(&entries)), 0)?;
        }
        Ok(true)
    }

    /// Whether a directory's default list, if it has one, decides about new files' rights instead of the umask.
    pub fn has_default_acl(&self, dir: &Node<E>) -> Result<bool> {
        Ok(self.find_attribute(&dir.state.lock().inode, ACL_DEFAULT, b"")?.is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_built_is_read(lens in prop::collection::vec((1usize..30, 0usize..60), 0..6)) {
            let all: Vec<Attribute> = lens.iter().enumerate().map(|(at, (name, value))| Attribute {
                index: 1, name: vec![b'a' + at as u8; *name], value: vec![at as u8; *value],
            }).collect();
            let mut bytes = vec![0xff; 1024];
            prop_assume!(HEADER + size_of_all(&all) <= 1024);
            build(&mut bytes, HEADER, 0, &all, true);
            prop_assert_eq!(parse(&bytes, HEADER, 0).unwrap(), all);
        }

        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 64..300)) {
            let _ = parse(&bytes, 32, 0);
        }
    }
}
