//! `--known-failures`: checks that are known to fail, each with the reason. Pure.

use anyhow::{Context, Result, bail, ensure};

use crate::tasks::worker::plan;
use crate::tasks::worker::record::check::CheckInfo;
use crate::tasks::worker::record::event::PlannedCheck;

/// Checks that may fail, and have to be taken off the list once they pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KnownFailures {
    /// Each check's name, and why it fails.
    reasons: Vec<(String, String)>,
}

impl KnownFailures {
    /// Reads `ID REASON` a line; empty lines and lines that begin with `#` say nothing.
    pub fn parse(text: &str, rows: &[&'static CheckInfo]) -> Result<Self> {
        let mut known = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if !line.is_empty() && !line.starts_with('#') {
                let added = known.add(line, rows);
                added.with_context(|| format!("line {number}"))?;
            }
        }
        Ok(known)
    }

    fn add(&mut self, line: &str, rows: &[&'static CheckInfo]) -> Result<()> {
        let (id, reason) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
        let reason = reason.trim();
        plan::find(rows, id)?;
        ensure!(
            !reason.is_empty(),
            "{id} has no reason\n  try: {id} WHY IT FAILS"
        );
        if self.reasons.iter().any(|(known, _)| known == id) {
            bail!("{id} is listed twice");
        }
        self.reasons.push((id.to_owned(), reason.to_owned()));
        Ok(())
    }

    /// Notes in a plan what is known of its checks.
    pub fn mark(&self, planned: &mut [PlannedCheck]) {
        for check in planned {
            let found = self.reasons.iter().find(|(id, _)| *id == check.id);
            check.known_failure = found.map(|(_, reason)| reason.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::record::check::Phase;
    use crate::tasks::worker::record::event::Suite;

    const ROW: &CheckInfo = &CheckInfo::row("bench.sweep_*", Suite::Benchmark, Phase::Benchmark);

    #[test]
    fn a_line_is_a_check_and_a_reason() {
        let known = KnownFailures::parse("# ours\n\n bench.sweep_4 \t it is slow \n", &[ROW]);
        let mut planned = [ROW.planned_for("4"), ROW.planned_for("8")];
        known.unwrap().mark(&mut planned);
        assert_eq!(planned[0].known_failure.as_deref(), Some("it is slow"));
        assert_eq!(planned[1].known_failure, None);
    }

    #[test]
    fn a_list_that_says_less_or_more_is_refused_with_its_line() {
        for (text, part) in [
            (
                "\nbench.swep_4 slow",
                "line 2: there is no check bench.swep_4",
            ),
            ("bench.sweep_4", "line 1: bench.sweep_4 has no reason"),
            (
                "bench.sweep_4 a\nbench.sweep_4 b",
                "line 2: bench.sweep_4 is listed twice",
            ),
        ] {
            let error = format!("{:#}", KnownFailures::parse(text, &[ROW]).unwrap_err());
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
