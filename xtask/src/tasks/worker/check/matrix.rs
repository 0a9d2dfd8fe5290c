//! What is judged of a matrix of backends as a whole.

use super::row::Check;

/// The runs of a matrix.
pub const CHECKS: &[Check] = &[Check::matrix("matrix.completes")
    .promise("can be tried on every backend that was asked for")
    .explanation("A backend of --require that this machine or build lacks, a run that could not judge, or a process left behind fails it.")
    .by_hand("cargo xtask worker:test --all-backends --require cpu")];
