//! `--list-checks`, `--explain` and `--plan`: the table of checks as text. Pure.

use std::collections::BTreeMap;

use anyhow::Result;

use crate::tasks::worker::plan;
use crate::tasks::worker::record::check::CheckInfo;
use crate::tasks::worker::record::event::PlannedCheck;

/// What is asked of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TableQuery {
    /// The whole table.
    List,
    /// One check, by its name.
    About(String),
}

impl TableQuery {
    /// The answer's text, or what was probably meant. `by_hand` gives the line for a shell that shows
    /// a check by hand.
    pub fn answer(
        &self,
        rows: &[&'static CheckInfo],
        by_hand: impl Fn(&CheckInfo) -> String,
    ) -> Result<String> {
        match self {
            TableQuery::List => Ok(list(rows)),
            TableQuery::About(id) => {
                let row = plan::find(rows, id)?;
                Ok(about(row, &by_hand(row)))
            }
        }
    }
}

fn list(rows: &[&'static CheckInfo]) -> String {
    let width = rows.iter().map(|row| row.id.len()).max().unwrap_or(0);
    let mut suites: Vec<_> = rows.iter().map(|row| row.suite).collect();
    suites.sort();
    suites.dedup();
    let mut text = String::new();
    for suite in suites {
        let of_suite: Vec<_> = rows.iter().filter(|row| row.suite == suite).collect();
        let option = of_suite.iter().find_map(|row| row.option());
        let option = option.map_or(String::new(), |option| format!(", with {option}"));
        text += &format!("{} ({} checks{option})\n", suite.as_str(), of_suite.len());
        for row in of_suite {
            let level = row.level.as_str();
            text += &format!("  {:width$}  {level:6}  {}\n", row.id, row.promise);
        }
        text.push('\n');
    }
    text + "--explain ID says more about one. Default: isolation and contract.\n"
}

/// What a run would try, in its order, and how long each check took when it last ran, in milliseconds.
pub fn planned(checks: &[PlannedCheck], took_ms: &BTreeMap<String, u64>) -> String {
    let width = checks.iter().map(|check| check.id.len()).max().unwrap_or(0);
    let mut text = String::new();
    for check in checks {
        let took = match took_ms.get(&check.id) {
            Some(took_ms) => format!("{:.2} s", *took_ms as f64 / 1000.0),
            None => String::from("-"),
        };
        let known = match &check.known_failure {
            Some(reason) => format!(" (known to fail: {reason})"),
            None => String::new(),
        };
        text += &format!(
            "  {:width$}  {took:>9}  {:10}  {}{known}\n",
            check.id,
            check.suite.as_str(),
            check.promise,
        );
    }
    let took = |check: &PlannedCheck| took_ms.get(&check.id);
    let known: Vec<u64> = checks.iter().filter_map(took).copied().collect();
    let last_time = match known.as_slice() {
        [] => String::from("none of them has been run before"),
        known => format!(
            "{} of them took {:.1} s the last time, each by itself",
            known.len(),
            known.iter().sum::<u64>() as f64 / 1000.0
        ),
    };
    text + &format!("{} checks would run; {last_time}.\n", checks.len())
}

fn about(row: &CheckInfo, by_hand: &str) -> String {
    let option = row.option();
    let option = option.map_or(String::new(), |option| format!(", with {option}"));
    let contract = match row.holds {
        [] => String::from("none: this compares workers, and no single worker promises it"),
        _ => row.quoted().join("\n            "),
    };
    format!(
        "{id}\n\n  The worker {promise}.\n\n  suite     {suite}{option}\n  level     {level}\n  contract  {contract}\n  tried     {explanation}\n  by hand   {by_hand}\n",
        id = row.id,
        promise = row.promise,
        suite = row.suite.as_str(),
        level = row.level.as_str(),
        explanation = row.explanation,
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::record::check::Phase;
    use crate::tasks::worker::record::event::Suite;

    const ROW: &CheckInfo = &CheckInfo {
        promise: "answers * streams",
        explanation: "A stream without an end fails it.",
        ..CheckInfo::row("bench.sweep_*", Suite::Benchmark, Phase::Benchmark)
    };

    #[test]
    fn a_plan_says_what_would_run_and_how_long_it_took() {
        let planned_check =
            |id: &str| CheckInfo::row("a.b", Suite::Isolation, Phase::Serving).planned_for(id);
        let mut checks = [planned_check("*"), planned_check("*")];
        checks[1].id = String::from("c.d");
        let took = BTreeMap::from([(String::from("c.d"), 1250)]);
        let text = planned(&checks, &took);
        assert!(text.contains("  a.b          -  isolation"), "{text}");
        assert!(text.contains("  c.d     1.25 s  isolation"), "{text}");
        let end = "2 checks would run; 1 of them took 1.2 s the last time, each by itself.\n";
        assert!(text.ends_with(end), "{text}");
        assert!(planned(&checks, &BTreeMap::new()).contains("none of them has been run before"));
    }

    #[test]
    fn a_check_is_listed_once_and_explained_with_its_option() {
        let list = TableQuery::List
            .answer(&[ROW], |_| String::from("curl"))
            .unwrap();
        assert_eq!(
            list.matches("  bench.sweep_*  must    answers * streams\n")
                .count(),
            1
        );
        assert!(
            list.contains("benchmark (1 checks, with --benchmark)"),
            "{list}"
        );
        let about = TableQuery::About(String::from("bench.sweep_4"));
        let about = about.answer(&[ROW], |_| String::from("curl")).unwrap();
        assert!(about.contains(ROW.explanation), "{about}");
        assert!(
            TableQuery::About(String::from("nothing"))
                .answer(&[ROW], |_| String::from("curl"))
                .is_err()
        );
    }
}
