//! The discipline of the real-time clock: what adjtimex(2) sets, and what it does to the length of a second.
//!
//! **Problem.** A time daemon measures how far the clock is off, and tells the kernel, which must bring it right without
//! a jump: a few hundred parts in a million faster or slower, for as long as it takes.
//!
//! **Interface.** [`Ntp`] is the state. [`Ntp::adjust`] takes what a daemon says; [`Ntp::second`] is told that a second
//! of the clock has passed and says whether a leap second is due; [`Ntp::rate`] is by how much the clock runs faster
//! until the next second. [`Ntp::is_steady`] says that seconds need not be told: [`Ntp::skip`] then takes many at once.
//!
//! **Idea.** The model of RFC 5905 (appendix A.5.5) as Linux has it, whose constants are part of the interface that
//! daemons compute with: each second an exponentially falling part of the offset is worked off (the phase-locked
//! loop), and each new offset corrects the frequency; over long intervals by the frequency-locked loop.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

#[cfg(test)]
mod tests;

/// Binary digits behind the point of nanoseconds.
const SCALE_SHIFT: u32 = 32;
const SHIFT_PLL: u32 = 2;
const SHIFT_FLL: u32 = 2;
/// Intervals between updates, in seconds: below, the frequency-locked loop is not used; above, always.
const MIN_SECONDS: i64 = 256;
const MAX_SECONDS: i64 = 2048;
/// The largest offset, ns, and frequency, ns a second.
const MAX_PHASE_NS: i64 = 500_000_000;
const MAX_FREQUENCY: i64 = 500_000 << SCALE_SHIFT;
/// One unit of `freq` (2^-16 parts in a million) in scaled ns a second.
const PPM_SCALE: i64 = 1000 << (SCALE_SHIFT - 16);
/// The largest time constant, and largest error, us.
const MAX_CONSTANT: i64 = 10;
const MAX_ERROR_US: i64 = 16_000_000;
/// How much the largest error grows each second, us.
const ERROR_GROWTH_US: i64 = 500;
/// What adjtime(3) works off in a second, us.
const MAX_ADJUST_US: i64 = 500;
/// The length of a tick by default, us, and how many make a second.
const TICK_US: i64 = 10_000;
const TICKS: i64 = 100;
const SECONDS_OF_DAY: i64 = 86_400;
const MAX_TAI: i64 = 100_000;

/// `STA_*` of adjtimex(2).
pub mod status {
    pub const PLL: u32 = 0x0001;
    pub const FLL: u32 = 0x0008;
    pub const INS: u32 = 0x0010;
    pub const DEL: u32 = 0x0020;
    pub const UNSYNC: u32 = 0x0040;
    pub const FREQHOLD: u32 = 0x0080;
    pub const CLOCKERR: u32 = 0x1000;
    pub const NANO: u32 = 0x2000;
    pub const MODE: u32 = 0x4000;
    /// What a program cannot change by `ADJ_STATUS`.
    pub const READ_ONLY: u32 = 0xff00;
}

/// `ADJ_*` of adjtimex(2).
pub mod mode {
    pub const OFFSET: u32 = 0x0001;
    pub const FREQUENCY: u32 = 0x0002;
    pub const MAXERROR: u32 = 0x0004;
    pub const ESTERROR: u32 = 0x0008;
    pub const STATUS: u32 = 0x0010;
    pub const TIMECONST: u32 = 0x0020;
    pub const TAI: u32 = 0x0080;
    pub const SETOFFSET: u32 = 0x0100;
    pub const MICRO: u32 = 0x1000;
    pub const NANO: u32 = 0x2000;
    pub const TICK: u32 = 0x4000;
    /// adjtime(3), with OFFSET; READONLY only asks.
    pub const ADJTIME: u32 = 0x8000;
    pub const READONLY: u32 = 0x2000;
}

/// What adjtimex(2) returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Ok = 0,
    /// A leap second is inserted at the end of the day, or deleted.
    Insert = 1,
    Delete = 2,
    /// It is being inserted.
    Inserting = 3,
    /// It was, and the order stands still.
    Done = 4,
}

/// `TIME_ERROR`: the clock is not synchronized.
pub const TIME_ERROR: i32 = 5;

/// What a daemon asks for and is told. The fields are those of `struct timex`, in its units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    pub modes: u32,
    /// Nanoseconds or microseconds by the status.
    pub offset: i64,
    pub freq: i64,
    pub maxerror: i64,
    pub esterror: i64,
    pub status: u32,
    pub constant: i64,
    pub tolerance: i64,
    pub tick: i64,
    pub tai: i64,
}

/// The state.
#[derive(Clone, Copy, Debug)]
pub struct Ntp {
    status: u32,
    state: State,
    /// What is still to be worked off, scaled ns.
    offset: i64,
    /// Scaled ns a second.
    frequency: i64,
    constant: i64,
    maxerror_us: i64,
    esterror_us: i64,
    tick_us: i64,
    /// What adjtime(3) has still to work off, us.
    adjust_us: i64,
    tai: i64,
    /// When the offset was last updated.
    reference_s: i64,
    /// What this second is longer, scaled ns.
    extra: i64,
    leap_at_s: i64,
}

