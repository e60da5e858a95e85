//! The root directory: registered files, `self`, `thread-self`, a directory for each process.

use crate::entries::ProcessDir;
use crate::links::SelfLink;
use crate::mounting::{HIDE_NAME, Options};
use abi::errno::Result;
use alloc::sync::Arc;
use core::fmt::Write;
use kcore::{Pid, Subject, SubjectId, pid};
use kernfs::{Asker, Dir, Each, Kind, Meta, Node, PROC};

pub struct Root {
    options: Arc<Options>,
}

/// Where entries are in a listing: registered ones below, then the links, then processes by number.
const FIRST_LINK: u64 = 1 << 32;
const FIRST_PROCESS: u64 = FIRST_LINK + 2;
const LINKS: [&[u8]; 2] = [b"self", b"thread-self"];

impl Root {
    pub fn new(options: Arc<Options>) -> Root {
        Root { options }
    }
}

impl Meta for Root {
    fn mode(&self) -> u32 {
        0o555
    }
}

/// The number that a name stands for: decimal, without leading zeros.
pub fn number_of(name: &[u8]) -> Option<Pid> {
    if name.is_empty() || name.len() > 9 || name[0] == b'0' && name.len() > 1 {
        return None;
    }
    name.iter().try_fold(0, |sum, digit| digit.is_ascii_digit().then(|| sum * 10 + Pid::from(digit - b'0')))
}

impl Dir for Root {
    fn lookup(&self, name: &[u8]) -> Result<Option<Node>> {
        if !self.options.is_pids_only()
            && let Some(node) = PROC.lookup(name)
        {
            return Ok(Some(node));
        }
        match name {
            b"self" => return Ok(Some(Node::Link(Arc::new(SelfLink { thread: false })))),
            b"thread-self" => return Ok(Some(Node::Link(Arc::new(SelfLink { thread: true })))),
            _ => {}
        }
        // A thread that does not lead its process has a directory too, which is not listed.
        let Some(number) = number_of(name) else { return Ok(None) };
        let Some(process) = pid::find_process_of(number) else { return Ok(None) };
        let id = SubjectId::of_process(&process);
        let named = if process.pid() == number {
            id
        } else {
            let Some(thread) = pid::find_thread(number) else { return Ok(None) };
            SubjectId::of_thread(&thread)
        };
        Ok(Some(Node::Dir(Arc::new(ProcessDir::new(named, self.options.clone())))))
    }

    fn directories(&self) -> u32 {
        let registered = if self.options.is_pids_only() { 0 } else { PROC.directories() };
        registered + pid::process_total() as u32
    }

    fn list(&self, from: u64, asker: &Asker, each: &mut Each) -> Result<()> {
        let mut full = false;
        let mut put = |number, name: &[u8], kind| {
            full |= !each(number, name, kind);
            !full
        };
        if !self.options.is_pids_only() {
            PROC.list(from, &mut put);
        }
        for (number, name) in (FIRST_LINK..).zip(LINKS) {
            if number >= from && !put(number, name, Kind::Link) {
                return Ok(());
            }
        }
        if full {
            return Ok(());
        }
        self.list_processes(from.saturating_sub(FIRST_PROCESS), asker, each);
        Ok(())
    }
}

impl Root {
    /// One process at a time: the table is locked only to find the next.
    fn list_processes(&self, from: u64, asker: &Asker, each: &mut Each) {
        let mut next = Pid::try_from(from).unwrap_or(Pid::MAX).max(1);
        while let Some(process) = pid::next_process(next) {
            let number = process.pid();
            next = number + 1;
            let subject = Subject { thread: process.leader(), process, whole: true };
            if !self.options.shows(HIDE_NAME, &subject, &asker.cred, asker.tid) {
                continue;
            }
            let name = NumberName::of(u64::from(number));
            if !each(FIRST_PROCESS + u64::from(number), name.as_bytes(), Kind::Dir) {
                return;
            }
        }
    }
}

/// A number as a name, without an allocation for each entry of a listing.
#[derive(Default)]
pub struct NumberName {
    bytes: [u8; 20],
    len: usize,
}

impl NumberName {
    pub fn of(number: u64) -> NumberName {
        let mut name = NumberName::default();
        // Twenty digits hold every number.
        let _ = write!(name, "{number}");
        name
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

impl Write for NumberName {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        let room = self.bytes.get_mut(self.len..self.len + text.len()).ok_or(core::fmt::Error)?;
        room.copy_from_slice(text.as_bytes());
        self.len += text.len();
        Ok(())
    }
}
