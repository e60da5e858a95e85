//! Helpers over the page table: ranges as this crate writes them, removal with counts by kind.

use crate::account::PageCounts;
use crate::{PAGE, page_down, swap};
use arch::paging::PteFlags;
use core::ops::Range;
use mem::{Entry, Folio, ForkCopier, OutOfMemory, PageEntry, TableGuard, UserTable};

/// Bytes of one step of a long walk under the table's spin lock: 512 pages, so that other threads'
/// faults and this CPU's switches wait no longer than that.
pub(crate) const STEP: u64 = 512 * PAGE;
/// Where nothing is mapped the steps double up to this, so that giving back a reservation of terabytes
/// takes milliseconds; walks skip empty subtrees.
const LONGEST_STEP: u64 = 1 << 30;

pub(crate) fn native(range: &Range<u64>) -> Range<usize> {
    range.start as usize..range.end as usize
}

/// Walks `range` in steps; `visit` says how many pages it found in one.
pub(crate) fn in_steps(range: Range<u64>, mut visit: impl FnMut(Range<u64>) -> usize) {
    let mut at = range.start;
    let mut step = STEP;
    while at < range.end {
        let next = (at & !(STEP - 1)).checked_add(step).unwrap_or(range.end).min(range.end);
        let found = visit(at..next);
        step = if found > 0 { STEP } else { (step * 2).min(LONGEST_STEP) };
        at = next;
    }
}

/// How many entries of `range` are not empty.
pub(crate) fn entries(table: &UserTable, range: &Range<u64>) -> usize {
    let mut found = 0;
    table.lock().for_each(native(range), |_, entry| found += usize::from(!matches!(entry, Entry::None)));
    found
}

/// Counts an entry's page: private ones by the software bit, the zero page not at all.
fn tally(counts: &mut PageCounts, page: &PageEntry) {
    if page.flags.contains(PteFlags::SOFT) {
        counts.private += 1;
    } else if !UserTable::is_zero_page(page.phys) {
        counts.file += 1;
    }
}

/// Counts the pages of `range` by kind.
fn count(table: &TableGuard<'_>, range: &Range<u64>) -> PageCounts {
    let mut counts = PageCounts::default();
    table.for_each(native(range), |_, entry| {
        if let Entry::Page(page) = entry {
            tally(&mut counts, &page);
        }
    });
    counts
}

/// Removes all pages of `range`, in steps, and says what they were.
pub(crate) fn remove(table: &UserTable, range: Range<u64>) -> PageCounts {
    let mut counts = PageCounts::default();
    let mut swapped = 0;
    in_steps(range, |step| {
        let mut removed = 0;
        let mut guard = table.lock();
        swapped += swap::forget_range(&guard, &step);
        guard.unmap_with(native(&step), |_, page| {
            removed += 1;
            tally(&mut counts, &page);
        });
        removed
    });
    counts.swapped = swapped;
    counts
}

/// Removes all pages of `range` without counting: the end of a space.
pub(crate) fn clear(table: &UserTable, range: Range<u64>) {
    in_steps(range, |step| {
        let mut guard = table.lock();
        swap::forget_range(&guard, &step);
        guard.unmap(native(&step))
    });
}

/// Removes the pages that belong to the mapped file and leaves private copies in place.
pub(crate) fn remove_file_pages(table: &UserTable, range: Range<u64>) -> PageCounts {
    let mut total = PageCounts::default();
    in_steps(range, |step| {
        let mut guard = table.lock();
        let found = count(&guard, &step).file;
        let mut at = step.start;
        while found > 0 && at < step.end {
            if matches!(guard.get(at as usize), Entry::Page(page) if !page.flags.contains(PteFlags::SOFT)) {
                guard.unmap(native(&(at..at + PAGE)));
            }
            at += PAGE;
        }
        total.file += found;
        found
    });
    total
}

/// Changes the flags of every page in `range`.
pub(crate) fn protect(table: &UserTable, range: Range<u64>, change: impl Fn(PteFlags) -> PteFlags) {
    in_steps(range, |step| {
        let mut found = 0;
        table.lock().protect(native(&step), |flags| {
            found += 1;
            change(flags)
        });
        found
    });
}

/// Copies the entries of `range` into a child's table and says what they were; on failure some are there.
pub(crate) fn clone_cow(
    copier: &mut ForkCopier<'_>,
    child: &UserTable,
    range: Range<u64>,
    share: bool,
) -> Result<PageCounts, OutOfMemory> {
    let copied = copier.copy(native(&range), share);
    // Also of what a failure leaves behind: the child gives its entries back when it goes.
    let swapped = swap::adopt_range(child, &range);
    let copied = copied?;
    Ok(PageCounts { private: copied.soft, file: copied.plain, swapped })
}

/// The folio mapped at `va` and which of its pages; takes a reference.
pub(crate) fn folio_at(table: &TableGuard<'_>, va: u64) -> Option<(Folio, usize)> {
    let Entry::Page(page) = table.get(page_down(va) as usize) else { return None };
    let folio = table.folio(page_down(va) as usize)?;
    let index = (page.phys.0 - folio.phys().0) / PAGE;
    Some((folio, index as usize))
}
