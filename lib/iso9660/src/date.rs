//! Dates: seven bytes in directory records, seventeen digits where there is more room.

/// Nanoseconds since the Epoch.
pub type TimeNs = i64;

/// Days from 1970-01-01 to a date of the Gregorian calendar; months from 1.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have the leap day at their end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// Year, month, day, hour, minute, second; the zone in quarters of an hour east of Greenwich.
fn time_of(fields: [i64; 6], zone: u8) -> TimeNs {
    let [year, month, day, hour, minute, second] = fields;
    let sound =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 62;
    if !sound {
        return 0;
    }
    // Zones that there are; what some programs leave there is none.
    let zone = Some(i64::from(zone as i8)).filter(|zone| (-52..=52).contains(zone)).unwrap_or(0);
    let seconds = days_of(year, month, day) * 86_400 + hour * 3600 + minute * 60 + second - zone * 900;
    seconds.saturating_mul(1_000_000_000)
}

/// The date of a directory record; the Epoch for what is none.
pub fn short(bytes: &[u8]) -> TimeNs {
    let Some(&[year, month, day, hour, minute, second, zone]) = bytes.get(..7) else { return 0 };
    time_of(
        [1900 + i64::from(year), month.into(), day.into(), hour.into(), minute.into(), second.into()],
        zone,
    )
}

/// A date of digits, and the zone as a byte.
pub fn long(bytes: &[u8]) -> TimeNs {
    let Some(bytes) = bytes.get(..17) else { return 0 };
    let number = |from: usize, to: usize| {
        bytes[from..to].iter().fold(0, |sum, digit| sum * 10 + i64::from(digit.wrapping_sub(b'0') % 10))
    };
    if !bytes[..14].iter().all(u8::is_ascii_digit) {
        return 0;
    }
    time_of(
        [number(0, 4), number(4, 6), number(6, 8), number(8, 10), number(10, 12), number(12, 14)],
        bytes[16],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        // 2026-11-28 12:34:56 at +01:00.
        assert_eq!(short(&[126, 11, 28, 12, 34, 56, 4]), 1_795_865_696_000_000_000);
        assert_eq!(long(b"2026112812345600\x04"), 1_795_865_696_000_000_000);
        assert_eq!(long(b"0000000000000000\x00"), 0);
        assert_eq!(short(&[126, 13, 28, 12, 34, 56, 4]), 0);
        assert_eq!((short(&[1, 2]), long(b"2026")), (0, 0));
    }
}
