//! How a measure is distributed under each load: which share of its samples is up to which value. Pure.

use std::fmt::Write;

use super::{Drawing, WIDTH, logarithmic_values};
use crate::tasks::worker::record::measure::MeasureSpec;
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::reporter::words::{markup as text, number};

/// Margins and heights, in units of [`WIDTH`].
const LEFT: f64 = 60.0;
const RIGHT: f64 = 170.0;
const TOP: f64 = 12.0;
const CHART: f64 = 240.0;

/// More loads than the style has colours for would be hard to tell apart.
const LOADS_DRAWN: usize = 8;

/// One line a load; `None` where no load has enough samples.
pub fn draw(report: &RunReport, spec: &MeasureSpec) -> Option<Drawing> {
    // Of one request alone there is no distribution.
    let loads = report.scenarios.iter().filter(|record| record.valid > 1);
    // A load has its colour in every drawing, also where another has no such measure.
    let curves = loads
        .take(LOADS_DRAWN)
        .enumerate()
        .filter_map(|(colour, record)| {
            let measure = record.measure(spec.name)?;
            let quantiles = &measure.quantiles;
            let name = record.plan.name.as_str();
            (quantiles.len() > 1).then_some((colour, name, measure.summary.n, quantiles))
        });
    let curves: Vec<_> = curves.collect();
    let values = || {
        curves
            .iter()
            .flat_map(|(.., quantiles)| quantiles.iter().copied())
    };
    // Tokens of one read have no time between them, and a logarithm has no zero.
    let low = values()
        .filter(|value| *value > 0.0)
        .fold(f64::MAX, f64::min);
    let high = values().fold(0.0, f64::max);
    if curves.is_empty() || high <= low {
        return None;
    }
    let x = |value: f64| {
        let share = (value.max(low) / low).ln() / (high / low).ln();
        LEFT + share * (WIDTH - LEFT - RIGHT)
    };
    let bottom = TOP + CHART;
    let y = |share: f64| bottom - share * CHART;
    let mut svg = String::new();
    for share in [0.0, 0.25, 0.5, 0.75, 0.9, 1.0] {
        let at = y(share);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/><text class=\"peak\" x=\"8\" y=\"{:.1}\">{:.0} %</text>",
            WIDTH - RIGHT,
            at + 4.0,
            share * 100.0
        );
    }
    for tick in logarithmic_values(low, high) {
        let at = x(tick);
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom:.1}\"/><text class=\"tick\" x=\"{at:.1}\" y=\"{:.1}\">{} {}</text>",
            bottom + 16.0,
            number(tick),
            spec.unit
        );
    }
    for (at, (colour, name, n, quantiles)) in curves.iter().enumerate() {
        let last = (quantiles.len() - 1) as f64;
        let mut line = String::new();
        for (rank, value) in quantiles.iter().enumerate() {
            let _ = write!(line, "{:.1},{:.1} ", x(*value), y(rank as f64 / last));
        }
        let label = TOP + 14.0 + 18.0 * at as f64;
        let _ = writeln!(
            svg,
            "<g><title>{name}: n {n}</title><polyline class=\"curve load{colour}\" points=\"{line}\"/><line class=\"curve load{colour}\" x1=\"{:.1}\" x2=\"{:.1}\" y1=\"{:.1}\" y2=\"{:.1}\"/><text class=\"peak\" x=\"{:.1}\" y=\"{label:.1}\">{name} (n {n})</text></g>",
            WIDTH - RIGHT + 12.0,
            WIDTH - RIGHT + 30.0,
            label - 4.0,
            label - 4.0,
            WIDTH - RIGHT + 36.0,
            name = text(name),
        );
    }
    Some(Drawing {
        id: format!("ecdf-{}", spec.name),
        caption: format!(
            "{} of each load: which share of the samples is up to which value, on a logarithmic axis",
            spec.title
        ),
        height: bottom + 26.0,
        svg,
        legend: &[],
    })
}
