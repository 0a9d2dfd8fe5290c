//! The figures of a benchmark as rows of words, the same for every report. Pure.

use crate::tasks::worker::record::bench::{Calibration, Load};
use crate::tasks::worker::record::compare::Comparison;
use crate::tasks::worker::record::measure::Measure;
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::scenario::ScenarioRecord;
use crate::tasks::worker::record::stats::Distribution;

/// The columns of the table of loads.
pub const COLUMNS: [&str; 10] = [
    "load", "n", "window", "TTFT ms", "p90", "p99", "TPOT ms", "ITL p99", "E2E ms", "tokens/s",
];

/// The columns of the table of comparisons.
pub const COMPARISON_COLUMNS: [&str; 6] = ["figure", "before", "after", "ratio", "n", "verdict"];

/// How long the longest bar is, in characters.
const BAR: usize = 16;

/// What stands where there is no figure.
const NONE: &str = "-";

/// A row for each load.
pub fn rows(report: &RunReport) -> Vec<[String; 10]> {
    report.scenarios.iter().map(row).collect()
}

fn row(record: &ScenarioRecord) -> [String; 10] {
    let measure = |name: &str| record.measure(name);
    // With an open loop it is the time that was due that counts.
    let ttft = measure("ttft_from_due").or_else(|| measure("ttft"));
    let e2e = measure("e2e_from_due").or_else(|| measure("e2e"));
    let is_prefill = record.plan.max_tokens == 1;
    let rate = match measure("prefill_rate").filter(|_| is_prefill) {
        Some(prefill) => format!("{} in", number(prefill.summary.p50)),
        None => number(record.output_tokens_per_s),
    };
    [
        record.plan.name.clone(),
        record.valid.to_string(),
        format!("{:.1} s", record.window.seconds()),
        median(ttft),
        figure(ttft.map(|measure| measure.summary.p90)),
        figure(ttft.and_then(|measure| measure.summary.p99)),
        median(measure("tpot")),
        figure(measure("itl").and_then(|measure| measure.summary.p99)),
        median(e2e),
        rate,
    ]
}

/// The median with its interval: "12.3 (11.9 to 12.8)".
fn median(measure: Option<&Measure>) -> String {
    let Some(summary) = measure.map(|measure| &measure.summary) else {
        return NONE.to_owned();
    };
    match summary.p50_interval {
        Some((low, high)) => {
            format!(
                "{} ({} to {})",
                number(summary.p50),
                number(low),
                number(high)
            )
        }
        None => number(summary.p50),
    }
}

fn figure(value: Option<f64>) -> String {
    value.map_or(NONE.to_owned(), number)
}

/// With as many digits as mean something.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => String::from("0"),
        size if size < 0.1 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Tokens a second as a bar, against the fastest load; empty for loads that are about prefill.
pub fn bars(report: &RunReport) -> Vec<String> {
    let rate = |record: &ScenarioRecord| match record.plan.max_tokens {
        1 => 0.0,
        _ => record.output_tokens_per_s,
    };
    let most = report.scenarios.iter().map(rate).fold(0.0, f64::max);
    let length = |record: &ScenarioRecord| {
        let share = if most > 0.0 { rate(record) / most } else { 0.0 };
        (share * BAR as f64).round() as usize
    };
    report
        .scenarios
        .iter()
        .map(|record| "█".repeat(length(record)))
        .collect()
}

/// What a reader has to know of the loads besides their figures.
pub fn remarks(report: &RunReport) -> Vec<String> {
    let mut remarks = Vec::new();
    for record in &report.scenarios {
        let name = &record.plan.name;
        if record.failed + record.invalid > 0 {
            remarks.push(format!(
                "{name}: {} requests failed and {} broke a rule; they are in no figure",
                record.failed, record.invalid
            ));
        }
        if let Some(good) = record.goodput_per_s {
            let all = number(record.requests_per_s);
            remarks.push(format!(
                "{name}: goodput {} of {all} requests/s",
                number(good)
            ));
        }
        if let (Load::Open { .. }, Some(late)) = (record.plan.load, &record.late_ms) {
            remarks.push(format!(
                "{name}: figures count from the time that was due; requests were sent {} ms late in \
                 the median, {} ms at most",
                number(late.p50),
                number(late.max)
            ));
        }
    }
    remarks.extend(report.tare.as_ref().map(tare));
    remarks
}

