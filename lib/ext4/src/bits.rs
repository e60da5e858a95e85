//! Bitmaps as they are on the medium: bit n is bit n % 8 of byte n / 8.

/// The word that begins at byte `at`; ones beyond the end.
fn word(bytes: &[u8], at: usize) -> u64 {
    match bytes.get(at..at + 8) {
        Some(b) => u64::from_le_bytes([b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]),
        None => {
            let mut all = [0xff; 8];
            for (to, from) in all.iter_mut().zip(bytes.get(at..).unwrap_or(&[])) {
                *to = *from;
            }
            u64::from_le_bytes(all)
        }
    }
}

/// The first bit of value `set` in `from..end`; `end` when there is none.
fn next(bytes: &[u8], from: u32, end: u32, set: bool) -> u32 {
    let mut at = from;
    while at < end {
        let base = at / 64 * 64;
        let value = word(bytes, (base / 8) as usize);
        let wanted = if set { value } else { !value } & (!0 << (at - base));
        if wanted != 0 {
            return (base + wanted.trailing_zeros()).min(end);
        }
        at = base + 64;
    }
    end
}

pub fn next_zero(bytes: &[u8], from: u32, end: u32) -> u32 {
    next(bytes, from, end, false)
}

pub fn next_set(bytes: &[u8], from: u32, end: u32) -> u32 {
    next(bytes, from, end, true)
}

pub fn is_set(bytes: &[u8], bit: u32) -> bool {
    bytes.get(bit as usize / 8).is_none_or(|byte| byte >> (bit % 8) & 1 != 0)
}

/// Sets or clears `first..first + len`.
pub fn fill(bytes: &mut [u8], first: u32, len: u32, set: bool) {
    let mut at = first;
    let end = first + len;
    while at < end {
        let Some(byte) = bytes.get_mut(at as usize / 8) else { return };
        let in_byte = at % 8;
        let count = (8 - in_byte).min(end - at);
        let mask = ((1u16 << count) - 1) as u8;
        if set {
            *byte |= mask << in_byte;
        } else {
            *byte &= !(mask << in_byte);
        }
        at += count;
    }
}

/// How many bits of `0..end` are zero.
pub fn count_zeroes(bytes: &[u8], end: u32) -> u32 {
    let whole = (0..end / 64).map(|w| word(bytes, w as usize * 8).count_zeros());
    let rest = (end / 64 * 64..end).filter(|bit| !is_set(bytes, *bit)).count() as u32;
    whole.sum::<u32>() + rest
}

/// The first run of zeroes in `from..end` that has `want` of them, else the longest. Runs of `busy` (first, length;
/// sorted) count as set.
pub fn find_run(bytes: &[u8], from: u32, end: u32, want: u32, busy: &[(u32, u32)]) -> Option<(u32, u32)> {
    let mut best: Option<(u32, u32)> = None;
    let mut at = next_zero(bytes, from, end);
    while at < end {
        if let Some(behind) = busy_end(busy, at) {
            at = next_zero(bytes, behind, end);
            continue;
        }
        let limit = end.min(at.saturating_add(want));
        let stop = next_set(bytes, at, limit).min(next_busy(busy, at));
        if stop - at >= want {
            return Some((at, want));
        }
        if best.is_none_or(|(_, len)| stop - at > len) {
            best = Some((at, stop - at));
        }
        at = next_zero(bytes, stop, end);
    }
    best
}

/// The first run of at least `least` zeroes in `from..end`, as long as it is there. `busy` as for [`find_run`].
pub fn free_run(bytes: &[u8], from: u32, end: u32, least: u32, busy: &[(u32, u32)]) -> Option<(u32, u32)> {
    let mut at = next_zero(bytes, from, end);
    while at < end {
        if let Some(behind) = busy_end(busy, at) {
            at = next_zero(bytes, behind, end);
            continue;
        }
        let stop = next_set(bytes, at, end).min(next_busy(busy, at));
        if stop - at >= least {
            return Some((at, stop - at));
        }
        at = next_zero(bytes, stop, end);
    }
    None
}

/// The end of the busy run that `at` lies in.
fn busy_end(busy: &[(u32, u32)], at: u32) -> Option<u32> {
    let index = busy.partition_point(|run| run.0 <= at).checked_sub(1)?;
    let end = busy[index].0 + busy[index].1;
    (at < end).then_some(end)
}

/// The start of the first busy run after `at`.
fn next_busy(busy: &[(u32, u32)], at: u32) -> u32 {
    busy.get(busy.partition_point(|run| run.0 <= at)).map_or(u32::MAX, |run| run.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_are_free(bytes in prop::collection::vec(any::<u8>(), 1..40), from in 0u32..300, want in 1u32..40,
                         busy_at in 0u32..200, busy_len in 1u32..20) {
            let end = bytes.len() as u32 * 8;
            let from = from.min(end);
            let busy = [(busy_at, busy_len)];
            let free = |bit: u32| bit < end && !is_set(&bytes, bit) && !(busy_at..busy_at + busy_len).contains(&bit);
            match find_run(&bytes, from, end, want, &busy) {
                Some((at, len)) => {
                    prop_assert!(at >= from && len >= 1 && len <= want);
                    prop_assert!((at..at + len).all(free));
                }
                None => prop_assert!(!(from..end).any(free)),
            }
        }

        #[test]
        fn filling_is_exact(first in 0u32..100, len in 0u32..100, set: bool) {
            let mut bytes = vec![if set { 0 } else { 0xff }; 25];
            fill(&mut bytes, first, len, set);
            for bit in 0..200 {
                prop_assert_eq!(is_set(&bytes, bit) == set, (first..first + len).contains(&bit));
            }
            let zeroes = if set { 200 - len } else { len };
            prop_assert_eq!(count_zeroes(&bytes, 200), zeroes);
        }
    }
}
