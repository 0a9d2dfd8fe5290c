//! A benchmark that was kept under a name, and what later ones are compared with. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::bench::ScenarioPlan;
use super::compare::Comparison;
use super::measure::{Comparable, MEASURES, Measure, MeasureSpec};
use super::report::RunReport;
use super::scenario::ScenarioRecord;

/// Version of a stored baseline. It rises when a reader of the old one would misread the new one.
pub const BASELINE_VERSION: u32 = 1;

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
            let compare = |spec: &MeasureSpec| {
                let mut before = kept.measures.iter();
                let before = before.find(|measure| measure.name == spec.name)?;
                let after = record.measure(spec.name)?;
                let compared = spec.compared_under(&record.plan, floor);
                compared.by_medians(&before.summary, &after.summary)
            };
            let rows = MEASURES.iter();
            rows.filter(|spec| spec.comparable == Comparable::Always)
                .filter_map(compare)
                .collect()
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
        // Not its name: each container of a CI system has a new one.
        add("system", Some(machine.os.clone()));
        add("architecture", Some(machine.architecture.clone()));
        add("processor", machine.cpu.clone());
        add("cores", machine.cores.map(|cores| cores.to_string()));
        // Machines of one kind differ by what their firmware keeps.
        let gibibytes = |bytes: u64| format!("{:.0} GiB", bytes as f64 / f64::from(1 << 30));
        add("memory", machine.memory_bytes.map(gibibytes));
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

    #[test]
    fn another_machine_or_model_is_named() {
        let mut report = RunReport {
            environment: Some(Environment {
                host: Some(String::from("here")),
                cores: Some(2),
                memory_bytes: Some(16 << 30),
                ..Environment::default()
            }),
            model_sha256: Some(String::from("abc")),
            ..RunReport::default()
        };
        let baseline = Baseline::of(&report);
        report.environment.as_mut().unwrap().host = Some(String::from("another container"));
        report.environment.as_mut().unwrap().memory_bytes = Some((16 << 30) - 5_000_000);
        assert!(baseline.differences(&report).is_empty());
        report.environment.as_mut().unwrap().cores = Some(4);
        report.model_sha256 = None;
        assert_eq!(
            baseline.differences(&report),
            ["cores: 2 there, 4 here", "model: abc there, unknown here"]
        );
    }
}
