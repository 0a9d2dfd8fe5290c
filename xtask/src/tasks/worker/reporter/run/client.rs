//! How exact the load generator was that took the figures. Pure.

use crate::tasks::worker::record::bench::{CalibratedLoad, Calibration};
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::scenario::ScenarioRecord;
use crate::tasks::worker::record::stats::Distribution;
use crate::tasks::worker::reporter::page::{Block, Section, Shown, Table};
use crate::tasks::worker::reporter::words::{self, NO_FIGURE, number};

/// A row for each load: what of it was reached, and how late its tokens were seen.
pub fn section(report: &RunReport) -> Option<Section> {
    let head = [
        "load",
        "reached",
        "coalesced",
        "error p50 ms",
        "p99",
        "calibrated at",
        "reached",
        "coalesced",
        "error p50 ms",
        "p99",
    ];
    let mut table = Table::new(head, 1);
    table.rows = report.scenarios.iter().map(row).collect();
    let said = "Reached: the share of the load that was asked for. Coalesced: tokens that shared a read \
                with another. Error: how late a token of known timing is seen, in a stream beside the \
                load, and at the load's own rate against a server that sends each token alone.";
    (!table.rows.is_empty()).then(|| Section {
        id: "client",
        title: "Load generator",
        aside: String::new(),
        shown: Shown::Everywhere,
        blocks: vec![Block::Table(table), Block::Remarks(vec![said.to_owned()])],
    })
}

fn row(record: &ScenarioRecord) -> Vec<String> {
    let client = &record.client;
    let beside = [
        record.plan.name.clone(),
        share(record.reached),
        share(record.coalesced),
    ];
    let beside = beside.into_iter().chain(error(client.error_ms.as_ref()));
    let calibrated = client.calibrated.as_ref();
    let at = [
        calibrated.map_or(NO_FIGURE.to_owned(), name),
        share(calibrated.map(|load| load.reached)),
        share(calibrated.map(|load| load.coalesced)),
    ];
    let error = error(calibrated.map(|load| &load.error_ms));
    beside.chain(at).chain(error).collect()
}

fn name(load: &CalibratedLoad) -> String {
    format!("{} x {} ms", load.streams, number(load.gap_ms))
}

fn share(share: Option<f64>) -> String {
    share.map_or(NO_FIGURE.to_owned(), |share| {
        format!("{} %", number(share * 100.0))
    })
}

/// Median and p99.
fn error(error: Option<&Distribution>) -> [String; 2] {
    let p99 = error.and_then(|error| error.p99);
    [
        words::figure(error.map(|error| error.p50)),
        words::figure(p99),
    ]
}

/// The load generator's own error and limits, in a sentence.
pub fn in_short(calibration: &Calibration) -> String {
    let crowded = calibration.crowded_error_ms.as_ref();
    let crowded = crowded.map_or(String::new(), |error| {
        format!(
            ", {} ms with {} concurrent streams",
            number(error.p50),
            calibration.streams
        )
    });
    format!(
        "client calibration: median error {} ms (n {}){crowded}; one reader handles {:.0} events/s per \
         core",
        number(calibration.error_ms.p50),
        calibration.error_ms.n,
        calibration.events_per_s
    )
}

/// Everything about the load generator's error, as lines of text.
pub fn calibration(calibration: &Calibration, loads: &[CalibratedLoad]) -> Vec<String> {
    let head = [
        "streams x gap",
        "n",
        "p50",
        "p90",
        "p99",
        "max",
        "coalesced",
        "reached",
    ];
    let mut table = Table::new(head, 1);
    let row = |load: &CalibratedLoad| {
        let error = &load.error_ms;
        vec![
            name(load),
            error.n.to_string(),
            number(error.p50),
            number(error.p90),
            words::figure(error.p99),
            number(error.max),
            share(Some(load.coalesced)),
            share(Some(load.reached)),
        ]
    };
    table.rows = loads.iter().map(row).collect();
    let mut lines = vec![String::from(
        "Delay between sending a token and its time stamp, in ms:",
    )];
    lines.extend(table.aligned());
    lines.push(format!(
        "One reader handles {:.0} events a second.",
        calibration.events_per_s
    ));
    lines
}
