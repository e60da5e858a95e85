use super::*;

fn synchronized() -> Ntp {
    let mut ntp = Ntp::new();
    let modes = mode::STATUS | mode::NANO | mode::MAXERROR;
    let mut wish = Wish { modes, status: status::PLL, ..Wish::default() };
    assert_eq!(ntp.adjust(&mut wish, 0), State::Ok as i32);
    ntp
}

/// Scaled ns as whole ns.
fn ns(scaled: i64) -> i64 {
    scaled >> SCALE_SHIFT
}

#[test]
fn nobody_has_set_a_new_clock() {
    let mut wish = Wish::default();
    assert_eq!(Ntp::new().adjust(&mut wish, 0), TIME_ERROR);
    let told = (wish.status, wish.tick, wish.maxerror, wish.tolerance, wish.constant);
    assert_eq!(told, (status::UNSYNC, 10_000, 16_000_000, 32_768_000, 2));
    assert_eq!(Ntp::new().rate(), 0);
}

#[test]
fn frequency_and_tick_change_the_rate() {
    let mut ntp = Ntp::new();
    // 100 parts in a million.
    let mut wish = Wish { modes: mode::FREQUENCY, freq: 100 << 16, ..Wish::default() };
    ntp.adjust(&mut wish, 0);
    assert_eq!((ns(ntp.rate()), wish.freq), (100_000, 100 << 16));
    let mut wish = Wish { modes: mode::TICK, tick: 9_000, ..Wish::default() };
    ntp.adjust(&mut wish, 0);
    assert_eq!(ns(ntp.rate()), -100_000_000 + 100_000);
    let mut wish = Wish { modes: mode::FREQUENCY, freq: i64::MIN / 2, ..Wish::default() };
    ntp.adjust(&mut wish, 0);
    assert_eq!(wish.freq, -32_768_000);
}

#[test]
fn adjtime_works_off_500_us_a_second() {
    let mut ntp = Ntp::new();
    let mut wish = Wish { modes: mode::ADJTIME | mode::OFFSET, offset: -1200, ..Wish::default() };
    ntp.adjust(&mut wish, 0);
    assert_eq!(wish.offset, 0);
    let rates: Vec<i64> = (1..=5)
        .map(|second| {
            ntp.second(second);
            ns(ntp.rate())
        })
        .collect();
    assert_eq!(rates, [-500_000, -500_000, -200_000, 0, 0]);
    assert!(ntp.is_steady());
    let mut wish = Wish { modes: mode::ADJTIME | mode::READONLY | mode::OFFSET, ..Wish::default() };
    ntp.adjust(&mut wish, 0);
    assert_eq!(wish.offset, 0);
}

#[test]
fn an_offset_is_worked_off_whole() {
    for offset in [400_000_000, -400_000_000, 1_000_000, -999] {
        let mut ntp = synchronized();
        let mut wish = Wish { modes: mode::OFFSET | mode::FREQUENCY, offset, ..Wish::default() };
        ntp.adjust(&mut wish, 0);
        assert_eq!(wish.offset, offset);
        let (mut gained, mut second) = (0, 0);
        while !ntp.is_steady() {
            second += 1;
            ntp.second(second);
            gained += ntp.rate() - ntp.base();
            assert!(second < 2000, "{offset} is not worked off");
        }
        assert!((ns(gained) - offset).abs() <= 1, "{offset}: {}", ns(gained));
    }
}

#[test]
fn offsets_correct_the_frequency() {
    let mut ntp = synchronized();
    for second in (64..6400).step_by(64) {
        let mut wish = Wish { modes: mode::OFFSET, offset: 64_000, ..Wish::default() };
        ntp.adjust(&mut wish, second);
        assert!(wish.freq > 0);
    }
    let frequency = ntp.frequency;
    let mut wish = Wish { modes: mode::OFFSET, offset: -64_000, ..Wish::default() };
    ntp.adjust(&mut wish, 6464);
    assert!(ntp.frequency < frequency);
    // Far apart, the frequency-locked loop says so.
    ntp.adjust(&mut Wish { modes: mode::OFFSET, offset: -64_000, ..Wish::default() }, 20_000);
    assert_ne!(ntp.status & status::MODE, 0);
}

#[test]
fn without_a_loop_offsets_are_ignored() {
    let mut ntp = Ntp::new();
    let mut wish = Wish { modes: mode::OFFSET, offset: 5000, ..Wish::default() };
    ntp.adjust(&mut wish, 0);
    assert_eq!((wish.offset, ntp.is_steady()), (0, true));
}

#[test]
fn errors_grow_until_nobody_vouches() {
    let mut ntp = synchronized();
    let mut wish = Wish { modes: mode::MAXERROR, maxerror: 1000, ..Wish::default() };
    ntp.adjust(&mut wish, 0);
    ntp.second(1);
    ntp.skip(1);
    assert_eq!(ntp.adjust(&mut wish, 2), 0);
    ntp.adjust(&mut Wish { modes: 0, ..Wish::default() }, 2);
    ntp.skip(i64::MAX);
    let mut wish = Wish::default();
    assert_eq!(ntp.adjust(&mut wish, 2), TIME_ERROR);
    assert_eq!(wish.maxerror, 16_000_000);
}

#[test]
fn leap_seconds() {
    let mut ntp = synchronized();
    let mut order = Wish { modes: mode::STATUS, status: status::PLL | status::INS, ..Wish::default() };
    ntp.adjust(&mut order, 86_390);
    assert!(!ntp.is_steady());
    let mut steps = Vec::new();
    let mut now_s = 86_395;
    for _ in 0..8 {
        let leap = ntp.second(now_s);
        if leap != 0 {
            steps.push((now_s, leap));
        }
        now_s += leap + 1;
    }
    assert_eq!((steps, ntp.tai()), (vec![(86_400, -1)], 1));
    assert_eq!(ntp.adjust(&mut Wish::default(), now_s), State::Done as i32);
    let mut order = Wish { modes: mode::STATUS, status: status::PLL | status::DEL, ..Wish::default() };
    ntp.adjust(&mut Wish { modes: mode::STATUS, status: status::PLL, ..Wish::default() }, now_s);
    ntp.second(now_s);
    ntp.adjust(&mut order, now_s);
    let steps: Vec<_> = (172_790..172_801).filter(|s| ntp.second(*s) == 1).collect();
    assert_eq!((steps, ntp.tai()), (vec![172_799], 0));
}

#[test]
fn a_step_voids_everything() {
    let mut ntp = synchronized();
    ntp.adjust(&mut Wish { modes: mode::OFFSET, offset: 1_000_000, ..Wish::default() }, 0);
    ntp.second(1);
    ntp.clear();
    assert_eq!((ntp.rate(), ntp.is_steady()), (ntp.base(), true));
    assert_eq!(ntp.adjust(&mut Wish::default(), 1), TIME_ERROR);
}
