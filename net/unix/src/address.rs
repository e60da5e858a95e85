//! Names of sockets: paths, abstract names, and who has which.

use crate::socket_state::Unix;
use abi::Errno;
use abi::errno::Result;
use abi::socket::{AF_UNIX, UNIX_PATH_MAX};
use abi::stat::{DevId, S_IFSOCK, W_OK};
use alloc::collections::BTreeMap;
use alloc::sync::{Arc, Weak};
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU32, Ordering::Relaxed};
use socket::Party;
use sync::SpinLock;
use sync::levels::DeviceTable;
use vfs::namei::{self, New};
use vfs::{FileType, InodeRef, Look, Path, Start, permission, resolve};

/// What a program gives as an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    /// Choose one for me (bind(2) with the family alone).
    Auto,
    Path(Vec<u8>),
    Abstract(Vec<u8>),
}

/// Takes a sockaddr_un apart. EINVAL for another family or a length that cannot be.
pub fn parse(address: &[u8]) -> Result<Name> {
    let family = address.get(..2).ok_or(Errno::EINVAL)?;
    let path = &address[2..];
    if u16::from_ne_bytes([family[0], family[1]]) != AF_UNIX || path.len() > UNIX_PATH_MAX {
        return Err(Errno::EINVAL);
    }
    Ok(match path.first() {
        None => Name::Auto,
        Some(0) => Name::Abstract(path[1..].to_vec()),
        Some(_) => Name::Path(path.split(|&byte| byte == 0).next().unwrap_or(path).to_vec()),
    })
}

/// A name that a socket has, or had: messages tell it after their sender is gone.
pub struct Bound {
    pub name: Name,
    /// Keeps the inode, by whose identity the socket is found.
    path: Option<Path>,
}

impl Bound {
    /// The sockaddr_un that tells it.
    pub fn to_bytes(&self) -> Vec<u8> {
        to_bytes(Some(&self.name))
    }

    /// As /proc/net/unix shows it: `@` for the zero byte.
    pub fn show(&self) -> Vec<u8> {
        match &self.name {
            Name::Path(path) => path.clone(),
            Name::Abstract(name) => {
                let shown = name.iter().map(|&byte| if byte == 0 { b'@' } else { byte });
                core::iter::once(b'@').chain(shown).collect()
            }
            Name::Auto => Vec::new(),
        }
    }
}

/// The address of a socket with this name, or without one.
pub fn to_bytes(name: Option<&Name>) -> Vec<u8> {
    let mut bytes = AF_UNIX.to_ne_bytes().to_vec();
    match name {
        None | Some(Name::Auto) => {}
        Some(Name::Path(path)) => {
            bytes.extend_from_slice(path);
            bytes.push(0);
        }
        Some(Name::Abstract(name)) => {
            bytes.push(0);
            bytes.extend_from_slice(name);
        }
    }
    bytes
}

/// What a socket is found by.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    /// A type of socket has abstract names of its own.
    Abstract(u32, Vec<u8>),
    /// The address of the inode, which a bound socket keeps alive.
    Inode(usize),
}

static NAMES: SpinLock<BTreeMap<Key, Weak<Unix>>, DeviceTable> = SpinLock::new(BTreeMap::new());

fn inode_key(inode: &InodeRef) -> Key {
    Key::Inode(Arc::as_ptr(inode).cast::<()>() as usize)
}

/// The name is free again, if it was this socket's own: a connection shares its listener's. A path stays in the file
/// system, as on Linux.
pub fn release(bound: &Bound, socket: &Unix) {
    let key = match (&bound.name, &bound.path) {
        (Name::Abstract(name), _) => Key::Abstract(socket.options.kind, name.clone()),
        (_, Some(path)) => inode_key(path.inode()),
        _ => return,
    };
    let mut names = NAMES.lock();
    if names.get(&key).is_some_and(|owner| core::ptr::eq(owner.as_ptr(), socket)) {
        names.remove(&key);
    }
}

/// Gives `socket` a name: bind(2). EADDRINUSE, and what making a file may fail with.
pub fn bind(socket: &Arc<Unix>, name: Name, who: &Party) -> Result<Bound> {
    match name {
        Name::Auto => bind_auto(socket),
        Name::Abstract(name) => bind_abstract(socket, name),
        Name::Path(path) => {
            let new = New::Node { mode: S_IFSOCK | 0o777, dev: DevId::default() };
            let place = match namei::make_path(&who.caller, Start::Cwd, &path, new) {
                Err(Errno::EEXIST) => return Err(Errno::EADDRINUSE),
                other => other?,
            };
            let key = inode_key(place.inode());
            NAMES.lock().insert(key, Arc::downgrade(socket));
            Ok(Bound { name: Name::Path(path), path: Some(place) })
        }
    }
}

fn bind_abstract(socket: &Arc<Unix>, name: Vec<u8>) -> Result<Bound> {
    let mut names = NAMES.lock();
    let key = Key::Abstract(socket.options.kind, name.clone());
    if names.contains_key(&key) {
        return Err(Errno::EADDRINUSE);
    }
    names.insert(key, Arc::downgrade(socket));
    Ok(Bound { name: Name::Abstract(name), path: None })
}

/// The kernel's choice: five hexadecimal digits (unix(7), "Autobind feature"). ENOSPC when all are taken.
fn bind_auto(socket: &Arc<Unix>) -> Result<Bound> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const NAMES_MAX: u32 = 1 << 20;
    for _ in 0..NAMES_MAX {
        let number = NEXT.fetch_add(1, Relaxed) % NAMES_MAX;
        match bind_abstract(socket, alloc::format!("{number:05x}").into_bytes()) {
            Err(Errno::EADDRINUSE) => {}
            other => return other,
        }
    }
    Err(Errno::ENOSPC)
}

/// Whether there is a file of this name, so that bind(2) says so before anything else.
pub fn is_taken(name: &Name, who: &Party) -> bool {
    matches!(name, Name::Path(path) if resolve(&who.caller, Start::Cwd, path, Look::empty()).is_ok())
}

/// The socket of a name and type, for connect(2) and sendto(2). ECONNREFUSED when nobody has it; ENOENT, EACCES and others for
/// the path.
pub fn find(name: &Name, kind: u32, who: &Party) -> Result<Arc<Unix>> {
    let key = match name {
        Name::Auto => return Err(Errno::EINVAL),
        Name::Abstract(name) => Key::Abstract(kind, name.clone()),
        Name::Path(path) => {
            let place = resolve(&who.caller, Start::Cwd, path, Look::FOLLOW)?;
            permission::check_path(&place, W_OK, &who.caller)?;
            if place.inode().file_type() != FileType::Socket {
                return Err(Errno::ECONNREFUSED);
            }
            inode_key(place.inode())
        }
    };
    let found = NAMES.lock().get(&key).and_then(Weak::upgrade);
    found.ok_or(Errno::ECONNREFUSED)
}
