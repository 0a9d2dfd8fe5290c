//! Which check has to catch which fault, and whether it did. Reads the table's file, and runs nothing.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use crate::tasks::worker::check::table;
use crate::tasks::worker::plan;
use crate::tasks::worker::record::event::{CheckRecord, Outcome};

/// The row of the worker that keeps every promise.
pub const NO_FAULT: &str = "";

/// Every fault with what has to come of it.
#[derive(Debug, Clone)]
pub struct FaultTable {
    rows: Vec<Expectation>,
}

/// What has to come of one fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expectation {
    /// The fault, as the faulty worker calls it.
    pub fault: String,
    /// The check that has to fail; `None` where nothing may: the worker without a fault, and those
    /// that keep every promise in a way of their own.
    pub by: Option<String>,
    /// Checks that have to run before, because what they do brings the fault about.
    pub with: Vec<String>,
    /// Globs over the checks that may fail, too, or can't be judged, as a consequence.
    pub also: Vec<String>,
    /// Whether the worker is asked to compute on a GPU, which is a pretended one.
    pub on_gpu: bool,
    /// Whether it is talked to in OpenAI's protocol.
    pub openai: bool,
}

/// What came of one fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// The right check failed, and nobody else was blamed.
    Caught(String),
    /// Nothing failed, and nothing should have.
    Clean,
    /// The check that had to fail did not; what it said instead.
    Missed(String),
    /// These checks failed or could not judge although they have nothing to do with it.
    Strangers(Vec<String>),
}

/// How a run under a fault ended.
#[derive(Debug, Clone, Default)]
pub struct Trial {
    /// Every check that came to an end.
    pub records: Vec<CheckRecord>,
    /// Why the run could not judge, if it couldn't.
    pub troubles: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    faults: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    by: Option<String>,
    #[serde(default)]
    with: Vec<String>,
    #[serde(default)]
    also: Vec<String>,
    #[serde(default)]
    on_gpu: bool,
    #[serde(default)]
    openai: bool,
}

impl FaultTable {
    /// Reads the table, whose checks have to exist.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let file: File = toml::from_str(text)?;
        let good = Expectation {
            fault: NO_FAULT.to_owned(),
            by: None,
            with: Vec::new(),
            also: Vec::new(),
            on_gpu: false,
            openai: false,
        };
        let mut rows = vec![good];
        for (fault, entry) in file.faults {
            let Entry {
                by,
                with,
                also,
                on_gpu,
                openai,
            } = entry;
            for id in with.iter().chain(&by) {
                plan::find(&table::rows(), id).with_context(|| format!("fault {fault}"))?;
            }
            for glob in &also {
                let known = table::checks().any(|check| plan::matches(glob, check.info.id));
                ensure!(known, "fault {fault}: {glob} matches no check");
            }
            rows.push(Expectation {
                fault,
                by,
                with,
                also,
                on_gpu,
                openai,
            });
        }
        Ok(Self { rows })
    }

    /// The worker without a fault, then every fault.
    pub fn rows(&self) -> impl Iterator<Item = &Expectation> {
        self.rows.iter()
    }

    /// Fails unless the table has exactly the faulty worker's faults.
    pub fn expect_same_faults(&self, faults: &[String]) -> Result<()> {
        for fault in faults {
            let known = self.rows.iter().any(|row| row.fault == *fault);
            ensure!(
                known,
                "the table of faults lacks {fault}: which check has to catch it?"
            );
        }
        for row in &self.rows {
            let known = row.fault == NO_FAULT || faults.contains(&row.fault);
            ensure!(known, "the faulty worker has no fault {}", row.fault);
        }
        Ok(())
    }
}

impl Expectation {
    /// Whether this check has to run for the fault to be caught.
    pub fn needs(&self, id: &str) -> bool {
        self.by.as_deref() == Some(id) || self.with.iter().any(|needed| needed == id)
    }

    /// What the run comes to.
    pub fn judge(&self, trial: &Trial) -> Judgement {
        let is_expected = |id: &str| {
            self.by.as_deref() == Some(id) || self.also.iter().any(|glob| plan::matches(glob, id))
        };
        let mut strangers: Vec<String> = trial.troubles.clone();
        for record in &trial.records {
            let what = match &record.outcome {
                Outcome::Failed(mismatch) => mismatch.to_string(),
                Outcome::Invalid { reason } => format!("could not judge: {reason}"),
                // What was to meet the difference of a worker without a fault has to have met it.
                Outcome::Skipped { reason, .. } if self.by.is_none() && self.needs(&record.id) => {
                    format!("was skipped: {reason}")
                }
                Outcome::Passed | Outcome::Skipped { .. } => continue,
            };
            if !is_expected(&record.id) {
                strangers.push(format!("{} ({what})", record.id));
            }
        }
        let Some(by) = &self.by else {
            let is_clean = strangers.is_empty() && !trial.records.is_empty();
            return if is_clean {
                Judgement::Clean
            } else {
                Judgement::Strangers(strangers)
            };
        };
        match trial.records.iter().find(|record| record.id == *by) {
            Some(CheckRecord {
                outcome: Outcome::Failed(_),
                ..
            }) if strangers.is_empty() => Judgement::Caught(by.clone()),
            Some(CheckRecord {
                outcome: Outcome::Failed(_),
                ..
            }) => Judgement::Strangers(strangers),
            Some(record) => Judgement::Missed(format!("{by} {}", describe(&record.outcome))),
            None => Judgement::Missed(format!("{by} never ran; {}", strangers.join("; "))),
        }
    }
}