impl Default for Ntp {
    fn default() -> Ntp {
        Ntp::new()
    }
}

/// Halves so many times, towards zero.
fn shift_right(value: i64, by: u32) -> i64 {
    if value < 0 { -(-value >> by) } else { value >> by }
}

impl Ntp {
    /// A clock that nobody has set.
    pub const fn new() -> Ntp {
        Ntp {
            status: status::UNSYNC,
            state: State::Ok,
            offset: 0,
            frequency: 0,
            constant: 2,
            maxerror_us: MAX_ERROR_US,
            esterror_us: MAX_ERROR_US,
            tick_us: TICK_US,
            adjust_us: 0,
            tai: 0,
            reference_s: 0,
            extra: 0,
            leap_at_s: i64::MAX,
        }
    }

    /// The clock was stepped: what was to be worked off is void, and nobody vouches for the time.
    pub fn clear(&mut self) {
        self.adjust_us = 0;
        self.status |= status::UNSYNC;
        (self.maxerror_us, self.esterror_us) = (MAX_ERROR_US, MAX_ERROR_US);
        (self.offset, self.extra) = (0, 0);
        self.leap_at_s = i64::MAX;
    }

    /// How much faster the clock runs than its counter: scaled ns (2^-32) a second.
    pub fn rate(&self) -> i64 {
        self.base() + self.extra
    }

    /// By tick and frequency alone.
    fn base(&self) -> i64 {
        (((self.tick_us - TICK_US) * TICKS * 1000) << SCALE_SHIFT) + self.frequency
    }

    /// TAI minus UTC, s.
    pub fn tai(&self) -> i64 {
        self.tai
    }

    /// Whether the next seconds are like this one, but for the errors that grow: [`Ntp::skip`] will do.
    pub fn is_steady(&self) -> bool {
        let leaps = self.status & (status::INS | status::DEL) != 0 || self.state != State::Ok;
        self.extra == 0 && shift_right(self.offset, self.pll_shift()) == 0 && self.adjust_us == 0 && !leaps
    }

    fn pll_shift(&self) -> u32 {
        SHIFT_PLL + self.constant as u32
    }

    /// `seconds` have passed while the state was steady.
    pub fn skip(&mut self, seconds: i64) {
        self.maxerror_us = self.maxerror_us.saturating_add(seconds.saturating_mul(ERROR_GROWTH_US));
        if self.maxerror_us > MAX_ERROR_US {
            self.maxerror_us = MAX_ERROR_US;
            self.status |= status::UNSYNC;
        }
    }

    /// The clock has come to second `now_s`. The answer is what it must be stepped by, in s: a leap second.
    pub fn second(&mut self, now_s: i64) -> i64 {
        let leap = self.leap(now_s);
        self.skip(1);
        let part = shift_right(self.offset, self.pll_shift());
        self.offset -= part;
        let adjust_us = self.adjust_us.clamp(-MAX_ADJUST_US, MAX_ADJUST_US);
        self.adjust_us -= adjust_us;
        self.extra = part + ((adjust_us * 1000) << SCALE_SHIFT);
        leap
    }

    /// Goes on with a leap second.
    fn leap(&mut self, now_s: i64) -> i64 {
        let ordered = |bit| self.status & bit != 0;
        let day_end = now_s + SECONDS_OF_DAY - now_s.rem_euclid(SECONDS_OF_DAY);
        match self.state {
            State::Ok if ordered(status::INS) => {
                (self.state, self.leap_at_s) = (State::Insert, day_end);
            }
            State::Ok if ordered(status::DEL) => {
                (self.state, self.leap_at_s) = (State::Delete, day_end - 1);
            }
            State::Insert if !ordered(status::INS) => self.cancel_leap(),
            State::Insert if now_s >= self.leap_at_s => {
                self.state = State::Inserting;
                self.tai += 1;
                return -1;
            }
            State::Delete if !ordered(status::DEL) => self.cancel_leap(),
            State::Delete if now_s >= self.leap_at_s => {
                self.state = State::Done;
                self.leap_at_s = i64::MAX;
                self.tai -= 1;
                return 1;
            }
            State::Inserting => (self.state, self.leap_at_s) = (State::Done, i64::MAX),
            State::Done if !ordered(status::INS | status::DEL) => self.state = State::Ok,
            _ => {}
        }
        0
    }

    fn cancel_leap(&mut self) {
        (self.state, self.leap_at_s) = (State::Ok, i64::MAX);
    }

