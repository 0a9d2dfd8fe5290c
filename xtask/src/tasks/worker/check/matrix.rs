//! What is judged of a matrix of backends as a whole.

use super::row::Check;

/// The runs of a matrix.
pub const CHECKS: &[Check] = &[Check::matrix("matrix.completes")
    .promise("can be tested on every requested backend")
    .explanation("Fails if a backend of --require is missing, a run could not judge, or a process was left behind.")
    .by_hand(|_| String::from("cargo xtask worker:test --all-backends --require cpu"))];
