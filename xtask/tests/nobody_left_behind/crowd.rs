//! Many runs, one after the other and beside each other.

use std::time::Duration;

use crate::run::{GONE_LIMIT, GRACE, Plan, Worker};

/// How many runs there are beside each other.
const BESIDE: usize = 8;

/// How often. `NOBODY_LEFT_BEHIND_ROUNDS` asks for more.
fn rounds() -> usize {
    let asked_for = std::env::var("NOBODY_LEFT_BEHIND_ROUNDS");
    asked_for.map_or(2, |rounds| rounds.parse().expect("a number"))
}

#[test]
fn eight_runs_beside_each_other_leave_nobody_however_they_end() {
    for round in 0..rounds() {
        let mut runs: Vec<_> = (0..BESIDE)
            .map(|_| {
                Plan::over(Worker::Stubborn)
                    .env("STUBBORN_POLITE", "1")
                    .start()
            })
            .collect();
        for (number, run) in runs.iter_mut().enumerate() {
            run.wait_until_busy();
            let ways = ["INT", "TERM", "HUP", "KILL"];
            run.signal(ways[(round + number) % ways.len()]);
        }
        for run in &mut runs {
            let killed = run.wait().code().is_none();
            let limit = if killed {
                GRACE + GONE_LIMIT
            } else {
                Duration::ZERO
            };
            run.assert_gone_within(limit);
        }
    }
}
