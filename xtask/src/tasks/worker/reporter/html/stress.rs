//! Several workers under load: two tables. Pure.

use std::fmt::Write;

use super::bench::table;
use super::text;
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::reporter::stress::{COLUMNS, TREND_COLUMNS, remarks, rows, trend_rows};

/// The section; nothing where there were not several workers.
pub fn section(page: &mut String, report: &RunReport) {
    let workers = rows(report);
    if workers.is_empty() {
        return;
    }
    page.push_str("<section id=\"stress\">\n<h2>Workers under load</h2>\n");
    table(page, COLUMNS, &workers);
    let trends = trend_rows(report);
    if !trends.is_empty() {
        table(page, TREND_COLUMNS, &trends);
    }
    page.push_str("<ul class=\"muted\">\n");
    for remark in remarks(report) {
        let _ = writeln!(page, "<li>{}</li>", text(&remark));
    }
    page.push_str("</ul>\n</section>\n");
}
