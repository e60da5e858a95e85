//! The text of /proc/PID/{maps,smaps,smaps_rollup,statm} and the words of /proc/PID/pagemap.
//!
//! The formats are those of Linux's fs/proc/task_mmu.c to the byte: programs parse them by column.

use crate::area::{Area, Backing, VmFlags};
use crate::space::{AddressSpace, Areas};
use crate::swap::{self, SwapEntry};
use crate::{PAGE, PAGE_SHIFT, page_down, table};
use arch::paging::PteFlags;
use core::fmt::{self, Write};
use core::ops::Range;
use mem::{Entry, UserTable};
use vma::Vma;

/// The column in which names begin.
const NAME_COLUMN: usize = 73;

/// Resident bytes of one or more areas by kind, in units of 4096ths of a byte for the proportional sizes,
/// as Linux accumulates them.
#[derive(Debug, Clone, Copy, Default)]
struct Resident {
    rss: u64,
    pss: u64,
    pss_dirty: u64,
    pss_anon: u64,
    pss_file: u64,
    pss_shmem: u64,
    shared_clean: u64,
    shared_dirty: u64,
    private_clean: u64,
    private_dirty: u64,
    referenced: u64,
    anonymous: u64,
    pss_locked: u64,
    swap: u64,
    pss_swap: u64,
}

const PSS_SHIFT: u32 = 12;

impl Resident {
    fn add_page(&mut self, shares: u64, dirty: bool, referenced: bool, private: bool, shmem: bool) {
        let part = (PAGE << PSS_SHIFT) / shares.max(1);
        self.rss += PAGE;
        self.pss += part;
        if dirty {
            self.pss_dirty += part;
        }
        if private {
            self.anonymous += PAGE;
            self.pss_anon += part;
        } else if shmem {
            self.pss_shmem += part;
        } else {
            self.pss_file += part;
        }
        if referenced {
            self.referenced += PAGE;
        }
        let class = match (shares > 1, dirty) {
            (true, true) => &mut self.shared_dirty,
            (true, false) => &mut self.shared_clean,
            (false, true) => &mut self.private_dirty,
            (false, false) => &mut self.private_clean,
        };
        *class += PAGE;
    }

    fn add(&mut self, other: &Resident) {
        self.rss += other.rss;
        self.pss += other.pss;
        self.pss_dirty += other.pss_dirty;
        self.pss_anon += other.pss_anon;
        self.pss_file += other.pss_file;
        self.pss_shmem += other.pss_shmem;
        self.shared_clean += other.shared_clean;
        self.shared_dirty += other.shared_dirty;
        self.private_clean += other.private_clean;
        self.private_dirty += other.private_dirty;
        self.referenced += other.referenced;
        self.anonymous += other.anonymous;
        self.pss_locked += other.pss_locked;
        self.swap += other.swap;
        self.pss_swap += other.pss_swap;
    }
}

impl AddressSpace {
    /// The line of /proc/PID/maps for the first area that ends above `from`; returns where it ends, `None`
    /// when there is no more.
    pub fn write_map(&self, from: u64, out: &mut dyn Write) -> Result<Option<u64>, fmt::Error> {
        let stack = self.with_program(|program| program.stack_start);
        let areas = self.areas.read();
        let Some(vma) = area_after(&areas, from) else { return Ok(None) };
        write_header(out, &areas, vma, stack)?;
        Ok(Some(vma.end))
    }

    /// As [`AddressSpace::write_map`], the lines of /proc/PID/smaps.
    pub fn write_smap(&self, from: u64, out: &mut dyn Write) -> Result<Option<u64>, fmt::Error> {
        let stack = self.with_program(|program| program.stack_start);
        let areas = self.areas.read();
        let Some(vma) = area_after(&areas, from) else { return Ok(None) };
        write_header(out, &areas, vma, stack)?;
        let resident = self.measure(vma);
        size_line(out, "Size:           ", vma.len())?;
        size_line(out, "KernelPageSize: ", PAGE)?;
        size_line(out, "MMUPageSize:    ", PAGE)?;
        write_resident(out, &resident, false)?;
        writeln!(out, "THPeligible:    {:>8}", 0)?;
        write_flags(out, vma.data.flags)?;
        Ok(Some(vma.end))
    }

    /// /proc/PID/smaps_rollup.
    pub fn write_smaps_rollup(&self, out: &mut dyn Write) -> fmt::Result {
        let areas = self.areas.read();
        let mut total = Resident::default();
        let mut range = 0..0;
        for vma in areas.set.iter() {
            if range.end == 0 {
                range.start = vma.start;
            }
            range.end = vma.end;
            total.add(&self.measure(vma));
        }
        let mut line = Columns::new(out);
        write!(line, "{:08x}-{:08x} ---p {:08x} {:02x}:{:02x} {} ", range.start, range.end, 0, 0, 0, 0)?;
        line.pad_to(NAME_COLUMN)?;
        writeln!(out, "[rollup]")?;
        write_resident(out, &total, true)
    }