    /// adjtimex(2) at second `now_s`, once arguments and rights are checked: changes the state and fills in what the
    /// program is told. The result is the call's.
    pub fn adjust(&mut self, wish: &mut Wish, now_s: i64) -> i32 {
        if wish.modes & mode::ADJTIME != 0 {
            let left_us = self.adjust_us;
            if wish.modes & mode::READONLY == 0 {
                self.adjust_us = wish.offset;
            }
            wish.offset = left_us;
        } else {
            self.change(wish, now_s);
            let offset_ns = shift_right(self.offset, SCALE_SHIFT);
            wish.offset = if self.is_nano() { offset_ns } else { offset_ns / 1000 };
        }
        wish.freq = (self.frequency + self.frequency.signum() * (PPM_SCALE / 2)) / PPM_SCALE;
        (wish.maxerror, wish.esterror) = (self.maxerror_us, self.esterror_us);
        (wish.status, wish.constant) = (self.status, self.constant);
        (wish.tolerance, wish.tick, wish.tai) = (MAX_FREQUENCY / PPM_SCALE, self.tick_us, self.tai);
        match self.status & (status::UNSYNC | status::CLOCKERR) {
            0 => self.state as i32,
            _ => TIME_ERROR,
        }
    }

    /// Whether offsets and times are in ns, not us.
    pub fn is_nano(&self) -> bool {
        self.status & status::NANO != 0
    }

    fn change(&mut self, wish: &Wish, now_s: i64) {
        let asks = |bit| wish.modes & bit != 0;
        if asks(mode::STATUS) {
            self.set_status(wish.status, now_s);
        }
        if asks(mode::NANO) {
            self.status |= status::NANO;
        }
        if asks(mode::MICRO) {
            self.status &= !status::NANO;
        }
        if asks(mode::FREQUENCY) {
            self.frequency = wish.freq.saturating_mul(PPM_SCALE).clamp(-MAX_FREQUENCY, MAX_FREQUENCY);
        }
        if asks(mode::MAXERROR) {
            self.maxerror_us = wish.maxerror.clamp(0, MAX_ERROR_US);
        }
        if asks(mode::ESTERROR) {
            self.esterror_us = wish.esterror.clamp(0, MAX_ERROR_US);
        }
        if asks(mode::TIMECONST) {
            // Older daemons count from another origin.
            let origin = if self.is_nano() { 0 } else { 4 };
            self.constant = (wish.constant.clamp(0, MAX_CONSTANT) + origin).min(MAX_CONSTANT);
        }
        if asks(mode::TAI) && (0..=MAX_TAI).contains(&wish.constant) {
            self.tai = wish.constant;
        }
        if asks(mode::OFFSET) {
            self.set_offset(wish.offset, now_s);
        }
        if asks(mode::TICK) {
            self.tick_us = wish.tick;
        }
    }

    fn set_status(&mut self, new: u32, now_s: i64) {
        let (had, has) = (self.status & status::PLL != 0, new & status::PLL != 0);
        if had && !has {
            (self.state, self.status) = (State::Ok, status::UNSYNC);
            self.leap_at_s = i64::MAX;
        }
        if !had && has {
            self.reference_s = now_s;
        }
        self.status = self.status & status::READ_ONLY | new & !status::READ_ONLY;
    }

    /// A measured offset: it is worked off from now on, and says something about the frequency.
    fn set_offset(&mut self, offset: i64, now_s: i64) {
        if self.status & status::PLL == 0 {
            return;
        }
        let offset_ns = if self.is_nano() { offset } else { offset.clamp(-1_000_000, 1_000_000) * 1000 };
        let offset_ns = offset_ns.clamp(-MAX_PHASE_NS, MAX_PHASE_NS);
        let held = self.status & status::FREQHOLD != 0;
        let seconds = if held { 0 } else { now_s - self.reference_s };
        self.reference_s = now_s;
        let by_frequency = self.frequency_loop(offset_ns, seconds);
        let seconds = seconds.clamp(0, 1 << (SHIFT_PLL as i64 + 1 + self.constant));
        let shift = SCALE_SHIFT as i64 - 2 * (SHIFT_PLL as i64 + 2 + self.constant);
        let by_phase = i128::from(offset_ns) * i128::from(seconds);
        let by_phase = if shift >= 0 { by_phase << shift } else { by_phase >> -shift };
        let new = i128::from(self.frequency) + i128::from(by_frequency) + by_phase;
        self.frequency = new.clamp(i128::from(-MAX_FREQUENCY), i128::from(MAX_FREQUENCY)) as i64;
        self.offset = offset_ns << SCALE_SHIFT;
    }

    /// What the offset says about the frequency when the last one is long ago.
    fn frequency_loop(&mut self, offset_ns: i64, seconds: i64) -> i64 {
        self.status &= !status::MODE;
        if seconds < MIN_SECONDS || self.status & status::FLL == 0 && seconds <= MAX_SECONDS {
            return 0;
        }
        self.status |= status::MODE;
        (offset_ns << (SCALE_SHIFT - SHIFT_FLL)) / seconds
    }
}
