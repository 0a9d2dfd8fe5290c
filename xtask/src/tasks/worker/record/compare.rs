//! Two sets of figures side by side: ratios, their intervals, and what may be said of them. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bench::{ScenarioPlan, ScenarioRecord};
use super::measure::Measure;
use super::report::RunReport;
use super::stats::{Confidence, Summary, median_interval};

/// The measures that are compared. E2E follows from them and from how many tokens came.
pub const COMPARED: [&str; 2] = ["ttft", "tpot"];

/// Version of a stored baseline. It rises when a reader of the old one would misread the new one.
pub const BASELINE_VERSION: u32 = 1;

/// One figure before and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Comparison {
    /// The scenario and the measure: "decode tpot".
    pub name: String,
    /// Of both figures.
    pub unit: String,
    /// The median of what it is compared with.
    pub before: f64,
    /// The median of what is tested.
    pub after: f64,
    /// After by before: the median of the pairs' ratios, or the ratio of the medians.
    pub ratio: f64,
    /// A 99 % interval of the ratio; `None` with too few samples.
    pub interval: Option<(f64, f64)>,
    /// Pairs, or samples of the smaller side.
    pub n: usize,
    /// Smaller effects are nobody's business: 0.03 is 3 %.
    pub floor: f64,
    /// What may be said.
    pub judgement: Judgement,
}

/// What may be said of a ratio.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// The interval lies beyond 1 on the good side, and the effect beyond the floor.
    Better,
    /// The interval holds 1, or the effect is below the floor.
    Same,
    /// The interval lies beyond 1 on the bad side, and the effect beyond the floor.
    Worse,
    /// Too few samples to say anything.
    Unclear,
}

/// A benchmark that was kept, to compare later ones with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Baseline {
    /// [`BASELINE_VERSION`] of the writer.
    pub baseline_version: u32,
    /// When its run began, RFC 3339.
    pub started_at: String,
    /// What must be the same for a comparison to mean something.
    pub fingerprint: BTreeMap<String, String>,
    /// Its figures.
    pub scenarios: Vec<BaselineScenario>,
}

/// One scenario of a baseline.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BaselineScenario {
    /// What it was.
    pub plan: ScenarioPlan,
    /// Its measures.
    pub measures: Vec<Measure>,
}

/// Whether larger figures of this unit are the better ones: rates are, times and sizes are not.
pub fn more_is_better(unit: &str) -> bool {
    unit.ends_with("/s")
}

impl Comparison {
    /// Of figures that were taken in pairs, each pair under the same conditions: before, after.
    ///
    /// `None` without pairs, or where a figure isn't positive.
    pub fn of_pairs(name: &str, unit: &str, pairs: &[(f64, f64)], floor: f64) -> Option<Self> {
        if pairs
            .iter()
            .any(|(before, after)| *before <= 0.0 || *after <= 0.0)
        {
            return None;
        }
        let column = |of: fn(&(f64, f64)) -> f64| {
            let figures: Vec<f64> = pairs.iter().map(of).collect();
            Summary::of(&figures)
        };
        let mut ratios: Vec<f64> = pairs.iter().map(|(before, after)| after / before).collect();
        ratios.sort_by(f64::total_cmp);
        let comparison = Comparison {
            name: name.to_owned(),
            unit: unit.to_owned(),
            before: column(|(before, _)| *before)?.p50,
            after: column(|(_, after)| *after)?.p50,
            ratio: Summary::of(&ratios)?.p50,
            interval: median_interval(&ratios, Confidence::P99),
            n: ratios.len(),
            floor,
            judgement: Judgement::Unclear,
        };
        Some(comparison.judged())
    }

