//! The page of many runs side by side. Pure.

use super::page::{
    Alert, AlertKind, Block, CheckRow, Column, Fact, ReportPage, Section, Shown, Table, Tone, known,
};
use super::words::{self, NO_FIGURE, number};
use crate::tasks::worker::record::matrix::agreement::{AGREEMENT_FLOOR_PERCENT, Agreement};
use crate::tasks::worker::record::matrix::summary::{RunSummary, SummaryVerdict};
use crate::tasks::worker::record::matrix::{Matrix, MatrixRow, MeasureRow};

/// The sections, in their order. One that has nothing to say isn't there.
const SECTIONS: &[fn(&Matrix) -> Option<Section>] = &[checks_section, measures, runs];

/// The whole page.
pub fn page(matrix: &Matrix) -> ReportPage {
    let verdict = matrix.verdict.as_str().to_ascii_uppercase();
    let lead = lead(matrix);
    let run = matrix.run.as_ref();
    ReportPage {
        heading: String::from("Worker test, all columns"),
        last_line: last_line(matrix.verdict, &lead),
        next: None,
        verdict,
        tone: tone(matrix.verdict),
        lead,
        run_id: run.map_or(String::new(), |run| run.run_id.clone()),
        started_at: run.map(|run| run.started_at.clone()),
        duration_ms: matrix.duration_ms,
        artifacts: run.map(|run| run.artifacts.clone()),
        alerts: alerts(matrix),
        facts: Vec::new(),
        columns: matrix
            .named()
            .map(|(name, run)| column(name, run))
            .collect(),
        causes: Vec::new(),
        checks: checks(matrix),
        sections: SECTIONS
            .iter()
            .filter_map(|section| section(matrix))
            .collect(),
        footer: run.map(|run| format!("Run {} · files in {}", run.run_id, run.artifacts)),
    }
}

fn tone(verdict: SummaryVerdict) -> Tone {
    match verdict {
        SummaryVerdict::Passed => Tone::Good,
        SummaryVerdict::Failed => Tone::Bad,
        SummaryVerdict::Invalid | SummaryVerdict::Interrupted => Tone::Unclear,
        SummaryVerdict::Skipped => Tone::Neutral,
    }
}

/// A sentence that says which columns came to what.
fn lead(matrix: &Matrix) -> String {
    let verdicts = [
        (SummaryVerdict::Passed, "passed"),
        (SummaryVerdict::Failed, "failed"),
        (SummaryVerdict::Invalid, "could not be judged"),
        (SummaryVerdict::Interrupted, "was interrupted"),
        (SummaryVerdict::Skipped, "skipped"),
    ];
    let parts = verdicts.iter().filter_map(|(verdict, words)| {
        let those = matrix.named().filter(|(_, run)| run.verdict == *verdict);
        let names: Vec<&str> = those.map(|(name, _)| name).collect();
        (!names.is_empty()).then(|| format!("{}: {words}", names.join(", ")))
    });
    parts.collect::<Vec<_>>().join("; ") + "."
}

fn last_line(verdict: SummaryVerdict, lead: &str) -> String {
    match verdict {
        SummaryVerdict::Passed => {
            format!("✅ Backend matrix complete - ALL TESTS PASSED! {lead}")
        }
        SummaryVerdict::Failed => format!("❌ Backend matrix complete - FAILED. {lead}"),
        SummaryVerdict::Interrupted => format!("⚠️ Backend matrix interrupted. {lead}"),
        SummaryVerdict::Invalid | SummaryVerdict::Skipped => {
            format!("⚠️ Backend matrix could not be judged. {lead}")
        }
    }
}

fn column(name: &str, run: &RunSummary) -> Column {
    Column {
        name: Some(name.to_owned()),
        verdict: run.verdict.as_str(),
        tone: tone(run.verdict),
        is_skipped: !run.ran(),
        properties: facts(run),
        log: Vec::new(),
    }
}

fn checks(matrix: &Matrix) -> Vec<CheckRow> {
    let row = |row: &MatrixRow| CheckRow {
        id: row.id.clone(),
        promise: row.promise.clone(),
        cells: matrix
            .columns
            .iter()
            .map(|run| run.check(&row.id).cloned())
            .collect(),
        requests: Vec::new(),
        requests_left_out: 0,
    };
    matrix.rows.iter().map(row).collect()
}

