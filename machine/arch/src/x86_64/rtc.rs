//! The CMOS clock.

use super::reg::{inb, outb};

const INDEX: u16 = 0x70;
const DATA: u16 = 0x71;
const STATUS_A: u8 = 0x0a;
const STATUS_B: u8 = 0x0b;
const UPDATING: u8 = 0x80;
const BINARY: u8 = 4;
const HOURS_24: u8 = 2;

fn read(register: u8) -> u8 {
    // SAFETY: 1. the ports of the CMOS, or of nothing; bit 7 of the index keeps NMI as it is after reset.
    unsafe {
        outb(INDEX, register);
        inb(DATA)
    }
}

/// Seconds since the Epoch, taking the clock for UTC; `None` where there is no clock or it shows nonsense.
pub fn read_unix_s() -> Option<u64> {
    if read(STATUS_B) == 0xff {
        return None;
    }
    // Two equal readings with no update in between.
    let mut last = None;
    for _ in 0..1000 {
        if read(STATUS_A) & UPDATING != 0 {
            continue;
        }
        let now = [0, 2, 4, 7, 8, 9, 0x32].map(read);
        if last == Some(now) {
            return convert(now, read(STATUS_B));
        }
        last = Some(now);
    }
    None
}

fn convert(raw: [u8; 7], status: u8) -> Option<u64> {
    let number = |v: u8| if status & BINARY != 0 { v } else { (v >> 4) * 10 + (v & 0xf) };
    let afternoon = raw[2] & 0x80 != 0;
    let mut hour = u64::from(number(raw[2] & 0x7f));
    if status & HOURS_24 == 0 {
        hour = hour % 12 + if afternoon { 12 } else { 0 };
    }
    let [second, minute, _, day, month, year, century] = raw.map(|v| u64::from(number(v)));
    let century = if (19..=21).contains(&century) { century } else { 20 };
    let sane =
        second < 60 && minute < 60 && hour < 24 && (1..=31).contains(&day) && (1..=12).contains(&month);
    sane.then(|| {
        days_since_epoch(century * 100 + year, month, day) * 86400 + hour * 3600 + minute * 60 + second
    })
}

/// Days from 1970-01-01 to a date of the Gregorian calendar, years counted from March so that the leap day
/// is the last.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    days - 719_468
}
