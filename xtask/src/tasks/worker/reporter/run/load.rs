//! What was measured under load, and beside what. Pure.

use super::client;
use crate::tasks::worker::record::bench::Load;
use crate::tasks::worker::record::compare::Comparison;
use crate::tasks::worker::record::measure::{MEASURES, Measure, MeasureSpec, Statistic};
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::scenario::ScenarioRecord;
use crate::tasks::worker::record::stats::Distribution;
use crate::tasks::worker::record::steady;
use crate::tasks::worker::reporter::drawing::load;
use crate::tasks::worker::reporter::page::{Block, Section, Shown, Table};
use crate::tasks::worker::reporter::words::{self, NO_FIGURE, number};

/// The measure that starts are summed up in.
const STARTS: &str = "time_to_ready";

/// A row for each load, with the columns that the table of measures asks for.
pub fn figures(report: &RunReport) -> Option<Section> {
    if report.scenarios.is_empty() {
        return None;
    }
    let columns = MEASURES.iter().flat_map(|spec| spec.columns);
    let names = columns.map(|(name, _)| *name);
    let mut table = Table::new(["load", "n", "window"].into_iter().chain(names), 1);
    table.rows = report.scenarios.iter().map(row).collect();
    let rates = report.scenarios.iter().map(throughput);
    let most = rates.clone().fold(f64::MIN_POSITIVE, f64::max);
    table.bars = rates.map(|rate| rate / most).collect();
    let mut blocks = vec![Block::Table(table), Block::Remarks(remarks(report))];
    blocks.extend(load::draw(report).into_iter().map(Block::Drawing));
    Some(Section {
        id: "figures",
        title: "Figures",
        aside: String::new(),
        shown: Shown::Everywhere,
        blocks,
    })
}

/// How long the starts took that a benchmark measured.
pub fn starts(report: &RunReport) -> Option<Section> {
    let measures = report.measures();
    let measure = measures.iter().find(|found| found.name == STARTS)?;
    let Distribution { n, min, max, .. } = measure.summary;
    let mut table = Table::new(["starts", "median ms", "min", "p90", "max"], 0);
    let [median, p90] =
        [Statistic::Median, Statistic::P90].map(|which| shown(Some(measure), which));
    table.rows = vec![vec![n.to_string(), median, number(min), p90, number(max)]];
    (!report.starts_ms.is_empty()).then(|| Section {
        id: "starts",
        title: "Time to ready",
        aside: String::new(),
        shown: Shown::Everywhere,
        blocks: vec![Block::Table(table)],
    })
}

/// How requests arrive, where that doesn't depend on answers.
fn arrivals(load: Load) -> Option<String> {
    match load {
        Load::Closed { .. } => None,
        Load::Open {
            rate_per_s,
            burstiness: 1.0,
            ..
        } => Some(format!("as a Poisson process at {}/s", number(rate_per_s))),
        Load::Open {
            rate_per_s,
            burstiness,
            ..
        } => Some(format!(
            "at {}/s with burstiness {}",
            number(rate_per_s),
            number(burstiness)
        )),
        Load::Trace { .. } => Some(String::from("when the trace says so")),
    }
}

fn row(record: &ScenarioRecord) -> Vec<String> {
    let window = format!("{:.1} s", record.window.seconds());
    let figures = MEASURES.iter().flat_map(|spec| {
        let measure = judged_by(record, spec);
        let cell = move |(_, statistic): &(_, _)| shown(measure, *statistic);
        spec.columns.iter().map(cell)
    });
    [record.plan.name.clone(), record.valid.to_string(), window]
        .into_iter()
        .chain(figures)
        .collect()
}

/// Under an open loop a time counts from the intended start.
fn judged_by<'r>(record: &'r ScenarioRecord, spec: &MeasureSpec) -> Option<&'r Measure> {
    let from_intended_start = spec.from_intended_start;
    let measure = from_intended_start.and_then(|name| record.measure(name));
    measure.or_else(|| record.measure(spec.name))
}

