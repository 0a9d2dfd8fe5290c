//! The page's smaller sections: measures, streamed text, heartbeats, log, surroundings. Pure.

use std::fmt::Write;

use super::text;
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::timeline::RequestSpan;
use crate::tasks::worker::reporter::words;

/// More heartbeats than these are counted and not shown.
const HEARTBEATS_SHOWN: usize = 200;

/// How much of a log is shown: a page has to open from a mail.
const LOG_BYTES: usize = 256 << 10;

/// One request, folded.
pub fn request(page: &mut String, request: &RequestSpan) {
    let came = match (request.status, &request.cause) {
        (Some(status), _) => status.to_string(),
        (None, Some(cause)) => cause.clone(),
        (None, None) => String::from("no answer"),
    };
    let took = request.duration_ms.map(words::duration).unwrap_or_default();
    let class = match (request.status, request.left) {
        (Some(_), _) => "",
        (None, true) => " left",
        (None, false) => " bad",
    };
    let _ = write!(
        page,
        "<details class=\"request\"><summary><code>{}</code> <span class=\"status{class}\">{}</span> <span class=\"muted\">{took}</span></summary>\n<dl class=\"pairs\">",
        text(&request.request),
        text(&came)
    );
    let mut pair = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            let _ = write!(page, "<dt>{name}</dt><dd>{}</dd>", text(&value));
        }
    };
    pair("asked of", request.companion.clone());
    pair("sent at", Some(words::duration(request.sent_ms)));
    if let Some(phases) = request.phases {
        pair("queue", Some(words::duration(phases.queue_ms)));
        pair("prefill", Some(words::duration(phases.prefill_ms)));
        pair("decode", Some(words::duration(phases.decode_ms)));
    }
    if request.tokens > 0 {
        pair("tokens", Some(request.tokens.to_string()));
        pair("first token", request.first_token_ms.map(words::duration));
        pair("between tokens", request.token_gap_ms.map(words::duration));
    }
    page.push_str("</dl>\n");
    if let Some(body) = &request.body {
        let _ = writeln!(page, "<pre>{}</pre>", text(body));
    }
    page.push_str("</details>\n");
}

/// Every measure, with its unit and the number of its samples.
pub fn measures(page: &mut String, report: &RunReport) {
    let measures = report.measures();
    if measures.is_empty() {
        return;
    }
    page.push_str(
        "<section id=\"measures\">\n<h2>Measures</h2>\n<div class=\"scroll\"><table class=\"figures\">\n<thead><tr><th>Measure</th><th>Unit</th><th class=\"number\">n</th><th class=\"number\">min</th><th class=\"number\">median</th><th class=\"number\">p95</th><th class=\"number\">max</th></tr></thead>\n<tbody>\n",
    );
    for measure in measures {
        let summary = &measure.summary;
        let _ = write!(
            page,
            "<tr><td>{}</td><td>{}</td><td class=\"number\">{}</td>",
            text(&measure.name.replace('_', " ")),
            text(&measure.unit),
            summary.n
        );
        for value in [summary.min, summary.p50, summary.p95, summary.max] {
            let _ = write!(page, "<td class=\"number\">{}</td>", words::figure(value));
        }
        page.push_str("</tr>\n");
    }
    page.push_str("</tbody>\n</table></div>\n</section>\n");
}

/// What was streamed, by the check that asked for it.
pub fn streams(page: &mut String, report: &RunReport) {
    if report.timeline.texts.is_empty() {
        return;
    }
    page.push_str("<section id=\"streams\">\n<h2>Streamed text</h2>\n");
    for (id, streamed) in &report.timeline.texts {
        let _ = writeln!(
            page,
            "<figure><blockquote>{}</blockquote><figcaption><code>{}</code></figcaption></figure>",
            text(streamed),
            text(id)
        );
    }
    page.push_str("</section>\n");
}

/// Each heartbeat, and how late it was.
pub fn heartbeats(page: &mut String, report: &RunReport) {
    if report.heartbeats.is_empty() {
        return;
    }
    let count = report.heartbeats.len() as u64 + report.heartbeats_left_out;
    let _ = write!(
        page,
        "<section id=\"heartbeats\">\n<details class=\"fold\"><summary><h2>Heartbeats</h2> <span class=\"muted\">{count}</span></summary>\n<div class=\"scroll\"><table class=\"figures\">\n<thead><tr><th class=\"number\">#</th><th>State</th><th class=\"number\">Arrived</th><th class=\"number\">Late by</th><th>Answered</th></tr></thead>\n<tbody>\n",
    );
    for (beat, late_ms) in report
        .heartbeat_lateness()
        .into_iter()
        .take(HEARTBEATS_SHOWN)
    {
        let state = beat.body.get("state").and_then(|state| state.as_str());
        let answered = beat
            .answered
            .map_or(String::from("nothing"), |status| status.to_string());
        let _ = writeln!(
            page,
            "<tr><td class=\"number\">{}</td><td>{}</td><td class=\"number\">{}</td><td class=\"number\">{}</td><td>{answered}</td></tr>",
            beat.number,
            text(state.unwrap_or("unreadable")),
            words::duration(beat.arrived_ms),
            late_ms.map_or(String::from("–"), words::duration),
        );
    }
    page.push_str("</tbody>\n</table></div>\n");
    let more = count.saturating_sub(HEARTBEATS_SHOWN as u64);
    if more > 0 {
        let _ = writeln!(page, "<p class=\"muted\">and {more} more</p>");
    }
    page.push_str("</details>\n</section>\n");
}

