//! Replay: what committed transactions in the log say is put to its home.
//!
//! Three passes, as jbd2 does: find the last good commit, collect the revoked blocks, copy the rest. A record
//! that does not fit ends the log; nothing of the medium is trusted to be in bounds.

use super::LogMap;
use super::format::{self, Features, Format, Tag};
use crate::env::{Env, Write};
use abi::Errno;
use abi::errno::Result;
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// Writes are handed to the device in lots of so many blocks.
const LOT: usize = 64;

/// What replay needs to know of a log.
pub(crate) struct Replay<'a, E: Env> {
    pub env: &'a E,
    pub map: &'a LogMap,
    pub format: Format,
    pub first: u32,
    /// One behind the last block.
    pub last: u32,
    /// The file system's length in blocks.
    pub blocks: u64,
}

/// One pass over a transaction's records tells these events.
enum Record {
    /// A logged block: its tag, and where in the log it is.
    Block(Tag, u32),
    Revoke(u64),
}

impl<E: Env> Replay<'_, E> {
    fn next(&self, at: u32) -> u32 {
        if at + 1 >= self.last { self.first } else { at + 1 }
    }

    fn read(&self, at: u32, out: &mut [u8]) -> Result<()> {
        let home = self.map.find(at).ok_or(Errno::EUCLEAN)?;
        self.env.read_raw(home * self.format.block_size as u64, out)
    }

    /// Replays from log block `start`, where transaction `sequence` should be. Returns the sequence after the
    /// last transaction and how many there were.
    pub fn run(&self, start: u32, sequence: u32) -> Result<(u32, u32)> {
        let end = self.scan(start, sequence)?;
        let mut revoked: BTreeMap<u64, u32> = BTreeMap::new();
        self.walk(start, sequence, end, &mut |tid, record| {
            if let Record::Revoke(block) = record {
                revoked.insert(block, tid);
            }
            Ok(())
        })?;
        // The last version of each block: writes of one lot may reach the device in any order.
        let mut latest: BTreeMap<u64, (Tag, u32, u32)> = BTreeMap::new();
        self.walk(start, sequence, end, &mut |tid, record| {
            let Record::Block(tag, at) = record else { return Ok(()) };
            let newer = revoked.get(&tag.block).is_some_and(|by| by.wrapping_sub(tid) as i32 >= 0);
            if !newer {
                latest.insert(tag.block, (tag, at, tid));
            }
            Ok(())
        })?;
        let mut lot: Vec<Write> = Vec::new();
        for (tag, at, tid) in latest.into_values() {
            lot.push(self.load(tag, at, tid)?);
            if lot.len() == LOT {
                self.env.write_raw(&lot)?;
                lot.clear();
            }
        }
        self.env.write_raw(&lot)?;
        self.env.flush()?;
        Ok((end, end.wrapping_sub(sequence)))
    }

    /// A logged block with its checksum checked, as a write to its home.
    fn load(&self, tag: Tag, at: u32, tid: u32) -> Result<Write> {
        if tag.block >= self.blocks {
            return Err(Errno::EUCLEAN);
        }
        let mut bytes = vec![0; self.format.block_size];
        self.read(at, &mut bytes)?;
        if self.format.has_csum() && self.format.data_csum(tid, &bytes) != tag.checksum {
            return Err(Errno::EIO);
        }
        if tag.flags & format::TAG_ESCAPE != 0 {
            format::put_be32(&mut bytes, 0, format::MAGIC);
        }
        Ok(Write { block: tag.block, bytes })
    }

    /// The first pass: the sequence after the last whole transaction.
    fn scan(&self, start: u32, sequence: u32) -> Result<u32> {
        let mut at = start;
        let mut tid = sequence;
        // A log has no more records than blocks: a ring of records that never ends is a damaged one.
        let mut budget = self.last;
        while budget > 0 {
            let before = budget;
            match self.transaction(&mut at, tid, &mut budget, &mut |_, _| Ok(()))? {
                true => tid = tid.wrapping_add(1),
                false => break,
            }
            if budget == before {
                break;
            }
        }
        Ok(tid)
    }

    /// A later pass over what the first found good.
    fn walk(
        &self,
        start: u32,
        sequence: u32,
        end: u32,
        event: &mut dyn FnMut(u32, Record) -> Result<()>,
    ) -> Result<()> {
        let mut at = start;
        let mut tid = sequence;
        let mut budget = self.last;
        while tid != end {
            if !self.transaction(&mut at, tid, &mut budget, event)? {
                return Err(Errno::EIO);
            }
            tid = tid.wrapping_add(1);
        }
        Ok(())
    }

    /// One transaction's records; whether it ends in a good commit. `at` moves behind it.
    fn transaction(
        &self,
        at: &mut u32,
        tid: u32,
        budget: &mut u32,
        event: &mut dyn FnMut(u32, Record) -> Result<()>,
    ) -> Result<bool> {
        let mut block = vec![0; self.format.block_size];
        while *budget > 0 {
            *budget -= 1;
            self.read(*at, &mut block)?;
            let Some((kind, sequence)) = format::header(&block) else { return Ok(false) };
            if sequence != tid {
                return Ok(false);
            }
            *at = self.next(*at);
            match kind {
                format::DESCRIPTOR if self.format.tail_good(&block) => {
                    self.descriptor(&block, tid, at, budget, event)?
                }
                format::REVOKE if self.format.tail_good(&block) => self.revokes(&block, tid, event)?,
                format::COMMIT => return Ok(self.format.commit_good(&block)),
                _ => return Ok(false),
            }
        }
        Ok(false)
    }

    fn descriptor(
        &self,
        block: &[u8],
        tid: u32,
        at: &mut u32,
        budget: &mut u32,
        event: &mut dyn FnMut(u32, Record) -> Result<()>,
    ) -> Result<()> {
        let mut place = format::HEADER_LEN;
        while place + self.format.tag_len() <= self.format.entries_end() {
            let tag = self.format.get_tag(block, place)?;
            *budget = budget.saturating_sub(1);
            event(tid, Record::Block(tag, *at))?;
            *at = self.next(*at);
            place += self.format.tag_len();
            if tag.flags & format::TAG_SAME_UUID == 0 {
                place += 16;
            }
            if tag.flags & format::TAG_LAST != 0 {
                break;
            }
        }
        Ok(())
    }

    fn revokes(
        &self,
        block: &[u8],
        tid: u32,
        event: &mut dyn FnMut(u32, Record) -> Result<()>,
    ) -> Result<()> {
        let end = (format::be32(block, 12) as usize).min(self.format.entries_end());
        let step = self.format.revoke_len();
        let mut place = format::REVOKE_HEADER_LEN;
        while place + step <= end {
            let nr = match self.format.features.contains(Features::BIT64) {
                true => {
                    u64::from(format::be32(block, place)) << 32 | u64::from(format::be32(block, place + 4))
                }
                false => u64::from(format::be32(block, place)),
            };
            event(tid, Record::Revoke(nr))?;
            place += step;
        }
        Ok(())
    }
}
