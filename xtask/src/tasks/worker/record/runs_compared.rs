//! Two recorded runs side by side: checks that changed, figures with their ratio, and what was
//! different around them. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::compare::{Compared, Comparison};
use super::event::{CheckStatus, CheckSummary};
use super::facts::Environment;
use super::measure::{self, Measure};
use super::report::RunReport;

/// Smaller effects don't count: runs of another hour differ by as much.
const FLOOR: f64 = 0.05;

/// What differs from one run to the other.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunsCompared {
    /// The names of both runs.
    pub runs: [String; 2],
    /// Checks that changed, or are in one run only.
    pub checks: Vec<ChangedCheck>,
    /// How many checks ended alike.
    pub alike: usize,
    /// Every figure that both runs have.
    pub figures: Vec<Comparison>,
    /// What was different around them.
    pub surroundings: Vec<ChangedSurrounding>,
}

/// A check that changed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangedCheck {
    /// Its stable name.
    pub id: String,
    /// How it ended in each run; `None` where it wasn't planned.
    pub outcomes: [Option<CheckStatus>; 2],
    /// What was seen where it isn't green.
    pub evidence: Option<String>,
}

/// Something around the runs that was different.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangedSurrounding {
    /// "processor", "--backend".
    pub name: String,
    /// What it was in each run.
    pub values: [Option<String>; 2],
}

impl RunsCompared {
    /// What differs.
    pub fn of(before: &RunReport, after: &RunReport) -> Self {
        let checks = [before.check_summaries(), after.check_summaries()];
        let changed = changed(&checks);
        let name = |report: &RunReport| {
            let run = report.run.as_ref();
            run.map_or_else(|| String::from("?"), |run| run.run_id.clone())
        };
        let both = checks[0].iter();
        let both = both.filter(|check| find(&checks[1], &check.id).is_some());
        let both_ways = changed
            .iter()
            .filter(|check| check.outcomes.iter().all(Option::is_some));
        Self {
            runs: [name(before), name(after)],
            alike: both.count() - both_ways.count(),
            checks: changed,
            figures: figures(before, after),
            surroundings: differences(&surroundings(before), &surroundings(after)),
        }
    }

    /// Whether nothing differs that a reader has to know of.
    pub fn is_same(&self) -> bool {
        use super::compare::Change;
        let is_other =
            |figure: &Comparison| matches!(figure.judgement, Change::Better | Change::Worse);
        self.checks.is_empty() && !self.figures.iter().any(is_other)
    }
}

fn find<'c>(checks: &'c [CheckSummary], id: &str) -> Option<&'c CheckSummary> {
    checks.iter().find(|check| check.id == id)
}

/// In the order of the second run, then what only the first one has.
fn changed([before, after]: &[Vec<CheckSummary>; 2]) -> Vec<ChangedCheck> {
    let gone = before
        .iter()
        .filter(|check| find(after, &check.id).is_none());
    let ids = after.iter().chain(gone).map(|check| check.id.as_str());
    let changed = ids.filter_map(|id| {
        let both = [find(before, id), find(after, id)];
        let outcomes = both.map(|check| check.map(|check| check.outcome));
        let evidence = both
            .iter()
            .rev()
            .flatten()
            .find_map(|check| check.evidence());
        (outcomes[0] != outcomes[1]).then(|| ChangedCheck {
            id: id.to_owned(),
            outcomes,
            evidence,
        })
    });
    changed.collect()
}

/// Measures of the whole run and of each load, by what they are measured under.
fn measures(report: &RunReport) -> Vec<(String, Measure)> {
    let of_run = report.measures().into_iter();
    let of_run = of_run.map(|measure| (measure.name.clone(), measure));
    let of_loads = report.scenarios.iter().flat_map(|scenario| {
        let name = &scenario.plan.name;
        let measures = scenario.measures.iter();
        measures.map(move |measure| (format!("{name} {}", measure.name), measure.clone()))
    });
    of_run.chain(of_loads).collect()
}

fn figures(before: &RunReport, after: &RunReport) -> Vec<Comparison> {
    let known: BTreeMap<String, Measure> = measures(before).into_iter().collect();
    let compare = |(name, measure): (String, Measure)| {
        let earlier = known.get(&name)?;
        let spec = measure::spec(&measure.name)?;
        let compared = Compared {
            name,
            unit: spec.unit,
            better: spec.better,
            floor: FLOOR,
        };
        compared.by_medians(&earlier.summary, &measure.summary)
    };
    measures(after).into_iter().filter_map(compare).collect()
}

