//! `--list-checks` and `--explain`: the table of checks as text. Pure.

use anyhow::Result;

use crate::tasks::worker::check::{Check, checks};
use crate::tasks::worker::plan;
use crate::tasks::worker::record::event::Suite;

/// What is asked of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Question {
    /// The whole table.
    List,
    /// One check, by its name.
    About(String),
}

impl Question {
    /// The answer's text, or what was probably meant.
    pub fn answer(&self) -> Result<String> {
        match self {
            Question::List => Ok(list()),
            Question::About(id) => Ok(about(plan::find(id)?)),
        }
    }
}

fn list() -> String {
    let width = checks().map(|check| check.id.len()).max().unwrap_or(0);
    let mut text = String::new();
    for suite in [Suite::Isolation, Suite::Contract, Suite::Resilience] {
        let rows: Vec<_> = checks().filter(|check| check.suite == suite).collect();
        text += &format!("{} ({} checks)\n", suite.as_str(), rows.len());
        for check in rows {
            let level = check.level.as_str();
            text += &format!("  {:width$}  {level:6}  {}\n", check.id, check.promise);
        }
        text.push('\n');
    }
    text + "--explain ID tells more about one. Default: isolation and contract.\n"
}

fn about(check: &Check) -> String {
    format!(
        "{id}\n\n  The worker {promise}.\n\n  suite     {suite}\n  level     {level}\n  contract  {contract}\n  tried     {explanation}\n  by hand   {by_hand}\n",
        id = check.id,
        promise = check.promise,
        suite = check.suite.as_str(),
        level = check.level.as_str(),
        contract = check.contract,
        explanation = check.explanation,
        by_hand = check.by_hand(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_check_is_listed_once_and_explained() {
        let list = Question::List.answer().unwrap();
        for check in checks() {
            let line = format!("  {} ", check.id);
            assert_eq!(list.matches(&line).count(), 1, "{}", check.id);
            let about = Question::About(check.id.to_owned()).answer().unwrap();
            assert!(about.contains(check.contract) && about.contains(&check.by_hand()));
        }
    }

    #[test]
    fn an_unknown_check_is_refused() {
        assert!(Question::About(String::from("nothing")).answer().is_err());
    }
}