/// The end of the worker's log, each line with its level.
pub fn log(page: &mut String, report: &RunReport) {
    let evidence = &report.worker_evidence;
    let lines = if evidence.is_empty() {
        &report.worker_log
    } else {
        evidence
    };
    if lines.is_empty() {
        return;
    }
    // The end tells more than the begin, so what doesn't fit goes from the top.
    let mut room = LOG_BYTES;
    let kept = lines.iter().rev().take_while(|line| {
        let fits = room > line.len();
        room = room.saturating_sub(line.len() + 1);
        fits
    });
    let kept = kept.count();
    let _ = writeln!(
        page,
        "<section id=\"log\">\n<h2>Worker log <span class=\"muted\">last {kept} lines</span></h2>\n<pre class=\"log\">"
    );
    for line in &lines[lines.len() - kept..] {
        let level = level(line);
        let _ = writeln!(page, "<span class=\"{level}\">{}</span>", text(line));
    }
    page.push_str("</pre>\n</section>\n");
}

/// "error", "warn", "info", "debug", or "plain" where a line names none.
fn level(line: &str) -> &'static str {
    const LEVELS: [(&str, &str); 5] = [
        ("ERROR", "error"),
        ("WARN", "warn"),
        ("INFO", "info"),
        ("DEBUG", "debug"),
        ("TRACE", "debug"),
    ];
    let begin: String = line
        .trim_start()
        .chars()
        .take(80)
        .collect::<String>()
        .to_uppercase();
    let is_object = begin.starts_with('{');
    let found = LEVELS.iter().find(|(name, _)| {
        let begin = begin.trim_start_matches('[');
        begin.starts_with(name) || (is_object && begin.contains(&format!("\"{name}\"")))
    });
    found.map_or("plain", |(_, class)| class)
}

/// Machine, model, worker, options.
pub fn surroundings(page: &mut String, report: &RunReport) {
    let mut rows: Vec<(&str, String)> = Vec::new();
    if let Some(machine) = &report.environment {
        let mut row = |name, value: Option<String>| rows.extend(value.map(|value| (name, value)));
        row("system", Some(machine.os.clone()));
        row("kernel", machine.kernel.clone());
        row("processor", machine.cpu.clone());
        row("cores", machine.cores.map(|cores| cores.to_string()));
        let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
        row("memory", machine.memory_bytes.map(gigabytes));
        for gpu in &machine.gpus {
            let said = format!("{} · {} · driver {}", gpu.name, gpu.memory, gpu.driver);
            row("GPU", Some(said));
        }
        row("xtask", Some(machine.xtask.clone()));
        row("rustc", machine.rustc.clone());
        let dirty = if machine.git_dirty == Some(true) {
            " with changes"
        } else {
            ""
        };
        let revision = machine.git_revision.as_ref();
        row(
            "revision",
            revision.map(|revision| format!("{revision}{dirty}")),
        );
    }
    if let Some(model) = &report.model {
        rows.push(("model", model.path.clone()));
        rows.push(("model_ref", model.model_ref.clone()));
        let size_mb = model.size_bytes as f64 / 1e6;
        rows.push((
            "kind",
            format!(
                "{} · {} · {size_mb:.1} MB",
                model.architecture, model.quantisation
            ),
        ));
        rows.extend(report.model_sha256.clone().map(|hash| ("sha256", hash)));
    }
    if let Some(worker) = &report.worker {
        rows.push(("command", worker.command.join(" ")));
    }
    for (name, value) in &report.options {
        if !value.is_null() {
            let shown = value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned);
            rows.push(("option", format!("--{name} {shown}")));
        }
    }
    rows.extend(report.notes.iter().map(|note| ("note", note.clone())));
    page.push_str(
        "<section id=\"surroundings\">\n<details class=\"fold\"><summary><h2>Machine, model, options</h2></summary>\n<dl class=\"pairs\">\n",
    );
    for (name, value) in rows {
        let _ = writeln!(page, "<dt>{name}</dt><dd>{}</dd>", text(&value));
    }
    page.push_str("</dl>\n</details>\n</section>\n");
    if let Some(run) = &report.run {
        let _ = writeln!(
            page,
            "<footer>Run {} · schema {} · files in {}</footer>",
            text(&run.run_id),
            run.schema_version,
            text(&run.artifacts)
        );
    }
}

#[cfg(test)]
mod tests {
    use super::level;

    #[test]
    fn levels_are_found_where_a_line_begins() {
        assert_eq!(level("[WARN] the hive is silent"), "warn");
        assert_eq!(level("INFO no error here"), "info");
        assert_eq!(level(r#"{"level":"error","message":"x"}"#), "error");
        assert_eq!(level("thread panicked"), "plain");
    }
}
