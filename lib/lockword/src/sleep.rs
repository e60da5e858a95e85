//! How a task sleeps until something is true, and no wake-up is lost.
//!
//! ```text
//!   sleeper, queued already          waker
//!   announce the sleep               make the condition true
//!   ---- fence ----                  ---- fence ----
//!   look at the condition            look at the announcement: turn it back, run the sleeper
//!   sleep
//! ```
//!
//! Each writes one word and then reads the other's. Without the two full fences both reads may come before both writes
//! (every processor has a store buffer), and the sleeper sleeps for ever. With them one of the two sees the other.

use crate::Word;
use core::sync::atomic::{AtomicU32, Ordering};

/// What a task is doing: [`RUNNING`], or a kind of sleep that it has announced.
#[derive(Debug)]
pub struct SleepWord<W = AtomicU32>(W);

/// Runs or is ready to run.
pub const RUNNING: u32 = 0;

impl SleepWord {
    pub const fn new(state: u32) -> SleepWord {
        SleepWord(AtomicU32::new(state))
    }
}

impl<W: Word> SleepWord<W> {
    pub const fn from_word(word: W) -> SleepWord<W> {
        SleepWord(word)
    }

    /// The word itself, for whoever orders it otherwise.
    pub fn word(&self) -> &W {
        &self.0
    }

    #[inline]
    pub fn state(&self) -> u32 {
        self.0.load(Ordering::Acquire)
    }

    /// The task itself: it is about to sleep. What it reads afterwards is read after everybody can see this.
    #[inline]
    pub fn announce(&self, state: u32) {
        self.0.store(state, Ordering::Release);
        W::fence(Ordering::SeqCst);
    }

    /// The task itself: it does not sleep after all. True when somebody has turned the announcement back before.
    #[inline]
    pub fn take_back(&self) -> bool {
        self.0.swap(RUNNING, Ordering::AcqRel) == RUNNING
    }

    /// Anybody: turns a sleep that `accept` agrees to back. True for the one caller that did. The condition was made
    /// true before, by whatever store.
    #[inline]
    pub fn wake(&self, accept: impl Fn(u32) -> bool) -> bool {
        W::fence(Ordering::SeqCst);
        let mut state = self.0.load(Ordering::Relaxed);
        while state != RUNNING && accept(state) {
            match self.0.try_change(state, RUNNING, Ordering::AcqRel) {
                Ok(_) => return true,
                Err(now) => state = now,
            }
        }
        false
    }
}

/// A task on its way to sleep.
pub trait Sleeper {
    /// [`SleepWord::announce`].
    fn announce(&self);

    /// Whether the announcement stands: nobody has woken it, and it has not slept, since.
    fn is_announced(&self) -> bool;

    /// [`SleepWord::take_back`].
    fn take_back(&self) -> bool;

    /// Whether a signal ends the sleep.
    fn interrupted(&self) -> bool;

    /// Sleeps until the announcement is turned back; true when the deadline has passed.
    fn sleep(&self) -> bool;
}

/// Why a sleep ended without its condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SleepEnd {
    Signal,
    Timeout,
}

/// How a sleep ended well.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slept<R> {
    pub value: R,
    /// A wake-up came while the value was being taken. It may have been for another value, so one who is woken alone
    /// (exclusively) hands it on: the next sleeper was passed over for it.
    pub spare_wake: bool,
}

/// Sleeps until `attempt` yields a value. Whoever makes it succeed wakes the sleeper after that.
///
/// An attempt may itself sleep (take a contended mutex). Then the announcement is gone, and is made again before the
/// next attempt, so that no wake-up in between is lost.
pub fn sleep<R>(
    sleeper: &impl Sleeper,
    attempt: &mut dyn FnMut() -> Option<R>,
) -> Result<Slept<R>, SleepEnd> {
    let result = loop {
        sleeper.announce();
        if let Some(value) = attempt() {
            break Ok(value);
        }
        if sleeper.interrupted() {
            break Err(SleepEnd::Signal);
        }
        if sleeper.is_announced() && sleeper.sleep() {
            break attempt().ok_or(SleepEnd::Timeout);
        }
    };
    let spare_wake = sleeper.take_back();
    result.map(|value| Slept { value, spare_wake })
}
