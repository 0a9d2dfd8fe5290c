//! Figures in the formats of other people's dashboards. Pure.

use serde_json::{Map, Value, json};

use super::document::pretty;
use crate::tasks::worker::record::compare::Direction;
use crate::tasks::worker::record::measure::{Export, MEASURES, Measure, MeasureSpec};
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::scenario::ScenarioRecord;

/// JSON of `github-action-benchmark`, tool `customSmallerIsBetter`: a list of name, unit, value and
/// range. A rate is exported as the time that one takes, because in that format less is better.
pub fn github_benchmark(report: &RunReport) -> String {
    let of_scenario = |record: &ScenarioRecord| -> Vec<Value> {
        let entries = exported(record).map(|(spec, export, measure)| {
            let summary = &measure.summary;
            let name = format!("{} {}", record.plan.name, export.github);
            match spec.better {
                Direction::LessIsBetter => {
                    let mut entry = json!({
                        "name": name,
                        "unit": measure.unit,
                        "value": summary.p50,
                        "extra": format!("median of {}", summary.n),
                    });
                    if let Some((low, high)) = summary.p50_interval {
                        entry["range"] = json!(format!("{low} to {high}"));
                    }
                    entry
                }
                Direction::MoreIsBetter => json!({
                    "name": name,
                    "unit": "ms",
                    "value": 1e3 / summary.p50,
                    "extra": format!(
                        "{:.1} {} in {:.1} s",
                        summary.p50,
                        measure.unit,
                        record.window.seconds()
                    ),
                }),
            }
        });
        entries.collect()
    };
    let entries: Vec<Value> = report.scenarios.iter().flat_map(of_scenario).collect();
    pretty(&entries)
}

/// Bencher Metric Format: benchmarks by name, in each the measures by name, in each a value with its
/// lower and upper bound.
pub fn bencher(report: &RunReport) -> String {
    let of_scenario = |record: &ScenarioRecord| {
        let measures = exported(record).map(|(_, export, measure)| {
            let mut value = json!({"value": measure.summary.p50});
            if let Some((low, high)) = measure.summary.p50_interval {
                value["lower_value"] = json!(low);
                value["upper_value"] = json!(high);
            }
            (export.bencher.to_owned(), value)
        });
        (record.plan.name.clone(), Value::Object(measures.collect()))
    };
    let benchmarks: Map<String, Value> = report.scenarios.iter().map(of_scenario).collect();
    pretty(&benchmarks)
}

fn exported(
    record: &ScenarioRecord,
) -> impl Iterator<Item = (&'static MeasureSpec, Export, &Measure)> {
    let rows = MEASURES.iter();
    rows.filter_map(|spec| Some((spec, spec.export?, record.measure(spec.name)?)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::record::bench::{
        Load, Objectives, RequestOutcome, RequestRecord, ScenarioPlan, Window,
    };

    /// A report of one load with one request of two tokens in a second.
    fn measured() -> RunReport {
        let plan = ScenarioPlan {
            name: String::from("sweep_2"),
            load: Load::Closed { streams: 2 },
            prompt_tokens: Some(32),
            max_tokens: 2,
            context_depth: 0,
            turns: 0,
        };
        let window = Window {
            from_ms: 0.0,
            to_ms: 1000.0,
        };
        let request = RequestRecord {
            scenario: plan.name.clone(),
            stream: 0,
            scheduled_ms: None,
            sent_ms: 0.0,
            took_ms: 70.0,
            chunks: vec![(50.0, 1), (60.0, 1)],
            knows_chunks: true,
            prompt_tokens: 32,
            queue_ms: None,
            outcome: RequestOutcome::Valid,
        };
        RunReport {
            scenarios: vec![ScenarioRecord::of(
                plan,
                window,
                &Objectives::default(),
                &[request],
            )],
            ..RunReport::default()
        }
    }

    #[test]
    fn github_gets_a_list_in_which_less_is_better() {
        let list: Value = serde_json::from_str(&github_benchmark(&measured())).unwrap();
        assert_eq!(
            list[0],
            json!({"name": "sweep_2 ttft", "unit": "ms", "value": 50.0, "extra": "median of 1"})
        );
        let last = list.as_array().unwrap().last().unwrap();
        assert_eq!(last["name"], "sweep_2 time per token, all streams");
        assert_eq!(last["value"], 500.0);
    }

    #[test]
    fn bencher_gets_benchmarks_and_their_measures() {
        let metrics: Value = serde_json::from_str(&bencher(&measured())).unwrap();
        assert_eq!(metrics["sweep_2"]["ttft-ms"], json!({"value": 50.0}));
        assert_eq!(metrics["sweep_2"]["tokens-per-s"], json!({"value": 2.0}));
    }

    #[test]
    fn without_figures_both_are_empty() {
        let report = RunReport::default();
        assert_eq!(
            (github_benchmark(&report).trim(), bencher(&report).trim()),
            ("[]", "{}")
        );
    }
}