fn shown(measure: Option<&Measure>, statistic: Statistic) -> String {
    let Some(summary) = measure.map(|measure| &measure.summary) else {
        return NO_FIGURE.to_owned();
    };
    match (statistic, summary.p50_interval) {
        (Statistic::Median, Some((low, high))) => {
            format!(
                "{} ({} to {})",
                number(summary.p50),
                number(low),
                number(high)
            )
        }
        (Statistic::Median, None) => number(summary.p50),
        (Statistic::P90, _) => number(summary.p90),
        (Statistic::P99, _) => words::figure(summary.p99),
    }
}

/// 0 for loads that are about prefill.
fn throughput(record: &ScenarioRecord) -> f64 {
    match record.plan.max_tokens {
        1 => 0.0,
        _ => record.output_tokens_per_s,
    }
}

fn remarks(report: &RunReport) -> Vec<String> {
    let mut remarks = vec![String::from(
        "Medians with 95 % intervals; p99 needs at least 100 samples; n counts valid requests.",
    )];
    for record in &report.scenarios {
        let name = &record.plan.name;
        if record.failed + record.invalid > 0 {
            remarks.push(format!(
                "{name}: {} requests failed and {} broke a rule; no figure includes them",
                record.failed, record.invalid
            ));
        }
        if record.broken_outside > 0 {
            remarks.push(format!(
                "{name}: {} requests failed or broke a rule outside the window",
                record.broken_outside
            ));
        }
        if let Some(drift) = record.drift.filter(|drift| steady::is_missing(*drift)) {
            let (way, percent) = if drift > 0.0 {
                ("rose", drift)
            } else {
                ("fell", -drift)
            };
            remarks.push(format!(
                "{name}: no steady state: tokens/s {way} by {} % over the window",
                number(percent * 100.0)
            ));
        }
        if let Some(good) = record.goodput_per_s {
            remarks.push(format!(
                "{name}: goodput {} of {} requests/s",
                number(good),
                number(record.requests_per_s)
            ));
        }
        if let (Some(arrivals), Some(late)) = (arrivals(record.plan.load), &record.late_ms) {
            remarks.push(format!(
                "{name}: requests arrive {arrivals}; times count from the intended \
                 start; median lateness {} ms, max lateness {} ms",
                number(late.p50),
                number(late.max)
            ));
        }
    }
    remarks.extend(report.calibration.as_ref().map(client::in_short));
    remarks
}

/// A row for each figure that was compared.
pub fn comparison(report: &RunReport) -> Option<Section> {
    let table = comparison_rows(&report.comparisons);
    (!table.rows.is_empty()).then(|| Section {
        id: "comparison",
        title: "Comparison",
        aside: String::new(),
        shown: Shown::Everywhere,
        blocks: vec![Block::Table(table)],
    })
}

/// A row a figure, with its ratio and the interval of that.
pub fn comparison_rows(comparisons: &[Comparison]) -> Table {
    let head = ["figure", "before", "after", "ratio", "n", "verdict"];
    let mut table = Table::new(head, 1);
    table.rows = comparisons.iter().map(comparison_row).collect();
    table
}

fn comparison_row(comparison: &Comparison) -> Vec<String> {
    let interval = comparison.interval.map_or(String::new(), |(low, high)| {
        format!(" ({low:.3} to {high:.3})")
    });
    vec![
        comparison.name.clone(),
        format!("{} {}", number(comparison.before), comparison.unit),
        format!("{} {}", number(comparison.after), comparison.unit),
        format!("{:.3}{interval}", comparison.ratio),
        comparison.n.to_string(),
        comparison.judgement.as_str().to_owned(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn starts_have_a_section_where_they_were_measured() {
        let mut report = RunReport::default();
        assert!(starts(&report).is_none());
        report.starts_ms = vec![30.0, 10.0, 12.0];
        let section = starts(&report).unwrap();
        let [Block::Table(table)] = section.blocks.as_slice() else {
            panic!("it is no table");
        };
        assert_eq!(table.rows, [["3", "12.0", "10.0", "30.0", "30.0"]]);
    }
}