/// The load generator's own error and limits, in a sentence.
pub fn tare(tare: &Calibration) -> String {
    let crowded = tare
        .crowded_error_ms
        .as_ref()
        .map_or(String::new(), |error| {
            format!(
                ", {} ms with {} streams at once",
                number(error.p50),
                tare.streams
            )
        });
    format!(
        "the client's own error: {} ms in the median (n {}){crowded}; it takes up to {:.0} events/s a \
         core",
        number(tare.error_ms.p50),
        tare.error_ms.n,
        tare.events_per_s
    )
}

/// Everything about the load generator's error, as a table.
pub fn calibration_table(tare: &Calibration) -> Vec<String> {
    let row = |name: String, error: &Distribution| {
        let [p50, p90, max] = [error.p50, error.p90, error.max].map(number);
        [name, error.n.to_string(), p50, p90, figure(error.p99), max]
    };
    let alone = row(String::from("1 stream"), &tare.error_ms);
    let crowd = tare.crowded_error_ms.as_ref();
    let crowd = crowd.map(|error| row(format!("{} streams", tare.streams), error));
    let rows: Vec<_> = [alone].into_iter().chain(crowd).collect();
    let mut lines = vec![String::from(
        "By how much a token is seen later than it was sent, in ms:",
    )];
    lines.extend(aligned(["", "n", "p50", "p90", "p99", "max"], &rows));
    lines.push(format!(
        "One reader takes {:.0} events a second.",
        tare.events_per_s
    ));
    lines
}

/// A row for each comparison.
pub fn comparison_rows(report: &RunReport) -> Vec<[String; 6]> {
    report.comparisons.iter().map(comparison_row).collect()
}

fn comparison_row(comparison: &Comparison) -> [String; 6] {
    let interval = comparison.interval.map_or(String::new(), |(low, high)| {
        format!(" ({low:.3} to {high:.3})")
    });
    [
        comparison.name.clone(),
        format!("{} {}", number(comparison.before), comparison.unit),
        format!("{} {}", number(comparison.after), comparison.unit),
        format!("{:.3}{interval}", comparison.ratio),
        comparison.n.to_string(),
        comparison.judgement.as_str().to_owned(),
    ]
}

/// A table of text: the first column to the left, the others to the right.
pub fn aligned<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells
            .chain([head[column].chars().count()])
            .max()
            .unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let line = |cells: Vec<&str>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(at, (cell, &width))| {
                if at == 0 {
                    format!("{cell:<width$}")
                } else {
                    format!("{cell:>width$}")
                }
            });
        padded.collect::<Vec<_>>().join("  ")
    };
    let body = rows
        .iter()
        .map(|row| line(row.iter().map(String::as_str).collect()));
    [line(head.to_vec())].into_iter().chain(body).collect()
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::tasks::worker::record::bench::{
        Objectives, RequestOutcome, RequestRecord, ScenarioPlan, Window,
    };

    /// A report of one load with one request of two tokens in a second.
    pub fn measured() -> RunReport {
        let plan = ScenarioPlan {
            name: String::from("sweep_2"),
            load: Load::Closed { streams: 2 },
            prompt_tokens: Some(32),
            max_tokens: 2,
        };
        let window = Window {
            from_ms: 0.0,
            to_ms: 1000.0,
        };
        let request = RequestRecord {
            scenario: plan.name.clone(),
            stream: 0,
            scheduled_ms: None,
            sent_ms: 0.0,
            took_ms: 70.0,
            chunks: vec![(50.0, 1), (60.0, 1)],
            prompt_tokens: 32,
            outcome: RequestOutcome::Valid,
        };
        RunReport {
            scenarios: vec![ScenarioRecord::of(
                plan,
                window,
                &Objectives::default(),
                &[request],
            )],
            ..RunReport::default()
        }
    }

    #[test]
    fn a_load_is_a_row_and_its_rate_a_bar() {
        let report = measured();
        let expected = [
            "sweep_2", "1", "1.0 s", "50.0", "50.0", "-", "10.0", "-", "70.0", "2.00",
        ];
        assert_eq!(rows(&report)[0], expected.map(str::to_owned));
        assert_eq!(bars(&report), ["█".repeat(16)]);
    }

    #[test]
    fn numbers_have_as_many_digits_as_mean_something() {
        let shown = [0.0, 0.0123, 1.234, 12.34, 123.4, 1234.5].map(number);
        assert_eq!(shown, ["0", "0.012", "1.23", "12.3", "123.4", "1234"]);
    }

    #[test]
    fn tables_are_aligned() {
        let rows = [["a", "1"], ["bcd", "22"]].map(|row| row.map(str::to_owned));
        assert_eq!(
            aligned(["x", "n"], &rows),
            ["x     n", "a     1", "bcd  22"]
        );
    }
}
