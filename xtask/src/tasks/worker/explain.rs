//! `--list-checks` and `--explain`: the table of checks as text. Pure.

use anyhow::Result;

use crate::tasks::worker::plan;
use crate::tasks::worker::record::check::CheckInfo;

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

fn about(row: &CheckInfo, by_hand: &str) -> String {
    let option = row.option();
    let option = option.map_or(String::new(), |option| format!(", with {option}"));
    let contract = match row.contract {
        "" => "none: this compares workers, and no single worker promises it",
        quoted => quoted,
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