    /// /proc/PID/statm: sizes in pages.
    pub fn write_statm(&self, out: &mut dyn Write) -> fmt::Result {
        let code = self.with_program(|program| program.code);
        let usage = self.usage();
        let text = code.1.saturating_sub(page_down(code.0)).div_ceil(PAGE);
        let shared = usage.rss_file + usage.rss_shmem;
        let data = usage.data + usage.stack;
        writeln!(out, "{} {} {} {} 0 {} 0", usage.total, usage.rss(), shared, text, data)
    }

    /// The words of /proc/PID/pagemap for the pages from number `first` on. Frame numbers only with
    /// `frames` (CAP_SYS_ADMIN), else zero.
    pub fn pagemap(&self, first: u64, out: &mut [u64], frames: bool) {
        out.fill(0);
        let areas = self.areas.read();
        let top = areas.set.bounds().end;
        let start = first.saturating_mul(PAGE).min(top);
        let end = start.saturating_add((out.len() as u64).saturating_mul(PAGE)).min(top);
        for vma in areas.set.overlapping(start..end) {
            let part = vma.start.max(start)..vma.end.min(end);
            let guard = self.table.lock();
            guard.for_each(table::native(&part), |va, entry| {
                let slot = ((va as u64 - start) >> PAGE_SHIFT) as usize;
                let Some(word) = out.get_mut(slot) else { return };
                if let Entry::Soft(entry) = entry {
                    // Bit 62 in swap, bits 0 to 4 the area, bits 5 to 54 the slot.
                    let place = if frames { SwapEntry::from_word(entry).shown() } else { 0 };
                    *word = 1 << 62 | place;
                }
                if let Entry::Page(page) = entry {
                    let private = page.flags.contains(PteFlags::SOFT) || UserTable::is_zero_page(page.phys);
                    let frame = if frames { page.phys.0 >> PAGE_SHIFT } else { 0 };
                    // Bit 63 present, bit 61 file page or shared memory, bits 0 to 54 the frame.
                    *word = 1 << 63 | u64::from(!private) << 61 | frame;
                }
            });
        }
    }

    /// What of an area is resident.
    fn measure(&self, vma: &Vma<Area>) -> Resident {
        let mut total = Resident::default();
        let shmem = vma.data.file_backing().is_some_and(|file| file.mapping.is_memory());
        if matches!(vma.data.backing, Backing::Special(_)) {
            return total;
        }
        table::in_steps(vma.range(), |step| self.measure_step(&step, shmem, &mut total));
        if vma.data.flags.contains(VmFlags::LOCKED) {
            total.pss_locked = total.pss;
        }
        total
    }

    fn measure_step(&self, step: &Range<u64>, shmem: bool, total: &mut Resident) -> usize {
        let guard = self.table.lock();
        let mut found = 0;
        guard.for_each(table::native(step), |va, entry| {
            if let Entry::Soft(word) = entry {
                found += 1;
                total.swap += PAGE;
                total.pss_swap +=
                    (PAGE << PSS_SHIFT) / u64::from(swap::uses(SwapEntry::from_word(word))).max(1);
            }
            let Entry::Page(page) = entry else { return };
            found += 1;
            let Some(folio) = guard.folio(va) else { return };
            let dirty = page.flags.contains(PteFlags::DIRTY) || folio.dirty();
            let referenced = page.flags.contains(PteFlags::ACCESSED) || folio.referenced();
            let private = page.flags.contains(PteFlags::SOFT);
            total.add_page(u64::from(folio.map_count()), dirty, referenced, private, shmem);
        });
        found
    }
}

fn area_after(areas: &Areas, from: u64) -> Option<&Vma<Area>> {
    areas.set.overlapping(from..areas.set.bounds().end).next()
}

/// Counts the characters written, for padding to a column.
struct Columns<'a> {
    out: &'a mut dyn Write,
    column: usize,
}

impl<'a> Columns<'a> {
    fn new(out: &'a mut dyn Write) -> Columns<'a> {
        Columns { out, column: 0 }
    }

    /// Spaces up to `column`, but none when the line is that long already.
    fn pad_to(&mut self, column: usize) -> fmt::Result {
        while self.column < column {
            self.write_char(' ')?;
        }
        Ok(())
    }
}

impl Write for Columns<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.column += text.len();
        self.out.write_str(text)
    }
}

/// Writes a path with newlines as `\012`, so that one area stays one line.
struct Mangled<'a>(&'a mut dyn Write);

impl Write for Mangled<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut parts = text.split('\n');
        if let Some(first) = parts.next() {
            self.0.write_str(first)?;
        }
        parts.try_for_each(|part| {
            self.0.write_str("\\012")?;
            self.0.write_str(part)
        })
    }
}

