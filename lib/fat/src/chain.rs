//! Which cluster is the n-th of a file.
//!
//! The table only knows what follows a cluster, so that the middle of a file is found by walking from its start. What
//! was walked is kept as runs of consecutive clusters. When there are many, every second one is forgotten: what is
//! between two that are known is walked again. So the memory that a file takes has a bound, whatever the medium says.

use crate::Disk;
use crate::table::{Link, Volume};
use abi::{Errno, errno::Result};
use alloc::vec::Vec;

/// Runs that are kept.
const MAX_RUNS: usize = 4096;

#[derive(Clone, Copy, Debug)]
struct Run {
    /// The first cluster's number in the file.
    file: u32,
    /// And on the medium.
    cluster: u32,
    len: u32,
}

/// The clusters of a file.
#[derive(Debug, Default)]
pub struct Chain {
    /// The first; 0: there is none.
    start: u32,
    /// Ascending; the first begins with the file.
    runs: Vec<Run>,
    /// How many there are, once that is known.
    count: Option<u32>,
}

impl Chain {
    pub fn new(start: u32) -> Chain {
        Chain { start, runs: Vec::new(), count: None }
    }

    pub fn start(&self) -> u32 {
        self.start
    }

    /// Adds a run; which one it is then.
    fn insert(&mut self, run: Run) -> Result<usize> {
        if self.runs.len() >= MAX_RUNS {
            let mut number = 0;
            self.runs.retain(|_| {
                number += 1;
                number % 2 == 1
            });
        }
        let at = self.runs.partition_point(|known| known.file < run.file);
        self.runs.try_reserve(1).map_err(|_| Errno::ENOMEM)?;
        self.runs.insert(at, run);
        Ok(at)
    }

    /// Only the first `count` are left.
    fn keep(&mut self, count: u32) {
        self.runs.retain_mut(|run| {
            run.len = run.len.min(count.saturating_sub(run.file));
            run.len > 0
        });
        self.count = Some(count);
        if count == 0 {
            self.start = 0;
        }
    }
}

impl<D: Disk> Volume<D> {
    /// The cluster after another of a chain; `None` at its end.
    fn follow(&mut self, cluster: u32) -> Result<Option<u32>> {
        match self.get(cluster)? {
            Link::Next(next) => Ok(Some(next)),
            Link::End => Ok(None),
            Link::Free | Link::Bad => Err(self.damage()),
        }
    }

    /// Cluster `number` of a file, and how many from it on are consecutive, at most `want`; `None` behind the end.
    pub fn find(&mut self, chain: &mut Chain, number: u32, want: u32) -> Result<Option<(u32, u32)>> {
        if chain.start == 0 {
            return Ok(None);
        }
        if chain.runs.is_empty() {
            if !self.geo.is_cluster(chain.start) {
                return Err(self.damage());
            }
            chain.insert(Run { file: 0, cluster: chain.start, len: 1 })?;
        }
        let mut at = chain.runs.partition_point(|run| run.file <= number).saturating_sub(1);
        let want = number.saturating_add(want.max(1));
        loop {
            let run = chain.runs[at];
            let end = run.file + run.len;
            // Another run may begin here that was found on another way.
            let known = chain.runs.get(at + 1).is_some_and(|next| next.file == end);
            if number < end && (end >= want || known) {
                return Ok(Some((run.cluster + (number - run.file), end.min(want) - number)));
            }
            if known {
                at += 1;
                continue;
            }
            if end > self.geo.clusters {
                return Err(self.damage());
            }
            match self.follow(run.cluster + run.len - 1)? {
                Some(next) if next == run.cluster + run.len => chain.runs[at].len += 1,
                _ if number < end => {
                    return Ok(Some((run.cluster + (number - run.file), end.min(want) - number)));
                }
                Some(next) => at = chain.insert(Run { file: end, cluster: next, len: 1 })?,
                None => {
                    chain.count = Some(end);
                    return Ok(None);
                }
            }
        }
    }

    /// How many clusters a file has.
    pub fn count_chain(&mut self, chain: &mut Chain) -> Result<u32> {
        if chain.start == 0 {
            return Ok(0);
        }
        if chain.count.is_none() {
            self.find(chain, u32::MAX - 1, 1)?;
        }
        Ok(chain.count.unwrap_or(0))
    }

    /// Makes a file at least `count` clusters long, or as long as there is room; how many it has then.
    pub fn extend(&mut self, chain: &mut Chain, count: u32) -> Result<u32> {
        let mut have = self.count_chain(chain)?;
        let mut last = match have.checked_sub(1) {
            Some(last) => self.find(chain, last, 1)?.map(|found| found.0),
            None => None,
        };
        while have < count {
            let new = match self.allocate(last) {
                Ok(new) => new,
                Err(Errno::ENOSPC) => break,
                Err(error) => return Err(error),
            };
            match last {
                Some(last) => self.put(last, Link::Next(new))?,
                None => chain.start = new,
            }
            have += 1;
            chain.count = Some(have);
            last = Some(new);
        }
        Ok(have)
    }

    /// Puts a cluster, which is a chain of its own, behind the others.
    pub fn append(&mut self, chain: &mut Chain, cluster: u32) -> Result<()> {
        let have = self.count_chain(chain)?;
        match have.checked_sub(1) {
            Some(last) => {
                let Some((last, _)) = self.find(chain, last, 1)? else { return Err(self.damage()) };
                self.put(last, Link::Next(cluster))?;
            }
            None => chain.start = cluster,
        }
        chain.count = Some(have + 1);
        Ok(())
    }

    /// Gives the clusters behind the first `count` back. What says that the file has them is written before.
    pub fn cut(&mut self, chain: &mut Chain, count: u32) -> Result<()> {
        if count == 0 {
            let start = chain.start;
            chain.keep(0);
            return if start == 0 { Ok(()) } else { self.free_chain(start) };
        }
        let Some((last, _)) = self.find(chain, count - 1, 1)? else { return Ok(()) };
        let after = self.follow(last)?;
        chain.keep(count);
        let Some(after) = after else { return Ok(()) };
        self.put(last, Link::End)?;
        self.free_chain(after)
    }
}
