//! `repro.sh`: the worker's exact command line and the requests as `curl` lines. Pure.

use std::fmt::Write;

use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::timeline::RequestSpan;
use crate::tasks::worker::reporter::words::shell_word;

/// How long a request may take; a worker that hangs must not keep its reader.
const LIMIT_S: u32 = 600;

/// Waits for the worker, as long as it lives and not for ever.
const AWAIT: &str = r#"left=600
until curl --noproxy '*' -fs -m 5 URL; do
  kill -0 "$worker" 2>/dev/null || { wait "$worker"; echo "the worker ended with $?" >&2; exit 1; }
  left=$((left - 1))
  [ "$left" -gt 0 ] || { echo 'the worker did not answer in a minute' >&2; exit 1; }
  sleep 0.1
done"#;

/// The whole script.
pub fn render(report: &RunReport) -> String {
    let mut script = String::from(
        "#!/bin/sh\n# Repeats the run by hand: the first part starts the worker, the second sends the requests.\n",
    );
    if let Some(run) = &report.run {
        let _ = writeln!(
            script,
            "# Run {} of {}",
            one_line(&run.run_id),
            one_line(&run.started_at)
        );
    }
    match &report.worker {
        Some(worker) if worker.command.is_empty() => {
            let _ = writeln!(
                script,
                "\n# The server was already running, on port {}.",
                worker.port
            );
        }
        Some(worker) => {
            let words: Vec<_> = worker.command.iter().map(|word| shell_word(word)).collect();
            let _ = writeln!(
                script,
                "\n# Heartbeats go to {}; without a listener there the worker must keep working.\n{} &\nworker=$!\ntrap 'kill \"$worker\"' EXIT",
                one_line(&worker.hive_url),
                words.join(" ")
            );
            // Whatever was answered once tells when the worker is up.
            let mut requests = report.timeline.requests.iter();
            let answered = requests
                .find(|r| r.status == Some(200) && r.body.is_none() && r.auxiliary.is_none());
            if let Some(request) = answered {
                let url = shell_word(&request.url);
                let _ = writeln!(script, "{}", AWAIT.replace("URL", &url));
            }
        }
        None => script.push_str("\n# The run ended before a worker was started.\n"),
    }
    let mut check = "";
    for request in &report.timeline.requests {
        if request.id != check {
            check = &request.id;
            let _ = writeln!(script, "\n# {}", one_line(check));
        }
        let _ = writeln!(script, "{}", curl(request));
    }
    if report.timeline.requests_left_out > 0 {
        let left_out = report.timeline.requests_left_out;
        let _ = writeln!(script, "# and {left_out} more requests");
    }
    script
}

fn curl(request: &RequestSpan) -> String {
    let method = request.request.split(' ').next().unwrap_or("GET");
    let came = match (request.status, &request.cause) {
        (Some(status), _) => format!("{status}"),
        (None, Some(cause)) => one_line(cause),
        (None, None) => String::from("no answer yet"),
    };
    if request.url.is_empty() {
        return format!("# {} was answered with {came}", one_line(&request.request));
    }
    if let Some(auxiliary) = &request.auxiliary {
        let (request, auxiliary) = (one_line(&request.request), one_line(auxiliary));
        return format!("# {request} to another worker, {auxiliary}: {came}");
    }
    let mut line = format!(
        "curl --noproxy '*' -sS -i -N -m {LIMIT_S} -X {} {}",
        shell_word(method),
        shell_word(&request.url)
    );
    if let Some(content_type) = &request.content_type {
        let _ = write!(
            line,
            " -H {}",
            shell_word(&format!("Content-Type: {content_type}"))
        );
    }
    match &request.body {
        Some(body) if body.contains('\u{fffd}') || body.ends_with("bytes cut)") => {
            let _ = write!(
                line,
                " --data-binary {}  # body shortened or not text",
                shell_word(body)
            );
        }
        Some(body) => {
            let _ = write!(line, " --data-binary {}", shell_word(body));
        }
        None => {}
    }
    format!("{line}  # {came}")
}

/// A comment ends with its line, so nothing in it may begin another.
fn one_line(text: &str) -> String {
    text.replace(|c: char| c.is_control(), " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_cannot_become_a_command() {
        assert_eq!(one_line("x\nrm -rf /"), "x rm -rf /");
    }
}
