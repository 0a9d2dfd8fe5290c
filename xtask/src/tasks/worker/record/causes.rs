//! Broken promises by their cause: the first one, and those that only repeat what it has shown. Pure.
//!
//! A worker whose health answers 500 breaks a dozen promises, and has one fault. Nothing is left out
//! here, and what isn't sure to follow from another failure is a cause of its own.

use super::event::{CheckRecord, CheckStatus, CheckSummary, Mismatch, Outcome};

/// A broken promise, and what follows from it.
#[derive(Debug, Clone, PartialEq)]
pub struct Cause<'c> {
    /// The check that saw it first.
    pub check: &'c CheckSummary,
    /// Checks that failed by the same answer, or were skipped because it took away what they need.
    pub consequences: Vec<&'c CheckSummary>,
}

/// Every cause, in the order in which they were seen. Warnings alone are none.
pub fn causes(checks: &[CheckSummary]) -> Vec<Cause<'_>> {
    let is_broken = |check: &CheckSummary| check.outcome == CheckStatus::Failed;
    let follow = |id: &str| {
        let of_it = |check: &&CheckSummary| check.follows_from.as_deref() == Some(id);
        checks.iter().filter(of_it).collect::<Vec<_>>()
    };
    let heads = checks.iter().filter(|check| check.follows_from.is_none());
    let causes = heads.filter_map(|check| {
        let consequences = match check.outcome {
            CheckStatus::Failed | CheckStatus::Warning => follow(&check.id),
            _ => Vec::new(),
        };
        let is_one = is_broken(check) || consequences.iter().any(|check| is_broken(check));
        is_one.then_some(Cause {
            check,
            consequences,
        })
    });
    causes.collect()
}

/// "1 cause, 27 consequences"; nothing where there is none.
pub fn counted(causes: &[Cause<'_>]) -> Option<String> {
    let consequences = causes.iter().map(|cause| cause.consequences.len()).sum();
    let count = |count: usize, word: &str| match count {
        1 => format!("1 {word}"),
        count => format!("{count} {word}s"),
    };
    match (causes.len(), consequences) {
        (0, _) => None,
        (causes, 0) => Some(count(causes, "cause")),
        (causes, more) => Some(count(causes, "cause") + ", " + &count(more, "consequence")),
    }
}

/// For each check that ran, the one that its outcome follows from, if it does.
///
/// What every other check stands on (`is_basic`) explains whoever got the same answer. Beside that,
/// only the very same observation does: two bad requests may be refused in the same wrong way, and be
/// two faults.
pub fn follows_from(
    records: &[CheckRecord],
    is_basic: impl Fn(&str) -> bool,
) -> Vec<Option<String>> {
    let lost: Vec<&Mismatch> = records.iter().filter_map(lost_need).collect();
    let mut heads: Vec<(&CheckRecord, &Mismatch, bool)> = Vec::new();
    let mut explained = Vec::with_capacity(records.len());
    for record in records {
        let head = broken(record).and_then(|mismatch| {
            let head = heads.iter().find(|(_, first, is_basic)| {
                (mismatch.is_shared && is_same(first, mismatch))
                    || (*is_basic && is_same_answer(first, mismatch))
            });
            if head.is_none() {
                let takes_needs = lost.iter().any(|lost| is_same(lost, mismatch));
                heads.push((record, mismatch, takes_needs || is_basic(&record.id)));
                return None;
            }
            head.map(|(head, ..)| head.id.clone())
        });
        explained.push(head);
    }
    for (record, explained) in records.iter().zip(&mut explained) {
        let Some(lost) = lost_need(record) else {
            continue;
        };
        let mut heads = heads.iter();
        let head = heads.find(|(_, first, is_basic)| {
            is_same(first, lost) || (*is_basic && is_same_answer(first, lost))
        });
        *explained = head.map(|(head, ..)| head.id.clone());
    }
    explained
}

fn broken(record: &CheckRecord) -> Option<&Mismatch> {
    match &record.outcome {
        Outcome::Failed(mismatch) => Some(mismatch),
        _ => None,
    }
}

fn lost_need(record: &CheckRecord) -> Option<&Mismatch> {
    match &record.outcome {
        Outcome::Skipped { because, .. } => because.as_deref(),
        _ => None,
    }
}

/// Whether it is one observation.
fn is_same(one: &Mismatch, other: &Mismatch) -> bool {
    (&one.place, &one.expected, &one.got) == (&other.place, &other.expected, &other.got)
}

/// Whether the same was answered to the same question.
fn is_same_answer(first: &Mismatch, later: &Mismatch) -> bool {
    let (one, other) = (masked(&first.place), masked(&later.place));
    let is_same_place = other
        .strip_prefix(&one)
        .is_some_and(|more| !more.starts_with(|c: char| c.is_alphanumeric() || "/_".contains(c)));
    let is_same_wish = masked(&first.expected) == masked(&later.expected);
    match (server_error(&first.got), server_error(&later.got)) {
        // Whatever was wished for, the worker was in no state to answer.
        (Some((status, body)), Some((other_status, other_body))) => {
            let is_same_body = body.is_empty() || other_body.is_empty() || body == other_body;
            is_same_place && status == other_status && is_same_body
        }
        _ => is_same_place && is_same_wish && masked(&first.got) == masked(&later.got),
    }
}

/// The status of an answer that says that the worker has failed, and its body where that is told. 503 is
/// none: the contract has it for workers that can't answer yet.
fn server_error(got: &str) -> Option<(&str, String)> {
    let got = got.strip_prefix("status ").unwrap_or(got);
    let (status, body) = got.split_once(" with ").unwrap_or((got, ""));
    let is_error = status.len() == 3 && status.starts_with('5') && status != "503";
    let is_number = status.bytes().all(|byte| byte.is_ascii_digit());
    (is_error && is_number).then(|| (status, masked(body)))
}

/// The text without its numbers, which differ from one answer to the next; those of statuses don't.
fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
        masked.push_str(&rest[..at]);
        let number = &rest[at..];
        let end = number.find(|c: char| !(c.is_ascii_digit() || c == '.'));
        let (number, after) = number.split_at(end.unwrap_or(number.len()));
        let is_status = number
            .parse::<u16>()
            .is_ok_and(|number| (100..600).contains(&number));
        masked.push_str(if is_status { number } else { "0" });
        rest = after;
    }
    masked + rest
}

#[cfg(test)]
mod tests;
