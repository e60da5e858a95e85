//! The first page of a swap area, as mkswap(8) writes it (version 1; Linux's `union swap_header`).
//!
//! ```text
//!   0      boot block, labels          1052  volume name, 16 bytes
//!   1024   version, 1                  1536  numbers of bad pages, 32 bits each
//!   1028   last page                   page size - 10   "SWAPSPACE2"
//!   1032   number of bad pages
//!   1036   UUID, 16 bytes
//! ```
//!
//! Numbers are the writer's byte order: a header from a machine of the other order has its version swapped,
//! and is read all the same.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

/// Bytes of a page, and of the header.
pub const PAGE: usize = 4096;
const MAGIC: &[u8; 10] = b"SWAPSPACE2";
const BAD_PAGES: usize = 1536;
/// Bad pages at most: what fits between the list's start and the magic.
pub const MAX_BAD_PAGES: usize = (PAGE - MAGIC.len() - BAD_PAGES) / 4;

/// What a header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The last page of the area; page 0 is the header.
    pub last_page: u32,
    bad: &'a [u8],
    swapped: bool,
}

/// Why a page is no header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Invalid {
    /// Not a swap area.
    Magic,
    Version,
    /// No page but the header.
    Empty,
    /// More bad pages than fit, or one outside.
    BadPages,
}

fn word(page: &[u8], at: usize, swapped: bool) -> u32 {
    let bytes = page.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).unwrap_or_default();
    let value = u32::from_ne_bytes(bytes);
    if swapped { value.swap_bytes() } else { value }
}

/// Reads the first page of a device. All numbers are checked.
pub fn parse(page: &[u8; PAGE]) -> Result<Header<'_>, Invalid> {
    if &page[PAGE - MAGIC.len()..] != MAGIC {
        return Err(Invalid::Magic);
    }
    let version = word(page, 1024, false);
    let swapped = version == 1u32.swap_bytes();
    if version != 1 && !swapped {
        return Err(Invalid::Version);
    }
    let last_page = word(page, 1028, swapped);
    if last_page == 0 {
        return Err(Invalid::Empty);
    }
    let count = word(page, 1032, swapped) as usize;
    if count > MAX_BAD_PAGES {
        return Err(Invalid::BadPages);
    }
    let header = Header { last_page, bad: &page[BAD_PAGES..BAD_PAGES + count * 4], swapped };
    if header.bad_pages().any(|number| number == 0 || number > last_page) {
        return Err(Invalid::BadPages);
    }
    Ok(header)
}

impl<'a> Header<'a> {
    /// Pages that must not be used.
    pub fn bad_pages(&self) -> impl Iterator<Item = u32> + 'a {
        let swapped = self.swapped;
        self.bad.chunks_exact(4).map(move |bytes| word(bytes, 0, swapped))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(swapped: bool, last: u32, bad: &[u32]) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        let mut put = |at: usize, value: u32| {
            let value = if swapped { value.swap_bytes() } else { value };
            page[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        };
        put(1024, 1);
        put(1028, last);
        put(1032, bad.len() as u32);
        bad.iter().take(MAX_BAD_PAGES).enumerate().for_each(|(i, number)| put(BAD_PAGES + i * 4, *number));
        page[PAGE - 10..].copy_from_slice(MAGIC);
        page
    }

    #[test]
    fn both_byte_orders() {
        for swapped in [false, true] {
            let page = page(swapped, 255, &[3, 255]);
            let header = parse(&page).unwrap();
            assert_eq!((header.last_page, header.bad_pages().collect::<Vec<_>>()), (255, vec![3, 255]));
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        assert_eq!(parse(&[0; PAGE]), Err(Invalid::Magic));
        assert_eq!(parse(&page(false, 0, &[])), Err(Invalid::Empty));
        assert_eq!(parse(&page(false, 9, &[10])), Err(Invalid::BadPages));
        assert_eq!(parse(&page(false, 9, &[0])), Err(Invalid::BadPages));
        assert_eq!(parse(&page(false, 9, &[1; 638])), Err(Invalid::BadPages));
        let mut other = page(false, 9, &[]);
        other[1024] = 2;
        assert_eq!(parse(&other), Err(Invalid::Version));
    }
}