/// The line that maps and smaps share.
fn write_header(out: &mut dyn Write, areas: &Areas, vma: &Vma<Area>, stack: u64) -> fmt::Result {
    let flags = vma.data.flags;
    let letter = |flag, letter| if flags.contains(flag) { letter } else { '-' };
    let (major, minor, inode) = match vma.data.file() {
        Some(file) => {
            let (major, minor) = file.device();
            (major, minor, file.inode_number())
        }
        None => (0, 0, 0),
    };
    let mut line = Columns::new(out);
    write!(
        line,
        "{:08x}-{:08x} {}{}{}{} {:08x} {:02x}:{:02x} {} ",
        vma.start,
        vma.end,
        letter(VmFlags::READ, 'r'),
        letter(VmFlags::WRITE, 'w'),
        letter(VmFlags::EXEC, 'x'),
        if flags.contains(VmFlags::MAYSHARE) { 's' } else { 'p' },
        if vma.data.file().is_some() { vma.data.page_offset << PAGE_SHIFT } else { 0 },
        major,
        minor,
        inode,
    )?;
    write_name(&mut line, areas, vma, stack)?;
    line.write_char('\n')
}

fn write_name(line: &mut Columns<'_>, areas: &Areas, vma: &Vma<Area>, stack: u64) -> fmt::Result {
    let name = match &vma.data.backing {
        Backing::File(file) => {
            line.pad_to(NAME_COLUMN)?;
            return file.file.write_path(&mut Mangled(line));
        }
        Backing::Special(special) => special.name,
        Backing::Anonymous if vma.start < areas.heap_end && vma.end > areas.heap_start => "[heap]",
        Backing::Anonymous if vma.start <= stack && vma.end >= stack && stack != 0 => "[stack]",
        Backing::Anonymous => return Ok(()),
    };
    line.pad_to(NAME_COLUMN)?;
    line.write_str(name)
}

fn size_line(out: &mut dyn Write, label: &str, bytes: u64) -> fmt::Result {
    writeln!(out, "{label}{:>8} kB", bytes >> 10)
}

fn write_resident(out: &mut dyn Write, of: &Resident, rollup: bool) -> fmt::Result {
    let proportional = |value: u64| value >> PSS_SHIFT;
    size_line(out, "Rss:            ", of.rss)?;
    size_line(out, "Pss:            ", proportional(of.pss))?;
    size_line(out, "Pss_Dirty:      ", proportional(of.pss_dirty))?;
    if rollup {
        size_line(out, "Pss_Anon:       ", proportional(of.pss_anon))?;
        size_line(out, "Pss_File:       ", proportional(of.pss_file))?;
        size_line(out, "Pss_Shmem:      ", proportional(of.pss_shmem))?;
    }
    size_line(out, "Shared_Clean:   ", of.shared_clean)?;
    size_line(out, "Shared_Dirty:   ", of.shared_dirty)?;
    size_line(out, "Private_Clean:  ", of.private_clean)?;
    size_line(out, "Private_Dirty:  ", of.private_dirty)?;
    size_line(out, "Referenced:     ", of.referenced)?;
    size_line(out, "Anonymous:      ", of.anonymous)?;
    for label in ZERO_LINES {
        size_line(out, label, 0)?;
    }
    size_line(out, "Swap:           ", of.swap)?;
    size_line(out, "SwapPss:        ", proportional(of.pss_swap))?;
    size_line(out, "Locked:         ", proportional(of.pss_locked))
}

/// Kinds of memory that this kernel does not have.
const ZERO_LINES: [&str; 7] = [
    "KSM:            ",
    "LazyFree:       ",
    "AnonHugePages:  ",
    "ShmemPmdMapped: ",
    "FilePmdMapped:  ",
    "Shared_Hugetlb: ",
    "Private_Hugetlb:",
];

/// The two letters of each flag, in the order of the bits.
const FLAG_NAMES: [(VmFlags, &str); 19] = [
    (VmFlags::READ, "rd"),
    (VmFlags::WRITE, "wr"),
    (VmFlags::EXEC, "ex"),
    (VmFlags::SHARED, "sh"),
    (VmFlags::MAYREAD, "mr"),
    (VmFlags::MAYWRITE, "mw"),
    (VmFlags::MAYEXEC, "me"),
    (VmFlags::MAYSHARE, "ms"),
    (VmFlags::GROWSDOWN, "gd"),
    (VmFlags::LOCKED, "lo"),
    (VmFlags::SEQ_READ, "sr"),
    (VmFlags::RAND_READ, "rr"),
    (VmFlags::DONTCOPY, "dc"),
    (VmFlags::DONTEXPAND, "de"),
    (VmFlags::ACCOUNT, "ac"),
    (VmFlags::NORESERVE, "nr"),
    (VmFlags::WIPEONFORK, "wf"),
    (VmFlags::DONTDUMP, "dd"),
    (VmFlags::SEALED, "sl"),
];

fn write_flags(out: &mut dyn Write, flags: VmFlags) -> fmt::Result {
    out.write_str("VmFlags: ")?;
    for (flag, name) in FLAG_NAMES {
        if flags.contains(flag) {
            write!(out, "{name} ")?;
        }
    }
    out.write_char('\n')
}