impl Judgement {
    /// Whether the tester did what it has to.
    pub fn is_right(&self) -> bool {
        matches!(self, Judgement::Caught(_) | Judgement::Clean)
    }
}

impl std::fmt::Display for Judgement {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Judgement::Caught(by) => write!(f, "{by}"),
            Judgement::Clean => write!(f, "no check blamed"),
            Judgement::Missed(what) => write!(f, "not caught: {what}"),
            Judgement::Strangers(who) => write!(f, "wrongly blamed: {}", who.join("; ")),
        }
    }
}

fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Passed => String::from("passed"),
        Outcome::Failed(mismatch) => format!("failed: {mismatch}"),
        Outcome::Invalid { reason } => format!("could not judge: {reason}"),
        Outcome::Skipped { reason, .. } => format!("was skipped: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::record::event::Mismatch;
    use std::collections::BTreeSet;

    fn committed() -> FaultTable {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        FaultTable::load(&folder.join("tests/faults.toml")).unwrap()
    }

    fn trial(outcomes: &[(&str, Outcome)]) -> Trial {
        let record = |(id, outcome): &(&str, Outcome)| CheckRecord {
            id: (*id).to_owned(),
            outcome: outcome.clone(),
            duration_ms: 1,
            detail: None,
        };
        Trial {
            records: outcomes.iter().map(record).collect(),
            troubles: Vec::new(),
        }
    }

    fn failed() -> Outcome {
        Outcome::Failed(Mismatch::new("here", "this", "that"))
    }

    #[test]
    fn every_check_catches_a_fault() {
        let table = committed();
        let catchers: BTreeSet<&str> = table.rows().filter_map(|row| row.by.as_deref()).collect();
        let idle: Vec<&str> = crate::tasks::worker::check::table::checks()
            .filter(|check| check.info.is_selectable())
            .map(|check| check.info.id)
            .filter(|id| !catchers.contains(id))
            .collect();
        assert!(
            idle.is_empty(),
            "nothing shows that these can fail: {idle:?}"
        );
    }

    #[test]
    fn a_fault_is_caught_only_by_its_check_and_blames_only_its_consequences() {
        let expectation = Expectation {
            fault: String::from("a.fault"),
            by: Some(String::from("a.b")),
            with: Vec::new(),
            also: vec![String::from("c.*")],
            on_gpu: false,
            openai: false,
        };
        let judge = |outcomes: &[(&str, Outcome)]| expectation.judge(&trial(outcomes));
        let reason = String::from("why");
        let (own, consequence) = (("a.b", failed()), ("c.d", failed()));
        let caught = Judgement::Caught(String::from("a.b"));
        assert_eq!(judge(std::slice::from_ref(&own)), caught);
        assert_eq!(judge(&[own.clone(), consequence.clone()]), caught);
        for missed in [vec![consequence], vec![("a.b", Outcome::Passed)], vec![]] {
            assert!(matches!(judge(&missed), Judgement::Missed(_)), "{missed:?}");
        }
        for other in [failed(), Outcome::Invalid { reason }] {
            let judgement = judge(&[own.clone(), ("d.e", other)]);
            assert!(matches!(judgement, Judgement::Strangers(_)));
        }
    }

    #[test]
    fn a_good_worker_has_to_be_clean_and_seen() {
        let table = committed();
        let good = table.rows().next().unwrap();
        assert_eq!(
            good.judge(&trial(&[("a.b", Outcome::Passed)])),
            Judgement::Clean
        );
        assert!(!good.judge(&trial(&[("a.b", failed())])).is_right());
        assert!(!good.judge(&Trial::default()).is_right());
        let reason = String::from("why");
        let different = Expectation {
            with: vec![String::from("a.b")],
            ..good.clone()
        };
        let because = None;
        let unmet = [("a.b", Outcome::Skipped { reason, because })];
        assert!(good.judge(&trial(&unmet)).is_right());
        assert!(!different.judge(&trial(&unmet)).is_right());
    }

    #[test]
    fn a_table_that_names_what_is_not_there_is_refused() {
        for text in [
            "[faults]\n\"a.b\" = { by = \"no.check\" }",
            "[faults]\n\"a.b\" = { by = \"start.ready\", also = [\"no.*\"] }",
            "[faults]\n\"a.b\" = { by = \"start.ready\", maybe = [] }",
        ] {
            assert!(FaultTable::parse(text).is_err(), "{text}");
        }
        let table = FaultTable::parse("[faults]\n\"a.b\" = { by = \"start.ready\" }").unwrap();
        assert!(table.expect_same_faults(&[String::from("a.b")]).is_ok());
        assert!(table.expect_same_faults(&[]).is_err());
        let two = [String::from("a.b"), String::from("a.c")];
        assert!(table.expect_same_faults(&two).is_err());
    }
}