    /// Of two sets that have nothing to do with each other.
    ///
    /// The interval goes from the one median's lower end by the other's upper end to the reverse:
    /// wider than need be, so that nothing is called that isn't there.
    pub fn of_medians(
        name: &str,
        unit: &str,
        before: &Summary,
        after: &Summary,
        floor: f64,
    ) -> Option<Self> {
        if before.min <= 0.0 || after.min <= 0.0 {
            return None;
        }
        let intervals = after.p50_interval.zip(before.p50_interval);
        let comparison = Comparison {
            name: name.to_owned(),
            unit: unit.to_owned(),
            before: before.p50,
            after: after.p50,
            ratio: after.p50 / before.p50,
            interval: intervals.map(|(after, before)| (after.0 / before.1, after.1 / before.0)),
            n: before.n.min(after.n),
            floor,
            judgement: Judgement::Unclear,
        };
        Some(comparison.judged())
    }

    fn judged(mut self) -> Self {
        let Some((low, high)) = self.interval else {
            return self;
        };
        let is_less = high < 1.0 && self.ratio < 1.0 - self.floor;
        let is_more = low > 1.0 && self.ratio > 1.0 + self.floor;
        self.judgement = match (is_less, is_more) {
            (false, false) => Judgement::Same,
            (_, is_more) if is_more == more_is_better(&self.unit) => Judgement::Better,
            _ => Judgement::Worse,
        };
        self
    }
}

impl Judgement {
    /// As tables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Judgement::Better => "better",
            Judgement::Same => "same",
            Judgement::Worse => "worse",
            Judgement::Unclear => "unclear",
        }
    }
}

impl Baseline {
    /// What is kept of a run.
    pub fn of(report: &RunReport) -> Baseline {
        let scenario = |record: &ScenarioRecord| BaselineScenario {
            plan: record.plan.clone(),
            measures: record.measures.clone(),
        };
        Baseline {
            baseline_version: BASELINE_VERSION,
            started_at: report
                .run
                .as_ref()
                .map(|run| run.started_at.clone())
                .unwrap_or_default(),
            fingerprint: fingerprint(report),
            scenarios: report.scenarios.iter().map(scenario).collect(),
        }
    }

    /// Why a run can't be compared with this one: each difference that would make the figures mean
    /// something else.
    pub fn differences(&self, report: &RunReport) -> Vec<String> {
        let now = fingerprint(report);
        let names = self.fingerprint.keys().chain(
            now.keys()
                .filter(|name| !self.fingerprint.contains_key(*name)),
        );
        let unknown = String::from("unknown");
        names
            .filter(|name| self.fingerprint.get(*name) != now.get(*name))
            .map(|name| {
                let before = self.fingerprint.get(name).unwrap_or(&unknown);
                let after = now.get(name).unwrap_or(&unknown);
                format!("{name}: {before} there, {after} here")
            })
            .collect()
    }

    /// Each figure that both have.
    pub fn compare(&self, scenarios: &[ScenarioRecord], floor: f64) -> Vec<Comparison> {
        let of_scenario = |record: &ScenarioRecord| -> Vec<Comparison> {
            let same = |kept: &&BaselineScenario| kept.plan == record.plan;
            let Some(kept) = self.scenarios.iter().find(same) else {
                return Vec::new();
            };
            let compare = |wanted: &&str| {
                let before = kept
                    .measures
                    .iter()
                    .find(|measure| measure.name == **wanted)?;
                let after = record.measure(wanted)?;
                let name = format!("{} {wanted}", record.plan.name);
                Comparison::of_medians(&name, &after.unit, &before.summary, &after.summary, floor)
            };
            COMPARED.iter().filter_map(compare).collect()
        };
        scenarios.iter().flat_map(of_scenario).collect()
    }
}

