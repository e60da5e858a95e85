//! Decisions on drawn machines: one number of running tasks per CPU.
use super::*;
use proptest::prelude::*;

struct Drawn {
    running: Vec<u32>,
    rt: Vec<u8>,
}

fn machine(running: &[u32]) -> Drawn {
    Drawn { running: running.to_vec(), rt: vec![0; running.len()] }
}

impl Drawn {
    fn bits(&self, word: usize, yes: impl Fn(usize) -> bool) -> u64 {
        (0..64)
            .filter(|bit| word * 64 + bit < self.running.len() && yes(word * 64 + bit))
            .fold(0, |w, b| w | 1 << b)
    }
}

impl Cpus for Drawn {
    fn count(&self) -> usize {
        self.running.len()
    }
    fn idle(&self, word: usize) -> u64 {
        self.bits(word, |cpu| self.running[cpu] == 0)
    }
    fn overloaded(&self, word: usize) -> u64 {
        self.bits(word, |cpu| self.running[cpu] > 1)
    }
    fn nr_running(&self, cpu: usize) -> u32 {
        self.running[cpu]
    }
    fn load(&self, cpu: usize) -> u64 {
        u64::from(self.running[cpu]) * 1024
    }
    fn rt_priority(&self, cpu: usize) -> u8 {
        self.rt[cpu]
    }
}

const ALL: &[u64] = &[u64::MAX; 64];

fn wake(prev: usize, waker: usize) -> Wake {
    Wake { prev, waker, sync: false, waker_tail_ns: u64::MAX }
}

#[test]
fn where_a_task_wakes() {
    let table: &[(&[u32], &[u64], Wake, Option<usize>, &str)] = &[
        (&[0, 0, 1, 0], ALL, wake(1, 2), Some(1), "where it was, idle"),
        (&[0, 0, 0, 0], ALL, wake(1, 2), Some(2), "an interrupt of an idle CPU: there"),
        (&[0, 0, 0, 0], &[0b1011], wake(1, 2), Some(1), "not against its affinity"),
        (&[0, 1, 1, 0], ALL, wake(1, 2), Some(3), "the next idle one after it"),
        (&[0, 1, 1, 1], ALL, wake(1, 2), Some(0), "cyclically"),
        (&[1, 1, 1, 1], ALL, wake(1, 2), Some(1), "nobody idle: where it was"),
        (&[1, 5, 1, 1], ALL, wake(1, 2), Some(2), "the waker's queue is much shorter"),
        (&[1, 0, 1, 1], &[0b1101], wake(1, 2), Some(2), "affinity"),
        (&[3, 0, 1, 2], &[0b1001], wake(1, 2), Some(3), "affinity excludes both: least loaded"),
        (&[0, 0, 1, 0], ALL, Wake { sync: true, ..wake(1, 2) }, Some(2), "the waker will sleep"),
        (&[0, 0, 2, 0], ALL, Wake { sync: true, ..wake(1, 2) }, Some(1), "but others wait there"),
        (&[0, 0, 1, 0], ALL, Wake { waker_tail_ns: 5_000, ..wake(1, 2) }, Some(2), "it always does"),
        (&[0, 0], &[0], wake(0, 1), None, "nowhere"),
    ];
    for (running, allowed, wake, cpu, what) in table {
        assert_eq!(place_woken(&machine(running), allowed, *wake), *cpu, "{what}");
    }
}

#[test]
fn where_a_task_is_born() {
    let table: &[(&[u32], usize, Option<usize>)] = &[
        (&[0, 0, 1, 0], 2, Some(2)),
        (&[0, 1, 2, 0], 2, Some(3)),
        (&[0, 1, 2, 1], 2, Some(0)),
        (&[3, 2, 2, 4], 2, Some(2)),
        (&[3, 2, 3, 4], 2, Some(1)),
    ];
    for (running, parent, cpu) in table {
        assert_eq!(place_new(&machine(running), ALL, *parent), *cpu, "{running:?}");
    }
}

