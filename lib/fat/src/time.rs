//! Dates of entries: local time in steps of two seconds from 1980 to 2107, here taken as UTC.

/// Nanoseconds since the Epoch.
pub type TimeNs = i64;

const SECOND: i64 = 1_000_000_000;
const DAY_S: i64 = 86_400;
/// 1980-01-01 and the last second of 2107, in seconds since the Epoch.
const FIRST_S: i64 = 315_532_800;
const LAST_S: i64 = 4_354_819_199;

/// Days from 1970-01-01 to a date of the Gregorian calendar; months from 1.
pub(crate) fn days_of(year: i64, month: i64, day: i64) -> i64 {
    // Years that begin in March have the leap day at their end.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    year * 365 + leap_days + (153 * month + 2) / 5 + day - 1 - 719_468
}

/// Year, month and day of a number of days since 1970-01-01.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let year = year_of_era + era * 400;
    if month < 10 { (year, month + 3, day) } else { (year + 1, month - 9, day) }
}

/// The time that date, time and hundredths of an entry mean. What is no date is the nearest that is one.
pub fn from_dos(date: u16, time: u16, hundredths: u8) -> TimeNs {
    let (year, month, day) = (1980 + i64::from(date >> 9), i64::from(date >> 5 & 15), i64::from(date & 31));
    let (hour, minute, second) = (i64::from(time >> 11), i64::from(time >> 5 & 63), i64::from(time & 31) * 2);
    let days = days_of(year, month.clamp(1, 12), day.max(1));
    let seconds = days * DAY_S + hour * 3600 + minute * 60 + second;
    seconds * SECOND + i64::from(hundredths.min(199)) * 10_000_000
}

/// Date, time and hundredths of a time; what lies outside becomes the first or the last there is.
pub fn to_dos(at: TimeNs) -> (u16, u16, u8) {
    let seconds = at.div_euclid(SECOND);
    let inside = seconds.clamp(FIRST_S, LAST_S);
    let hundredths = if inside == seconds { at.rem_euclid(SECOND) / 10_000_000 } else { 0 };
    let (year, month, day) = date_of(inside.div_euclid(DAY_S));
    let of_day = inside.rem_euclid(DAY_S);
    let date = (year - 1980) << 9 | month << 5 | day;
    let time = of_day / 3600 << 11 | of_day / 60 % 60 << 5 | of_day % 60 / 2;
    (date as u16, time as u16, (of_day % 2 * 100 + hundredths) as u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_come_back() {
        for seconds in (FIRST_S..LAST_S).step_by(86_399 * 7) {
            let (date, time, hundredths) = to_dos(seconds * SECOND + 990_000_000);
            assert_eq!(from_dos(date, time, hundredths), seconds * SECOND + 990_000_000);
        }
    }

    #[test]
    fn known_dates() {
        // 2026-11-28 12:34:56 UTC, and what cannot be said.
        assert_eq!(from_dos(46 << 9 | 11 << 5 | 28, 12 << 11 | 34 << 5 | 28, 0), 1_795_869_296 * SECOND);
        assert_eq!(to_dos(0), to_dos(FIRST_S * SECOND));
        assert_eq!(to_dos(i64::MAX).0 >> 9, 127);
        assert_eq!(from_dos(0, 0, 0), FIRST_S * SECOND);
    }
}