/// Everything besides the checks that keeps a column from being green.
fn alerts(matrix: &Matrix) -> Vec<Alert> {
    let mut alerts = Vec::new();
    let mut add = |column, kind, text: &str| {
        alerts.push(Alert {
            kind,
            column,
            text: text.to_owned(),
        });
    };
    for trouble in &matrix.troubles {
        add(None, AlertKind::Trouble, trouble);
    }
    for (index, run) in matrix.columns.iter().enumerate() {
        let column = Some(index);
        if let Some(reason) = &run.reason {
            let kind = match run.verdict {
                SummaryVerdict::Skipped if !run.required => AlertKind::Skipped,
                _ => AlertKind::NoReport,
            };
            add(column, kind, reason);
        }
        for trouble in &run.troubles {
            add(column, AlertKind::Trouble, trouble);
        }
        for survivor in &run.survivors {
            add(column, AlertKind::LeftBehind, survivor);
        }
        if let Some(signal) = run.interrupted_by {
            add(
                column,
                AlertKind::Interrupted,
                &format!("by {}", words::signal_name(signal)),
            );
        }
    }
    for found in &matrix.agreement {
        let kind = match (found.is_broken(), found.is_judged()) {
            (true, _) => AlertKind::Disagreement,
            (false, true) => AlertKind::Agreement,
            (false, false) => AlertKind::UnclearAgreement,
        };
        add(Some(found.column), kind, &agreement(matrix, found));
    }
    alerts
}

/// "agrees with cpu at 96 of 96 positions (100.0 %)", and the first at which they differ.
fn agreement(matrix: &Matrix, found: &Agreement) -> String {
    let mut text = format!(
        "agrees with {} at {} of {} positions ({:.1} %)",
        matrix.names[found.teacher],
        found.agreed,
        found.positions,
        found.percent()
    );
    if found.is_broken() {
        text += &format!(", which is less than {AGREEMENT_FLOOR_PERCENT} %");
    } else if !found.is_judged() {
        text += ", which are too few to judge by";
    }
    if let Some(difference) = &found.first_difference {
        let shown = |text: &Option<String>| match text {
            Some(text) => format!("`{text}`"),
            None => String::from("the end"),
        };
        text += &format!(
            "; the first difference is after `{}`: {} there, {} here",
            difference.after,
            shown(&difference.teacher),
            shown(&difference.got)
        );
    }
    text
}

fn checks_section(matrix: &Matrix) -> Option<Section> {
    (!matrix.columns.is_empty()).then(|| Section {
        id: "checks",
        title: "Backend Matrix",
        aside: String::new(),
        shown: Shown::Everywhere,
        blocks: vec![Block::Checks],
    })
}

fn measures(matrix: &Matrix) -> Option<Section> {
    let names = matrix.names.iter().map(String::as_str);
    let mut table = Table::new(["measure"].into_iter().chain(names), 1);
    table.rows = matrix.measures.iter().map(measure_row).collect();
    (!table.rows.is_empty()).then(|| Section {
        id: "measures",
        title: "Medians",
        aside: String::from("and how many samples"),
        shown: Shown::Everywhere,
        blocks: vec![Block::Table(table)],
    })
}

fn measure_row(measure: &MeasureRow) -> Vec<String> {
    let figures = measure.figures.iter().map(|figure| match figure {
        Some(figure) => format!("{} (n {})", number(figure.p50), figure.n),
        None => NO_FIGURE.to_owned(),
    });
    let name = format!("{} ({})", measure.name, measure.unit);
    [name].into_iter().chain(figures).collect()
}

fn runs(matrix: &Matrix) -> Option<Section> {
    let blocks = matrix.named().map(|(name, run)| Block::Facts {
        of: Some(name.to_owned()),
        facts: facts(run),
    });
    Some(Section {
        id: "runs",
        title: "Runs",
        aside: String::new(),
        shown: Shown::OnPages,
        blocks: blocks.collect(),
    })
}

/// What is known of a run besides its checks.
fn facts(run: &RunSummary) -> Vec<Fact> {
    let machine = run.environment.as_ref();
    let gpus = machine.map(|machine| {
        let names = machine.gpus.iter().map(|gpu| gpu.name.as_str());
        names.collect::<Vec<_>>().join(", ")
    });
    let model = run.model.as_ref().map(|model| {
        let quantisation = model.quantisation.as_deref().unwrap_or_default();
        format!("{} {quantisation}", model.model_ref)
            .trim()
            .to_owned()
    });
    known([
        ("machine", run.machine.clone()),
        ("system", machine.map(|machine| machine.os.clone())),
        ("processor", machine.and_then(|machine| machine.cpu.clone())),
        ("GPU", gpus.filter(|gpus| !gpus.is_empty())),
        ("model", model),
        ("started", run.started_at.as_deref().map(words::moment)),
        (
            "whole run",
            run.duration_ms.map(|ms| words::duration(ms as f64)),
        ),
        ("exit code", run.exit_code.map(|code| code.to_string())),
        ("evidence", run.artifacts.clone()),
    ])
}