/// Machine, model and build: what figures hang on besides the worker's own code.
fn fingerprint(report: &RunReport) -> BTreeMap<String, String> {
    let mut facts = BTreeMap::new();
    let mut add = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            facts.insert(name.to_owned(), value);
        }
    };
    if let Some(machine) = &report.environment {
        add("machine", machine.host.clone());
        add("system", Some(machine.os.clone()));
        add("architecture", Some(machine.architecture.clone()));
        add("processor", machine.cpu.clone());
        add("cores", machine.cores.map(|cores| cores.to_string()));
        let gpus: Vec<_> = machine.gpus.iter().map(|gpu| gpu.name.clone()).collect();
        add(
            "GPUs",
            Some(gpus.join(", ")).filter(|gpus| !gpus.is_empty()),
        );
    }
    add("model", report.model_sha256.clone());
    if let Some(worker) = &report.worker {
        add(
            "backend",
            Some(format!("{} {}", worker.backend, worker.device)),
        );
        let threads = worker
            .command
            .iter()
            .skip_while(|word| *word != "--threads")
            .nth(1);
        add("threads", threads.cloned());
    }
    let built = report
        .options
        .get("worker-bin")
        .map(|path| match path.as_str() {
            Some(path) => path.to_owned(),
            None => String::from("from this workspace"),
        });
    add("build", built);
    facts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::record::facts::Environment;

    fn pairs(ratio: f64, spread: f64) -> Vec<(f64, f64)> {
        (0..12)
            .map(|i| {
                let noise = 1.0 + spread * (f64::from(i) / 11.0 - 0.5);
                (10.0, 10.0 * ratio * noise)
            })
            .collect()
    }

    fn judged(unit: &str, pairs: &[(f64, f64)]) -> Judgement {
        Comparison::of_pairs("s", unit, pairs, 0.03)
            .unwrap()
            .judgement
    }

    #[test]
    fn a_regression_needs_an_interval_beyond_1_and_an_effect_beyond_the_floor() {
        assert_eq!(judged("ms", &pairs(1.10, 0.05)), Judgement::Worse);
        assert_eq!(judged("tokens/s", &pairs(1.10, 0.05)), Judgement::Better);
        assert_eq!(judged("ms", &pairs(0.90, 0.05)), Judgement::Better);
        assert_eq!(judged("tokens/s", &pairs(0.90, 0.05)), Judgement::Worse);
        // A clear effect that is below the floor, and a large one that isn't clear.
        assert_eq!(judged("ms", &pairs(1.02, 0.01)), Judgement::Same);
        assert_eq!(judged("ms", &pairs(1.05, 0.60)), Judgement::Same);
        assert_eq!(judged("ms", &pairs(1.10, 0.05)[..5]), Judgement::Unclear);
        assert_eq!(Comparison::of_pairs("s", "ms", &[(0.0, 1.0)], 0.03), None);
    }

    #[test]
    fn medians_are_compared_with_care() {
        let summary = |from: f64| {
            let samples: Vec<f64> = (0..20).map(|i| from + f64::from(i) * 0.01).collect();
            Summary::of(&samples).unwrap()
        };
        let compare = |before: f64, after: f64| {
            let (before, after) = (summary(before), summary(after));
            Comparison::of_medians("s", "ms", &before, &after, 0.03).unwrap()
        };
        assert_eq!(compare(10.0, 11.0).judgement, Judgement::Worse);
        assert_eq!(compare(10.0, 10.1).judgement, Judgement::Same);
        let comparison = compare(10.0, 9.0);
        assert_eq!(comparison.judgement, Judgement::Better);
        let (low, high) = comparison.interval.unwrap();
        assert!(low < comparison.ratio && comparison.ratio < high);
    }

    #[test]
    fn another_machine_or_model_is_named() {
        let mut report = RunReport {
            environment: Some(Environment {
                host: Some(String::from("here")),
                cores: Some(2),
                ..Environment::default()
            }),
            model_sha256: Some(String::from("abc")),
            ..RunReport::default()
        };
        let baseline = Baseline::of(&report);
        assert!(baseline.differences(&report).is_empty());
        report.environment.as_mut().unwrap().cores = Some(4);
        report.model_sha256 = None;
        assert_eq!(
            baseline.differences(&report),
            ["cores: 2 there, 4 here", "model: abc there, unknown here"]
        );
    }
}
