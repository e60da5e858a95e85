//! The size classes of the general-purpose caches.

/// Object sizes of the kmalloc caches, in bytes: Linux's, powers of two with 96 and 192 between.
pub const KMALLOC_SIZES: [usize; 13] = [8, 16, 32, 64, 96, 128, 192, 256, 512, 1024, 2048, 4096, 8192];

/// The largest size that a kmalloc cache serves; above it whole pages are handed out.
pub const MAX_KMALLOC: usize = 8192;

const NAMES: [&str; KMALLOC_SIZES.len()] = [
    "kmalloc-8",
    "kmalloc-16",
    "kmalloc-32",
    "kmalloc-64",
    "kmalloc-96",
    "kmalloc-128",
    "kmalloc-192",
    "kmalloc-256",
    "kmalloc-512",
    "kmalloc-1k",
    "kmalloc-2k",
    "kmalloc-4k",
    "kmalloc-8k",
];

/// Linux's name of a class, as `/proc/slabinfo` shows it.
pub const fn kmalloc_name(class: usize) -> &'static str {
    NAMES[class]
}

/// Classes for sizes up to 192, by (size + 7) / 8.
const SMALL: [u8; 25] = {
    let mut table = [0; 25];
    let mut eighth = 0;
    while eighth < table.len() {
        let mut class = 0;
        while KMALLOC_SIZES[class] < eighth * 8 {
            class += 1;
        }
        table[eighth] = class as u8;
        eighth += 1;
    }
    table
};

/// Classes for larger sizes, by (size - 1) / 256.
const LARGE: [u8; MAX_KMALLOC / 256] = {
    let mut table = [0; MAX_KMALLOC / 256];
    let mut step = 0;
    while step < table.len() {
        let mut class = 0;
        while KMALLOC_SIZES[class] < (step + 1) * 256 {
            class += 1;
        }
        table[step] = class as u8;
        step += 1;
    }
    table
};

const ALIGNS: [u16; KMALLOC_SIZES.len()] = {
    let mut table = [0; KMALLOC_SIZES.len()];
    let mut class = 0;
    while class < table.len() {
        table[class] = class_align(class) as u16;
        class += 1;
    }
    table
};

/// The index in [`KMALLOC_SIZES`] of the smallest class for `size` bytes at multiples of `align`;
/// `None` when it needs whole pages.
///
/// Tables rather than counting leading zeros: that is 35 instructions on a RISC-V without Zbb.
#[inline]
pub const fn size_class(size: usize, align: usize) -> Option<usize> {
    let size = if size < align { align } else { size };
    let class = if size <= 192 {
        SMALL[size.div_ceil(8)] as usize
    } else if size <= MAX_KMALLOC {
        LARGE[(size - 1) / 256] as usize
    } else {
        return None;
    };
    if ALIGNS[class] as usize >= align {
        return Some(class);
    }
    // 96 and 192 have the next power of two above them; the largest class has pages.
    if class + 1 < KMALLOC_SIZES.len() { Some(class + 1) } else { None }
}

/// Alignment that objects of a class have without asking.
pub const fn class_align(class: usize) -> usize {
    match KMALLOC_SIZES[class] {
        96 => 32,
        192 => 64,
        size if size > crate::PAGE_SIZE => crate::PAGE_SIZE,
        size => size,
    }
}
