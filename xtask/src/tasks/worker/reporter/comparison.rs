//! The page of two runs side by side. Pure.

use super::page::{Block, ReportPage, Section, Shown, Table, Tone};
use super::run::comparison_rows;
use super::words::{self, NO_FIGURE};
use crate::tasks::worker::record::compare::Change;
use crate::tasks::worker::record::runs_compared::{ChangedCheck, ChangedSurrounding, RunsCompared};

/// The sections, in their order. One that has nothing to say isn't there.
const SECTIONS: &[fn(&RunsCompared) -> Option<Section>] = &[checks, figures, surroundings];

/// The whole page.
pub fn page(compared: &RunsCompared) -> ReportPage {
    let [before, after] = &compared.runs;
    let judged = |change| {
        let figures = compared.figures.iter();
        figures.filter(|figure| figure.judgement == change).count()
    };
    let (verdict, tone) = match compared.is_same() {
        true => ("ALIKE", Tone::Good),
        false => ("DIFFERENT", Tone::Unclear),
    };
    let lead = format!(
        "{} checks changed and {} didn't; of {} figures, {} are better and {} worse; {} differences in the environment.",
        compared.checks.len(),
        compared.alike,
        compared.figures.len(),
        judged(Change::Better),
        judged(Change::Worse),
        compared.surroundings.len()
    );
    ReportPage {
        heading: String::from("Two worker runs"),
        verdict: verdict.to_owned(),
        tone,
        last_line: format!("{} {verdict}: {lead}", tone.symbol()),
        lead,
        next: None,
        run_id: format!("{before} and {after}"),
        started_at: None,
        duration_ms: None,
        artifacts: None,
        alerts: Vec::new(),
        facts: vec![("Before", before.clone()), ("After", after.clone())],
        columns: Vec::new(),
        causes: Vec::new(),
        checks: Vec::new(),
        sections: SECTIONS
            .iter()
            .filter_map(|section| section(compared))
            .collect(),
        footer: None,
    }
}

/// A text of several lines, such as a reason and what to try, as a cell shows it.
fn cell(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    words::shortened(&words::one_line(&lines.join("; ")))
}

fn section(id: &'static str, title: &'static str, table: Table) -> Option<Section> {
    (!table.rows.is_empty()).then(|| Section {
        id,
        title,
        aside: String::new(),
        shown: Shown::Everywhere,
        blocks: vec![Block::Table(table)],
    })
}

fn checks(compared: &RunsCompared) -> Option<Section> {
    let mut table = Table::new(["check", "before", "after", "seen"], usize::MAX);
    let row = |check: &ChangedCheck| {
        let [before, after] = check.outcomes.map(|outcome| match outcome {
            Some(outcome) => outcome.as_str().replace('_', " "),
            None => NO_FIGURE.to_owned(),
        });
        let seen = check.evidence.as_deref().unwrap_or_default();
        vec![check.id.clone(), before, after, cell(seen)]
    };
    table.rows = compared.checks.iter().map(row).collect();
    section("changed", "Checks that changed", table)
}

fn figures(compared: &RunsCompared) -> Option<Section> {
    section("figures", "Figures", comparison_rows(&compared.figures))
}

fn surroundings(compared: &RunsCompared) -> Option<Section> {
    let mut table = Table::new(["", "before", "after"], usize::MAX);
    let row = |difference: &ChangedSurrounding| {
        let [before, after] = difference.values.clone();
        let shown = |value: Option<String>| {
            let value = value.unwrap_or_else(|| NO_FIGURE.to_owned());
            cell(&value)
        };
        vec![difference.name.clone(), shown(before), shown(after)]
    };
    table.rows = compared.surroundings.iter().map(row).collect();
    section("surroundings", "What differs in the environment", table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::record::replay;
    use crate::tasks::worker::record::report::RunReport;
    use crate::tasks::worker::reporter::markdown;

    const RED: &str = include_str!("../../../../tests/fixtures/failed-run/events.jsonl");

    #[test]
    fn what_differs_fits_into_cells_of_every_format() {
        let before = replay::fold(RED.lines()).unwrap();
        let mut compared = RunsCompared::of(&before, &RunReport::default());
        compared.checks[0].evidence = Some(String::from("no answer\n  try: a longer --timeout"));
        let page = page(&compared);
        let markdown = markdown::render(&page);
        assert!(
            markdown.contains("no answer; try: a longer --timeout"),
            "{markdown}"
        );
    }
}
