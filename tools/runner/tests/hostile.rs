//! Programs that mean no good: a kernel may answer them with errors and kill them; it may not panic or hang.

use runner::testing::{self, Target};

const RUNNER: &str = env!("CARGO_BIN_EXE_runner");

/// A slice of what is run by hand a million calls at a time: `cargo run -- exec -- fuzz run --calls 1000000`.
#[test]
fn random_calls_do_no_harm() {
    for (seed, target) in Target::all().into_iter().enumerate() {
        let script = format!("fuzz run --calls 25000 --seed {}", seed + 1);
        let finished = testing::sh(RUNNER, target, &script).expect("the guest survives");
        assert_eq!(finished.code, 0, "{target}: {}{}", finished.out, finished.err);
    }
}
