//! Which checks hold each promise of the contract, and which faults break it: the page
//! `docs/coverage.md`, and what it must not lack.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::faults::{Fault, list_faults};
use super::table::{Expectation, FaultTable};
use super::{FAULTY_WORKER, TABLE};
use crate::tasks::worker::check::table;
use crate::tasks::worker::process::python::Python;
use crate::tasks::worker::record::contract::{self, Promised};

const HEAD: &str = "<!-- Written by `UPDATE_EXPECT=1 cargo test -p xtask --bin xtask page_of_coverage`. -->

# Coverage of the contract

Every promise of [`CONTRACT.md`](../CONTRACT.md), the checks that hold it, and the faults that break it:
workers of the tests that break this and nothing else, each caught by the check behind its arrow.
`cargo xtask worker:test --explain CHECK` says what a check does; `cargo xtask worker:mutants --fault
FAULT` tries a fault. A *variant* takes a liberty that the promise leaves, and nobody blames it.
";

/// Everything that is known about who holds what.
struct Coverage {
    expected: FaultTable,
    faults: BTreeMap<String, Fault>,
}

impl Coverage {
    fn committed() -> Self {
        let root = root();
        let expected = FaultTable::load(&root.join(TABLE)).unwrap();
        let python = Python::find(None).unwrap();
        let faults = list_faults(&python, &root.join(FAULTY_WORKER)).unwrap();
        expected.expect_same_faults(&faults).unwrap();
        let by_id = |fault: Fault| (fault.id.clone(), fault);
        Self {
            expected,
            faults: faults.into_iter().map(by_id).collect(),
        }
    }

    /// The faults and variants that are about a promise.
    fn about<'c>(
        &'c self,
        number: &'c str,
    ) -> impl Iterator<Item = (&'c Expectation, &'c Fault)> + 'c {
        let both = |row: &'c Expectation| Some((row, self.faults.get(&row.fault)?));
        let rows = self.expected.rows().filter_map(both);
        rows.filter(move |(_, fault)| fault.breaks.iter().any(|broken| broken == number))
    }

    fn page(&self) -> String {
        let mut page = HEAD.to_owned();
        let mut section = "";
        for promise in contract::promises() {
            if promise.section != section {
                section = promise.section;
                page += &format!("\n## {section}\n");
            }
            page += &format!("\n**[{}]** {}\n\n", promise.number, promise.text);
            if let Some(reason) = self.expected.untested.get(promise.number) {
                page += &format!("- not tested: {reason}\n");
                continue;
            }
            let checks = holders(promise).map(|id| format!("`{id}`"));
            let checks: Vec<String> = checks.collect();
            if !checks.is_empty() {
                page += &format!("- held by {}\n", checks.join(", "));
            }
            for (row, fault) in self.about(promise.number) {
                page += &match &row.by {
                    Some(by) => format!("- `{}`: {} → `{by}`\n", fault.id, fault.what),
                    None => format!("- variant `{}`: {}\n", fault.id, fault.what),
                };
            }
        }
        page
    }

    /// What is wrong with it, one line each.
    fn gaps(&self) -> Vec<String> {
        let mut gaps = Vec::new();
        for promise in contract::promises() {
            let number = promise.number;
            let is_held = holders(promise).next().is_some();
            let is_broken = self.about(number).any(|(row, _)| row.by.is_some());
            let is_liberty = self.about(number).next().is_some() && !is_broken;
            let said = self.expected.untested.contains_key(number);
            match (is_held, is_broken) {
                (true, true) if said => {
                    gaps.push(format!("{number} is tested, and said not to be"))
                }
                (true, true) => {}
                _ if said => {}
                (false, false) if is_liberty => {}
                (false, _) => gaps.push(format!("no check holds {number}: {}", promise.text)),
                (_, false) => gaps.push(format!("no fault breaks {number}: {}", promise.text)),
            }
        }
        for row in self.expected.rows() {
            let (Some(by), Some(fault)) = (&row.by, self.faults.get(&row.fault)) else {
                continue;
            };
            // The promises of OpenAI's protocol are its own.
            if fault.breaks.is_empty() && !row.openai {
                gaps.push(format!("{} breaks nothing", fault.id));
            }
            let holds = table::find(by).map_or(&[][..], |check| check.info.holds);
            for number in &fault.breaks {
                if contract::find(number).is_none() {
                    gaps.push(format!("{} breaks {number}, which there isn't", fault.id));
                }
                if !holds.contains(&number.as_str()) {
                    gaps.push(format!(
                        "{} breaks {number}, which {by} doesn't hold",
                        fault.id
                    ));
                }
            }
        }
        gaps
    }
}

/// The checks that hold a promise.
fn holders(promise: &Promised) -> impl Iterator<Item = &'static str> {
    let number = promise.number;
    let rows = table::rows().into_iter();
    rows.filter(move |row| row.holds.contains(&number))
        .map(|row| row.id)
}

fn root() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    folder.parent().unwrap().to_owned()
}

#[test]
fn every_promise_is_held_by_a_check_and_broken_by_a_fault() {
    let gaps = Coverage::committed().gaps();
    assert!(gaps.is_empty(), "{} gaps\n{}", gaps.len(), gaps.join("\n"));
}

#[test]
fn a_promise_without_a_check_or_a_fault_is_a_gap() {
    let mut coverage = Coverage::committed();
    coverage.faults.retain(|_, fault| fault.breaks != ["B17"]);
    let gone = coverage.gaps();
    assert!(
        gone.iter()
            .any(|gap| gap.starts_with("no fault breaks B17")),
        "{gone:?}"
    );
    let fault = coverage.faults.get_mut("hive.gives_up").unwrap();
    fault.breaks = vec![String::from("R1")];
    let strange = coverage.gaps();
    let gap = "hive.gives_up breaks R1, which hive.returns doesn't hold";
    assert!(strange.iter().any(|other| other == gap), "{strange:?}");
    coverage
        .expected
        .untested
        .insert(String::from("B16"), String::new());
    assert!(
        coverage
            .gaps()
            .iter()
            .any(|gap| gap == "B16 is tested, and said not to be")
    );
}

#[test]
fn the_page_of_coverage_is_what_the_tables_say() {
    let path = root().join("docs/coverage.md");
    let page = Coverage::committed().page();
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written.replace("\r\n", "\n") == page,
        "docs/coverage.md is stale: UPDATE_EXPECT=1 cargo test -p xtask --bin xtask page_of_coverage"
    );
}
