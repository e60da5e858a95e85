//! Nice levels as weights, and virtual time.

/// Weight of a nice-0 task; its virtual time is real time.
pub const NICE_0_WEIGHT: u64 = 1024;
/// Weight of a SCHED_IDLE task.
pub const IDLE_WEIGHT: u64 = 3;

/// Linux's `sched_prio_to_weight`: one nice level is 10 % more or less CPU between two tasks, which
/// makes each weight about 1.25 times the next.
const OF_NICE: [u32; 40] = [
    88761, 71755, 56483, 46273, 36291, // -20
    29154, 23254, 18705, 14949, 11916, // -15
    9548, 7620, 6100, 4904, 3906, // -10
    3121, 2501, 1991, 1586, 1277, // -5
    1024, 820, 655, 526, 423, // 0
    335, 272, 215, 172, 137, // 5
    110, 87, 70, 56, 45, // 10
    36, 29, 23, 18, 15, // 15
];

/// Weight of a nice level; values outside -20..=19 count as the nearest one.
pub const fn of_nice(nice: i8) -> u64 {
    let nice = if nice < -20 {
        -20
    } else if nice > 19 {
        19
    } else {
        nice
    };
    OF_NICE[(nice + 20) as usize] as u64
}

/// `ns` of real time as virtual time of a task with `weight`: heavier tasks age more slowly.
///
/// Plain division: one hardware divide, against Linux's multiplication by a stored inverse, which dates
/// from CPUs without one.
pub fn to_virtual_ns(ns: u64, weight: u64) -> u64 {
    if weight == NICE_0_WEIGHT {
        return ns;
    }
    match ns.checked_mul(NICE_0_WEIGHT) {
        Some(product) => product / weight.max(1),
        None => (ns / weight.max(1)).saturating_mul(NICE_0_WEIGHT),
    }
}

/// Virtual time that a task gains by running `ns`: its share by weight, plus the laboratory penalty of
/// `penalty_ns_per_ms` for each millisecond.
pub fn aged_ns(ns: u64, weight: u64, penalty_ns_per_ms: u32) -> u64 {
    let fair = to_virtual_ns(ns, weight);
    if penalty_ns_per_ms == 0 {
        return fair;
    }
    fair.saturating_add(penalty(ns, penalty_ns_per_ms))
}

/// How long a task must run, at least, to gain `virtual_ns`; the inverse of [`aged_ns`], rounded up so
/// that a timer set with it does not fire short of the mark.
pub fn run_for_ns(virtual_ns: u64, weight: u64, penalty_ns_per_ms: u32) -> u64 {
    let weight = weight.max(1);
    if penalty_ns_per_ms == 0 {
        if weight == NICE_0_WEIGHT {
            return virtual_ns;
        }
        return mul_div_up(virtual_ns, weight, NICE_0_WEIGHT);
    }
    // One real ns is 1024/weight + penalty/10^6 virtual ns; both over the common denominator.
    let pace = NICE_0_WEIGHT as u128 * 1_000_000 + u128::from(penalty_ns_per_ms) * u128::from(weight);
    let scaled = u128::from(virtual_ns) * u128::from(weight) * 1_000_000;
    u64::try_from(scaled.div_ceil(pace)).unwrap_or(u64::MAX)
}

fn penalty(ns: u64, per_ms: u32) -> u64 {
    let per_ms = u64::from(per_ms);
    // In two parts, so that hours of running times the largest penalty stays in 64 bits.
    (ns / 1_000_000).saturating_mul(per_ms).saturating_add(ns % 1_000_000 * per_ms / 1_000_000)
}

fn mul_div_up(a: u64, b: u64, c: u64) -> u64 {
    match a.checked_mul(b) {
        Some(product) => product.div_ceil(c),
        None => (a / c).saturating_add(1).saturating_mul(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nice_levels() {
        assert_eq!(of_nice(0), 1024);
        assert_eq!(of_nice(5), 335);
        assert_eq!(of_nice(-20), 88761);
        assert_eq!(of_nice(19), 15);
        assert_eq!(of_nice(i8::MIN), 88761);
        assert_eq!(of_nice(i8::MAX), 15);
    }

    #[test]
    fn one_level_is_a_quarter() {
        for nice in -20..19 {
            let ratio = of_nice(nice) as f64 / of_nice(nice + 1) as f64;
            assert!((1.17..1.34).contains(&ratio), "nice {nice}: {ratio}");
        }
    }

    #[test]
    fn a_penalty_of_a_million_doubles_the_pace_of_nice_0() {
        assert_eq!(aged_ns(5_000_000, NICE_0_WEIGHT, 1_000_000), 10_000_000);
        assert_eq!(aged_ns(500, NICE_0_WEIGHT, 1_000_000), 1000);
    }

    proptest! {
        #[test]
        fn running_for_the_answer_reaches_the_mark(
            virtual_ns in 0..1u64 << 40, nice in -20..20i8, penalty in 0..2_000_000_000u32,
        ) {
            let ran = run_for_ns(virtual_ns, of_nice(nice), penalty);
            // Each of the two roundings down inside aged_ns can cost one nanosecond.
            prop_assert!(aged_ns(ran, of_nice(nice), penalty) + 2 >= virtual_ns);
        }

        #[test]
        fn nothing_overflows(ns: u64, weight: u32, penalty: u32) {
            let weight = u64::from(weight);
            aged_ns(ns, weight, penalty);
            run_for_ns(ns, weight, penalty);
        }
    }
}
