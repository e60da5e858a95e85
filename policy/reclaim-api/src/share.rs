//! How a need for memory is shared between files and private pages.

/// How many of `wanted` pages should come from swap while files still give: by `swappiness` (0 never, 100 as readily as
/// file pages, 200 twice so) and by how much of memory's `pages` is no file's cache.
///
/// Linux weighs the two by what each cost in refaults; here the part of memory stands for that.
pub fn private_share(wanted: usize, swappiness: usize, pages: usize, file_pages: usize) -> usize {
    let others = pages.saturating_sub(file_pages) as u128;
    let share = wanted as u128 * swappiness.min(200) as u128 * others / (200 * pages.max(1) as u128);
    share as usize
}

#[cfg(test)]
mod tests {
    use super::private_share;

    #[test]
    fn swappiness_and_cache_decide() {
        let check = |wanted, swappiness, files, expected| {
            assert_eq!(
                private_share(wanted, swappiness, 1000, files),
                expected,
                "{wanted} {swappiness} {files}"
            );
        };
        check(100, 0, 0, 0);
        check(100, 100, 0, 50);
        check(100, 200, 0, 100);
        check(100, 60, 500, 15);
        check(100, 200, 1000, 0);
        // Numbers that do not belong together.
        check(100, 200, 2000, 0);
        check(100, 1000, 0, 100);
        assert_eq!(private_share(100, 200, 0, 0), 0);
        assert_eq!(private_share(1 << 40, 200, 1 << 40, 0), 1 << 40);
    }

    #[test]
    fn more_of_one_never_gives_less() {
        for files in [0, 100, 500, 999] {
            let shares: Vec<_> =
                (0..=200).map(|swappiness| private_share(4096, swappiness, 1000, files)).collect();
            assert!(shares.is_sorted() && shares[0] < shares[200], "{files}");
        }
        let shares: Vec<_> = (0..=1000).map(|files| private_share(4096, 60, 1000, files)).collect();
        assert!(shares.iter().rev().is_sorted() && shares.iter().all(|share| *share <= 4096));
    }
}