/// What a run's verdicts and figures depend on, each by its name.
fn surroundings(report: &RunReport) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut add = |name: &str, value: Option<String>| {
        facts.extend(value.map(|value| (name.to_owned(), value)));
    };
    let model = report.model.as_ref();
    add("model", model.map(|model| model.path.clone()));
    add("model's hash", report.model_sha256.clone());
    if let Some(machine) = &report.environment {
        add("host", machine.host.clone());
        add("system", Some(machine.os.clone()));
        add("kernel", machine.kernel.clone());
        add("processor", machine.cpu.clone());
        add("cores", machine.cores.map(|cores| cores.to_string()));
        add(
            "memory",
            machine.memory_bytes.map(|bytes| bytes.to_string()),
        );
        add("xtask", Some(machine.xtask.clone()));
        add("rustc", machine.rustc.clone());
        add("revision", machine.git_revision.clone());
        add(
            "uncommitted changes",
            machine.git_dirty.map(|is| is.to_string()),
        );
        let gpus: Vec<_> = machine.gpus.iter().map(|gpu| gpu.name.clone()).collect();
        add("GPUs", (!gpus.is_empty()).then(|| gpus.join(", ")));
    }
    // Names that each run invents say nothing.
    let options = report.options.iter();
    let options = options.filter(|(name, value)| *name != "worker-id" && !value.is_null());
    for (name, value) in options {
        let shown = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        let is_set = value.as_array().is_none_or(|all| !all.is_empty());
        add(
            &format!("--{name}"),
            (is_set && *value != Value::Null).then_some(shown),
        );
    }
    facts
}

/// What was different about the machine of a run.
pub fn machines(report: &RunReport, here: Environment) -> Vec<ChangedSurrounding> {
    let of = |environment| RunReport {
        environment,
        ..RunReport::default()
    };
    let there = of(report.environment.clone());
    differences(&surroundings(&there), &surroundings(&of(Some(here))))
}

fn differences(
    before: &BTreeMap<String, String>,
    after: &BTreeMap<String, String>,
) -> Vec<ChangedSurrounding> {
    let mut names: Vec<&String> = before.keys().chain(after.keys()).collect();
    names.sort();
    names.dedup();
    let difference = |name: &String| {
        let values = [before.get(name).cloned(), after.get(name).cloned()];
        (values[0] != values[1]).then(|| ChangedSurrounding {
            name: name.clone(),
            values,
        })
    };
    names.into_iter().filter_map(difference).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::record::compare::Change;
    use crate::tasks::worker::record::replay;

    const RED: &str = include_str!("../../../../tests/fixtures/failed-run/events.jsonl");
    const BENCHMARK: &str = include_str!("../../../../tests/fixtures/benchmark/events.jsonl");

    fn of(before: &str, after: &str) -> RunsCompared {
        let [before, after] = [before, after].map(|text| replay::fold(text.lines()).unwrap());
        RunsCompared::of(&before, &after)
    }

    #[test]
    fn a_run_differs_in_nothing_from_itself() {
        for recording in [RED, BENCHMARK] {
            let same = of(recording, recording);
            assert!(same.is_same(), "{same:?}");
            assert_eq!(same.surroundings, []);
            assert!(same.alike > 0 && !same.figures.is_empty());
            assert!(same.figures.iter().all(|figure| figure.ratio == 1.0));
        }
    }

    #[test]
    fn what_was_repaired_and_what_is_around_it_is_told() {
        let mut repaired = String::new();
        for line in RED.lines() {
            let line = line.replace("AMD EPYC", "Another CPU");
            let is_broken =
                line.contains("\"check_finished\"") && line.contains("inference.answers");
            repaired += &match is_broken {
                true => String::from(
                    r#"{"elapsed_ms":900,"event":"check_finished","id":"inference.answers","outcome":"passed","duration_ms":1,"detail":null}"#,
                ),
                false => line,
            };
            repaired.push('\n');
        }
        let compared = of(RED, &repaired);
        let [check] = &compared.checks[..] else {
            panic!("{:?}", compared.checks);
        };
        assert_eq!(check.id, "inference.answers");
        assert_eq!(
            check.outcomes,
            [Some(CheckStatus::Failed), Some(CheckStatus::Passed)]
        );
        assert!(
            check
                .evidence
                .as_ref()
                .is_some_and(|seen| seen.contains("some text"))
        );
        let names: Vec<_> = compared
            .surroundings
            .iter()
            .map(|d| d.name.as_str())
            .collect();
        assert_eq!(names, ["processor"]);
        assert!(!compared.is_same());
    }

    #[test]
    fn figures_of_a_slower_run_have_a_ratio_with_its_interval() {
        let samples = |scale: f64| {
            let samples: Vec<f64> = (0..40)
                .map(|n| scale * (10.0 + f64::from(n) * 0.01))
                .collect();
            crate::tasks::worker::record::stats::Distribution::of(&samples).unwrap()
        };
        let report = |scale: f64| {
            let mut report = replay::fold(BENCHMARK.lines()).unwrap();
            for measure in &mut report.scenarios[0].measures {
                measure.summary = samples(scale);
            }
            report
        };
        let compared = RunsCompared::of(&report(1.0), &report(2.0));
        let ttft = compared
            .figures
            .iter()
            .find(|figure| figure.name.ends_with(" ttft"));
        let ttft = ttft.unwrap();
        assert!((ttft.ratio - 2.0).abs() < 1e-9 && ttft.interval.is_some());
        assert_eq!(ttft.judgement, Change::Worse);
    }
}
