//! The figures of a benchmark for people at a terminal. Pure.

use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::reporter::bench::{
    COLUMNS, COMPARISON_COLUMNS, aligned, bars, comparison_rows, remarks, rows,
};

/// The lines; none where nothing was measured.
pub fn lines(report: &RunReport) -> Vec<String> {
    let mut lines = Vec::new();
    let rows = rows(report);
    if !rows.is_empty() {
        lines.push(String::from("\n📈 Figures"));
        lines.push(String::from("=================================="));
        let table = aligned(COLUMNS, &rows);
        let bars = [String::new()].into_iter().chain(bars(report));
        lines.extend(table.iter().zip(bars).map(|(row, bar)| {
            let line = format!("{row}  {bar}");
            line.trim_end().to_owned()
        }));
        lines.push(String::from(
            "   medians with 95 % intervals; p99 from 100 samples on; n: valid requests",
        ));
        lines.extend(remarks(report).iter().map(|remark| format!("   {remark}")));
    }
    let compared = comparison_rows(report);
    if !compared.is_empty() {
        lines.push(String::from("\n⚖️ Comparison"));
        lines.push(String::from("=================================="));
        lines.extend(aligned(COMPARISON_COLUMNS, &compared));
    }
    lines
}
