//! Objects of any size up to a page, packed so densely that compressing memory saves memory.
//!
//! **Problem.** Compressed pages have all sizes. A slab of powers of two would waste a quarter of what compression
//! gained, and runs of several consecutive pages cannot be had when memory is short.
//!
//! **Interface.** [`Pool::store`] copies bytes in and gives a [`Handle`], [`Pool::load`] copies them out,
//! [`Pool::free`] forgets them. Pages come from the caller, one at a time, and go back when nothing is left in them.
//!
//! **Idea.** (Linux's mm/zsmalloc.c.) Sizes are rounded up to classes. A *span* of one to four pages, which need not
//! lie next to each other, is cut into objects of one class; an object may begin in one page and end in the next. Each
//! class takes the number of pages that wastes least at the end of a span:
//!
//! ```text
//!   class 1536     | 0  | 1  | 2 : 2  | 3  | 4 : ... | 7  |     3 pages, 8 objects
//!                  '---- page ----'---- page ----'- page -'
//! ```
//!
//! Spans of a class with free places form a list; a new object goes into the first of it. Objects never move, so a
//! class whose objects went here and there keeps spans that are part empty.

#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;

/// Bytes of a page, and of the largest object.
pub const PAGE: usize = 4096;
/// Sizes are rounded up to multiples of this.
const STEP: usize = 64;
const CLASSES: usize = PAGE / STEP;
/// Pages of a span at most (Linux's ZSMALLOC_CHAIN_SIZE is 8).
const SPAN: usize = 4;
/// Objects of a span at most: the bits of its map.
const OBJECTS: usize = 128;
/// Spans are kept in chunks, so that having many of them never moves them.
const CHUNK: usize = 64;

/// A page that the pool may have. Offsets and lengths lie within it.
pub trait Page {
    fn read(&self, offset: usize, to: &mut [u8]);
    fn write(&self, offset: usize, from: &[u8]);
}

/// There was no page, or no memory for the pool's own lists. Nothing changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfMemory;

/// Names an object: the number of its span and its place in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Handle(u32, u8);

/// How a class cuts its spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Shape {
    size: usize,
    pages: usize,
    objects: usize,
}

/// The shape of a class by its number, the one that wastes least of its pages.
const fn shape(class: usize) -> Shape {
    let size = (class + 1) * STEP;
    let mut best = Shape { size, pages: 1, objects: PAGE / size };
    let mut pages = 2;
    while pages <= SPAN {
        let objects = pages * PAGE / size;
        // waste / pages < best.waste / best.pages
        let (waste, least) = (pages * PAGE % size, best.pages * PAGE % size);
        if objects <= OBJECTS && waste * best.pages < least * pages {
            best = Shape { size, pages, objects };
        }
        pages += 1;
    }
    best
}

const SHAPES: [Shape; CLASSES] = {
    let mut shapes = [Shape { size: 0, pages: 0, objects: 0 }; CLASSES];
    let mut class = 0;
    while class < CLASSES {
        shapes[class] = shape(class);
        class += 1;
    }
    shapes
};

/// No span.
const NONE: u32 = u32::MAX;

/// Some pages, cut into objects. One without pages is free to be used for any class.
struct Span<P> {
    pages: [Option<P>; SPAN],
    /// The places that are taken.
    taken: u128,
    class: u8,
    /// Neighbours in the list of the class's spans with free places; `next` also links unused spans.
    next: u32,
    prev: u32,
}

impl<P: Page> Span<P> {
    const fn unused() -> Span<P> {
        Span { pages: [const { None }; SPAN], taken: 0, class: 0, next: NONE, prev: NONE }
    }

    fn shape(&self) -> Shape {
        SHAPES[usize::from(self.class)]
    }

    /// Calls `each(page, offset, range of the object)` for the one or two pages where an object lies.
    fn pieces(&self, place: u8, len: usize, mut each: impl FnMut(&P, usize, core::ops::Range<usize>)) {
        let mut at = usize::from(place) * self.shape().size;
        let mut done = 0;
        while done < len {
            let part = (PAGE - at % PAGE).min(len - done);
            if let Some(Some(page)) = self.pages.get(at / PAGE) {
                each(page, at % PAGE, done..done + part);
            }
            at += part;
            done += part;
        }
    }
}

/// Objects and the pages they lie in.
pub struct Pool<P> {
    chunks: Vec<Vec<Span<P>>>,
    /// Spans without pages.
    unused: u32,
    /// By class: the first span with a free place.
    partial: [u32; CLASSES],
    pages: usize,
}

impl<P: Page> Default for Pool<P> {
    fn default() -> Pool<P> {
        Pool::new()
    }
}

impl<P: Page> Pool<P> {
    /// An empty pool. Allocates nothing.
    pub const fn new() -> Pool<P> {
        Pool { chunks: Vec::new(), unused: NONE, partial: [NONE; CLASSES], pages: 0 }
    }

    /// Pages that it holds.
    pub fn pages(&self) -> usize {
        self.pages
    }

    /// Bytes that an object of `len` bytes takes.
    pub fn rounded(len: usize) -> usize {
        len.max(1).next_multiple_of(STEP)
    }

