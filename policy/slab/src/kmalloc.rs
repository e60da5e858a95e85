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

/// The index in [`KMALLOC_SIZES`] of the smallest class for `size` bytes at multiples of `align`;
/// `None` when it needs whole pages.
///
/// Classes that are powers of two are aligned to their size, 96 and 192 to 32 and 64.
#[inline]
pub const fn size_class(size: usize, align: usize) -> Option<usize> {
    // An alignment that the odd classes do not have asks for the next power of two.
    let size = if align <= 8 { size } else { aligned_size(size, align) };
    if size <= 192 {
        return Some(SMALL[size.div_ceil(8)] as usize);
    }
    if size > MAX_KMALLOC {
        return None;
    }
    // 193..=256 is class 7, 257..=512 class 8 ...
    Some((usize::BITS - (size - 1).leading_zeros()) as usize - 1)
}

const fn aligned_size(size: usize, align: usize) -> usize {
    let size = if size < align { align } else { size };
    match size {
        65..=96 if align <= 32 => size,
        129..=192 if align <= 64 => size,
        _ if size <= MAX_KMALLOC => size.next_power_of_two(),
        _ => size,
    }
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
