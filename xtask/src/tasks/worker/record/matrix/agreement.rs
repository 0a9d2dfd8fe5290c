//! Whether backends agree: the next greedy token of each after the same prefixes. Pure.
//!
//! Long greedy texts can't be compared as they are: kernels add in different orders, so that the
//! argmax flips where two tokens are nearly as likely, and from the first such place on the texts
//! have nothing to do with each other any more, although both are right. So the backends are forced
//! along one text, the teacher's: at each position of it each backend is asked for the one token
//! that it would go on with, and what counts is at how many positions they say the same.
//!
//! The contract has no probabilities, so the tokens themselves stand for them: two backends whose
//! next-token distributions agree have the same argmax wherever it isn't a near-tie.

use serde::Serialize;

use super::summary::RunSummary;
use crate::tasks::worker::record::facts::GreedyText;

/// Below this share of equal positions, in percent, backends disagree.
///
/// Near-ties, where the likeliest two tokens differ by less than what kernels differ by, are a few
/// positions in a hundred. A kernel that is wrong (a mask, a scale, an offset of rotary positions)
/// changes most of them. Ninety is far from both.
pub const AGREEMENT_FLOOR_PERCENT: f64 = 90.0;

/// With fewer positions than these one near-tie would already look like a disagreement.
pub const LEAST_POSITIONS: usize = 20;

/// How far one column agrees with the one that is the teacher.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Agreement {
    /// The index of the column that is compared.
    pub column: usize,
    /// The index of the teacher's column.
    pub teacher: usize,
    /// Positions that both answered.
    pub positions: usize,
    /// Positions at which they said the same.
    pub agreed: usize,
    /// The first position at which they didn't.
    pub first_difference: Option<FirstDifference>,
}

/// A position at which two backends go on differently.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FirstDifference {
    /// The whole text before it.
    pub after: String,
    /// What the teacher goes on with; `None` is the end of the text.
    pub teacher: Option<String>,
    /// What the other goes on with.
    pub got: Option<String>,
}

impl Agreement {
    /// The share of positions at which they said the same.
    pub fn percent(&self) -> f64 {
        100.0 * self.agreed as f64 / self.positions.max(1) as f64
    }

    /// Whether they disagree by more than near-ties explain.
    pub fn is_broken(&self) -> bool {
        self.is_judged() && self.percent() < AGREEMENT_FLOOR_PERCENT
    }

    /// Whether there are positions enough to call a disagreement one.
    pub fn is_judged(&self) -> bool {
        self.positions >= LEAST_POSITIONS
    }
}

/// Each column that has the texts of an earlier one is compared with the first such.
pub fn agreements(columns: &[RunSummary]) -> Vec<Agreement> {
    let mut found = Vec::new();
    for (index, column) in columns.iter().enumerate() {
        let Some(greedy) = &column.greedy else {
            continue;
        };
        let compared = columns[..index]
            .iter()
            .enumerate()
            .find_map(|(i, earlier)| {
                let teacher = earlier.greedy.as_ref()?;
                compare(&teacher.texts, &greedy.texts).map(|agreement| Agreement {
                    column: index,
                    teacher: i,
                    ..agreement
                })
            });
        found.extend(compared);
    }
    found
}

/// Compares what was answered after the same prefixes; `None` where no text is the same.
fn compare(teacher: &[GreedyText], other: &[GreedyText]) -> Option<Agreement> {
    let mut agreement = Agreement {
        column: 0,
        teacher: 0,
        positions: 0,
        agreed: 0,
        first_difference: None,
    };
    for (teacher, other) in teacher.iter().zip(other) {
        if (&teacher.prompt, &teacher.tokens) != (&other.prompt, &other.tokens) {
            continue;
        }
        for (position, (expected, got)) in teacher.next.iter().zip(&other.next).enumerate() {
            agreement.positions += 1;
            if expected == got {
                agreement.agreed += 1;
            } else if agreement.first_difference.is_none() {
                agreement.first_difference = Some(FirstDifference {
                    after: teacher.prefix(position),
                    teacher: expected.clone(),
                    got: got.clone(),
                });
            }
        }
    }
    (agreement.positions > 0).then_some(agreement)
}