    /// Copies an object of at most [`PAGE`] bytes in. `page` is asked for pages when no span has room.
    pub fn store(
        &mut self,
        bytes: &[u8],
        mut page: impl FnMut() -> Option<P>,
    ) -> Result<Handle, OutOfMemory> {
        let class = Self::rounded(bytes.len()) / STEP - 1;
        let Some(shape) = SHAPES.get(class).copied() else { return Err(OutOfMemory) };
        if self.partial[class] == NONE {
            self.add_span(class, shape, &mut page)?;
        }
        let number = self.partial[class];
        let Some(span) = self.span_mut(number) else { return Err(OutOfMemory) };
        let place = (!span.taken).trailing_zeros() as u8;
        span.taken |= 1 << place;
        span.pieces(place, bytes.len(), |page, offset, part| page.write(offset, &bytes[part]));
        if span.taken.count_ones() as usize == shape.objects {
            self.unlink(number);
        }
        Ok(Handle(number, place))
    }

    /// Copies the first `to.len()` bytes of an object out.
    pub fn load(&self, handle: Handle, to: &mut [u8]) {
        if let Some(span) = self.span(handle.0) {
            span.pieces(handle.1, to.len(), |page, offset, part| page.read(offset, &mut to[part]));
        }
    }

    /// Forgets an object.
    pub fn free(&mut self, handle: Handle) {
        let Handle(number, place) = handle;
        let Some(span) = self.span_mut(number) else { return };
        if span.taken & 1 << place == 0 {
            return;
        }
        let was_full = span.taken.count_ones() as usize == span.shape().objects;
        span.taken &= !(1 << place);
        let (is_empty, class) = (span.taken == 0, usize::from(span.class));
        if is_empty {
            if !was_full {
                self.unlink(number);
            }
            self.drop_span(number);
        } else if was_full {
            self.link(number, class);
        }
    }

    fn span(&self, number: u32) -> Option<&Span<P>> {
        self.chunks.get(number as usize / CHUNK)?.get(number as usize % CHUNK)
    }

    fn span_mut(&mut self, number: u32) -> Option<&mut Span<P>> {
        self.chunks.get_mut(number as usize / CHUNK)?.get_mut(number as usize % CHUNK)
    }

    /// Gives a class a span more, first in its list.
    fn add_span(
        &mut self,
        class: usize,
        shape: Shape,
        page: &mut impl FnMut() -> Option<P>,
    ) -> Result<(), OutOfMemory> {
        let mut pages = [const { None }; SPAN];
        for slot in pages.iter_mut().take(shape.pages) {
            *slot = Some(page().ok_or(OutOfMemory)?);
        }
        if self.unused == NONE {
            self.add_chunk()?;
        }
        let number = self.unused;
        let Some(span) = self.span_mut(number) else { return Err(OutOfMemory) };
        let next = span.next;
        *span = Span { pages, class: class as u8, ..Span::unused() };
        self.unused = next;
        self.pages += shape.pages;
        self.link(number, class);
        Ok(())
    }

    /// Makes more spans, all unused.
    fn add_chunk(&mut self) -> Result<(), OutOfMemory> {
        let first = u32::try_from(self.chunks.len() * CHUNK).map_err(|_| OutOfMemory)?;
        if first > NONE - CHUNK as u32 {
            return Err(OutOfMemory);
        }
        let mut chunk = Vec::new();
        chunk.try_reserve_exact(CHUNK).map_err(|_| OutOfMemory)?;
        self.chunks.try_reserve(1).map_err(|_| OutOfMemory)?;
        for number in first..first + CHUNK as u32 {
            let next = if number + 1 < first + CHUNK as u32 { number + 1 } else { self.unused };
            chunk.push(Span { next, ..Span::unused() });
        }
        self.chunks.push(chunk);
        self.unused = first;
        Ok(())
    }

    /// Gives an empty span's pages back.
    fn drop_span(&mut self, number: u32) {
        let unused = self.unused;
        let Some(span) = self.span_mut(number) else { return };
        let count = span.pages.iter().flatten().count();
        *span = Span { next: unused, ..Span::unused() };
        self.unused = number;
        self.pages -= count;
    }

    /// Puts a span first in the list of its class.
    fn link(&mut self, number: u32, class: usize) {
        let first = core::mem::replace(&mut self.partial[class], number);
        if let Some(span) = self.span_mut(number) {
            (span.next, span.prev) = (first, NONE);
        }
        if let Some(old) = self.span_mut(first) {
            old.prev = number;
        }
    }

    /// Takes a span out of the list of its class.
    fn unlink(&mut self, number: u32) {
        let Some(span) = self.span_mut(number) else { return };
        let (next, prev, class) = (span.next, span.prev, usize::from(span.class));
        (span.next, span.prev) = (NONE, NONE);
        match self.span_mut(prev) {
            Some(before) => before.next = next,
            None => self.partial[class] = next,
        }
        if let Some(after) = self.span_mut(next) {
            after.prev = prev;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_waste_little() {
        for (class, shape) in SHAPES.iter().enumerate() {
            assert_eq!(shape.size, (class + 1) * STEP);
            assert!(
                (1..=OBJECTS).contains(&shape.objects) && shape.objects * shape.size <= shape.pages * PAGE
            );
            let waste = shape.pages * PAGE - shape.objects * shape.size;
            // Above three quarters of a page every object needs a page of its own.
            assert!(shape.size > PAGE * 3 / 4 || waste * 5 <= shape.pages * PAGE, "{shape:?}");
        }
        assert_eq!(SHAPES[1344 / STEP - 1], Shape { size: 1344, pages: 1, objects: 3 });
        assert_eq!(SHAPES[1536 / STEP - 1], Shape { size: 1536, pages: 3, objects: 8 });
    }
}