#[test]
fn where_a_real_time_task_goes() {
    let mut cpus = machine(&[1, 1, 1, 2]);
    cpus.rt = vec![50, 10, 90, 20];
    assert_eq!(place_rt(&cpus, ALL, 0, 60), Some(0), "it preempts where it was");
    assert_eq!(place_rt(&cpus, ALL, 2, 60), Some(1), "the least urgent");
    assert_eq!(place_rt(&cpus, &[0b1100], 2, 60), Some(3));
    cpus.running[3] = 0;
    assert_eq!(place_rt(&cpus, ALL, 2, 5), Some(3), "an idle one");
}

#[test]
fn an_idle_cpu_takes_from_the_busiest() {
    assert_eq!(idle_pull(&machine(&[0, 1, 3, 2]), 0), Some(Move { cpu: 2, load: 1536 }));
    assert_eq!(idle_pull(&machine(&[0, 1, 1, 1]), 0), None);
    let mut far = vec![1; 4096];
    (far[5], far[4000]) = (0, 2);
    assert_eq!(idle_pull(&machine(&far), 5).map(|pull| pull.cpu), Some(4000));
}

#[test]
fn push_evens_out_and_then_stops() {
    assert_eq!(push(&machine(&[4, 1]), ALL, 0, false), Some(Move { cpu: 1, load: 1536 }));
    assert_eq!(push(&machine(&[4, 1]), ALL, 0, true), None);
    assert_eq!(push(&machine(&[3, 2]), ALL, 0, false), None);
    assert_eq!(push(&machine(&[2, 3]), ALL, 0, false), None);
    assert_eq!(push(&machine(&[2, 1, 0]), ALL, 0, true), Some(Move { cpu: 2, load: 1024 }));
    assert_eq!(push(&machine(&[2, 1, 0]), &[0b011], 0, true), None, "CPU 2 is off line");
}

#[test]
fn a_usual_tail_survives_outliers_and_follows_a_change() {
    let mut usual = FIRST_TAIL_NS;
    for round in 0..1000 {
        usual = next_tail_ns(usual, if round % 4 == 0 { 5_000_000 } else { 5_000 });
        assert!(usual < SHORT_TAIL_NS, "round {round}: {usual}");
    }
    (0..30).for_each(|_| usual = next_tail_ns(usual, 5_000_000));
    assert!(usual > SHORT_TAIL_NS, "{usual}");
}

#[test]
fn intervals() {
    assert_eq!(interval_ns(1), 8_000_000);
    assert_eq!(interval_ns(16), 16_000_000);
    assert_eq!(interval_ns(4096), 64_000_000);
}

proptest! {
    /// Whatever the numbers, the answer is an allowed CPU if there is one.
    #[test]
    fn never_outside_the_affinity(
        running in prop::collection::vec(0..4u32, 1..200),
        words in prop::collection::vec(any::<u64>() , 1..4),
        (prev, waker) in (any::<usize>(), any::<usize>()),
        sync: bool, waker_tail_ns in 0..100_000u64, priority in 1..100u8,
    ) {
        let cpus = machine(&running);
        let (prev, waker) = (prev % running.len(), waker % running.len());
        let possible = (0..running.len()).any(|cpu| contains(&words, cpu));
        let answers = [
            place_woken(&cpus, &words, Wake { prev, waker, sync, waker_tail_ns }),
            place_new(&cpus, &words, prev),
            place_rt(&cpus, &words, prev, priority),
        ];
        for answer in answers {
            prop_assert_eq!(answer.is_some(), possible);
            prop_assert!(answer.is_none_or(|cpu| cpu < running.len() && contains(&words, cpu)));
        }
    }

    /// Pushing again and again ends, with no two CPUs further apart than two tasks.
    #[test]
    fn pushing_converges(running in prop::collection::vec(0..20u32, 2..20)) {
        let mut cpus = machine(&running);
        for round in 0.. {
            let mut moved = false;
            for me in 0..cpus.count() {
                if cpus.running[me] > 1 && let Some(to) = push(&cpus, ALL, me, false) {
                    let tasks = (to.load / 1024).max(1) as u32;
                    cpus.running[me] -= tasks;
                    cpus.running[to.cpu] += tasks;
                    moved = true;
                }
            }
            if !moved {
                break;
            }
            prop_assert!(round < 100, "{:?}", cpus.running);
        }
        let (least, most) = (cpus.running.iter().min().unwrap(), cpus.running.iter().max().unwrap());
        prop_assert!(most - least <= 2, "{:?}", cpus.running);
    }
}
