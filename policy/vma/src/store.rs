//! The ordered store: sorted vectors of areas under one sorted vector of chunks.

use crate::{OutOfMemory, Vma, VmaData};
use alloc::vec::Vec;
use core::ops::Range;

/// Most areas in one chunk. Inserting moves half a chunk on average. Tests use tiny chunks, so that few
/// areas reach every case.
pub const CHUNK: usize = if cfg!(test) { 4 } else { 32 };

#[derive(Debug, Clone)]
pub(crate) struct Chunk<V> {
    /// At least as large as the largest gap right below any area of this chunk.
    pub(crate) max_gap: u64,
    /// Never empty.
    pub(crate) areas: Vec<Vma<V>>,
}

impl<V> Chunk<V> {
    fn end(&self) -> u64 {
        self.areas.last().map_or(0, |vma| vma.end)
    }
}

/// Where an area is; one past the last area of the last chunk is a valid position to insert at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pos {
    pub(crate) chunk: usize,
    pub(crate) index: usize,
}

impl Pos {
    pub(crate) const FIRST: Pos = Pos { chunk: 0, index: 0 };

    /// The position right behind, in the same chunk.
    pub(crate) fn after(self) -> Pos {
        Pos { index: self.index + 1, ..self }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Store<V> {
    pub(crate) chunks: Vec<Chunk<V>>,
    len: usize,
}

impl<V: VmaData> Store<V> {
    pub(crate) const fn new() -> Store<V> {
        Store { chunks: Vec::new(), len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The first area whose end is above `addr`.
    #[inline]
    pub(crate) fn locate(&self, addr: u64) -> Pos {
        let chunk = self.chunks.partition_point(|chunk| chunk.end() <= addr);
        let index = match self.chunks.get(chunk) {
            Some(chunk) => chunk.areas.partition_point(|vma| vma.end <= addr),
            None => 0,
        };
        Pos { chunk, index }
    }

    #[inline]
    pub(crate) fn get(&self, pos: Pos) -> Option<&Vma<V>> {
        self.chunks.get(pos.chunk)?.areas.get(pos.index)
    }

    pub(crate) fn get_mut(&mut self, pos: Pos) -> Option<&mut Vma<V>> {
        self.chunks.get_mut(pos.chunk)?.areas.get_mut(pos.index)
    }

    pub(crate) fn next(&self, pos: Pos) -> Pos {
        match self.chunks.get(pos.chunk) {
            Some(chunk) if pos.index + 1 < chunk.areas.len() => pos.after(),
            _ => Pos { chunk: pos.chunk + 1, index: 0 },
        }
    }

    pub(crate) fn prev(&self, pos: Pos) -> Option<Pos> {
        if pos.index > 0 {
            return Some(Pos { index: pos.index - 1, ..pos });
        }
        let chunk = pos.chunk.checked_sub(1)?;
        Some(Pos { chunk, index: self.chunks[chunk].areas.len() - 1 })
    }

    pub(crate) fn iter_from(&self, from: Pos) -> impl Iterator<Item = &Vma<V>> {
        let skip = move |i| if i == from.chunk { from.index } else { 0 };
        let chunks = self.chunks.iter().enumerate().skip(from.chunk);
        chunks.flat_map(move |(i, chunk)| chunk.areas.iter().skip(skip(i)))
    }

    /// Appends an area above all others.
    pub(crate) fn push(&mut self, vma: Vma<V>) -> Result<(), OutOfMemory> {
        let pos = Pos { chunk: self.chunks.len(), index: 0 };
        self.insert(pos, vma)
    }

    /// Inserts in front of `pos`.
    pub(crate) fn insert(&mut self, pos: Pos, vma: Vma<V>) -> Result<(), OutOfMemory> {
        // Behind the last chunk means at its end: a chunk of its own only when that one is full.
        let pos = match self.chunks.last() {
            Some(last) if pos.chunk == self.chunks.len() => {
                Pos { chunk: pos.chunk - 1, index: last.areas.len() }
            }
            _ => pos,
        };
        let pos = self.reserve(pos)?;
        self.insert_reserved(pos, vma);
        Ok(())
    }

    /// Makes room for one more area in the chunk of `pos`; returns where `pos` is now.
    pub(crate) fn reserve(&mut self, pos: Pos) -> Result<Pos, OutOfMemory> {
        let Some(chunk) = self.chunks.get_mut(pos.chunk) else {
            let mut areas = Vec::new();
            areas.try_reserve(1).map_err(|_| OutOfMemory)?;
            self.chunks.try_reserve(1).map_err(|_| OutOfMemory)?;
            self.chunks.push(Chunk { max_gap: 0, areas });
            return Ok(pos);
        };
        if chunk.areas.len() < CHUNK {
            chunk.areas.try_reserve(1).map_err(|_| OutOfMemory)?;
            return Ok(pos);
        }
        let middle = Self::split_point(pos.index);
        let mut upper = Vec::new();
        upper.try_reserve(CHUNK - middle + 1).map_err(|_| OutOfMemory)?;
        self.chunks.try_reserve(1).map_err(|_| OutOfMemory)?;
        let chunk = &mut self.chunks[pos.chunk];
        upper.extend(chunk.areas.drain(middle..));
        let max_gap = chunk.max_gap;
        self.chunks.insert(pos.chunk + 1, Chunk { max_gap, areas: upper });
        let moved = pos.index >= middle;
        Ok(if moved { Pos { chunk: pos.chunk + 1, index: pos.index - middle } } else { pos })
    }

    /// Where to cut a full chunk: in the middle, unless areas arrive in order at one end.
    fn split_point(index: usize) -> usize {
        match index {
            0 | 1 => 1,
            CHUNK.. => CHUNK - 1,
            _ => CHUNK / 2,
        }
    }

    pub(crate) fn insert_reserved(&mut self, pos: Pos, vma: Vma<V>) {
        let gap = vma.start.saturating_sub(self.end_before(pos));
        let chunk = &mut self.chunks[pos.chunk];
        chunk.max_gap = chunk.max_gap.max(gap);
        chunk.areas.insert(pos.index, vma);
        self.len += 1;
    }

    pub(crate) fn remove(&mut self, pos: Pos) -> Vma<V> {
        let areas = &mut self.chunks[pos.chunk].areas;
        let vma = areas.remove(pos.index);
        let empty = areas.is_empty();
        self.len -= 1;
        if empty {
            self.chunks.remove(pos.chunk);
        }
        self.gap_grew(pos);
        self.shrink(pos.chunk);
        vma
    }

    /// Removes every area that starts in `range`; the caller has cut areas at its ends.
    pub(crate) fn remove_range(&mut self, range: Range<u64>, mut removed: impl FnMut(Vma<V>)) {
        let from = self.locate(range.start);
        let mut pos = from;
        while let Some(chunk) = self.chunks.get_mut(pos.chunk) {
            let upto = chunk.areas.partition_point(|vma| vma.start < range.end);
            let rest = chunk.areas.len() - upto;
            self.len -= upto.saturating_sub(pos.index);
            chunk.areas.drain(pos.index.min(upto)..upto).for_each(&mut removed);
            pos = Pos { chunk: pos.chunk + 1, index: 0 };
            if rest > 0 {
                break;
            }
        }
        let emptied = (from.chunk..pos.chunk).find(|&i| self.chunks[i].areas.is_empty());
        if let Some(first) = emptied {
            // Chunks that held nothing but `range` go in one move of the vector.
            let run = self.chunks[first..].iter().take_while(|chunk| chunk.areas.is_empty()).count();
            self.chunks.drain(first..first + run);
        }
        let at = self.locate(range.start);
        self.gap_grew(at);
        self.shrink(at.chunk);
    }

    /// End of the area before `pos`, or 0.
    pub(crate) fn end_before(&self, pos: Pos) -> u64 {
        self.prev(pos).and_then(|prev| self.get(prev)).map_or(0, |vma| vma.end)
    }

    /// Raises the bound of the chunk that holds the area at or after `pos`, whose gap below has grown.
    fn gap_grew(&mut self, pos: Pos) {
        let pos = match self.get(pos) {
            Some(_) => pos,
            None => Pos { chunk: pos.chunk + 1, index: 0 },
        };
        let Some(start) = self.get(pos).map(|vma| vma.start) else { return };
        let gap = start - self.end_before(pos);
        let chunk = &mut self.chunks[pos.chunk];
        chunk.max_gap = chunk.max_gap.max(gap);
    }

    /// Joins a chunk that has become small with the next one, so that a long-lived process does not
    /// keep a tail of nearly empty chunks. Only when no memory is needed.
    fn shrink(&mut self, chunk: usize) {
        let Some([low, high]) = self.chunks.get_mut(chunk..chunk + 2) else { return };
        let total = low.areas.len() + high.areas.len();
        if total > CHUNK / 2 || low.areas.try_reserve(high.areas.len()).is_err() {
            return;
        }
        low.areas.append(&mut high.areas);
        low.max_gap = low.max_gap.max(high.max_gap);
        self.chunks.remove(chunk + 1);
    }
}
