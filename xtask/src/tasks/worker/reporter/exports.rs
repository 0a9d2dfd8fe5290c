//! Figures in the formats of other people's dashboards. Pure.

use serde_json::{Map, Value, json};

use crate::tasks::worker::record::measure::Measure;
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::record::scenario::ScenarioRecord;

/// What is exported of each load. The rest follows from it.
const EXPORTED: [&str; 4] = ["ttft", "tpot", "itl", "e2e"];

/// JSON of `github-action-benchmark`, tool `customSmallerIsBetter`: a list of name, unit, value and
/// range. Throughput is told as the time a token takes, because in that format less is better.
pub fn github_benchmark(report: &RunReport) -> String {
    let of_scenario = |record: &ScenarioRecord| -> Vec<Value> {
        let name = |measure: &str| format!("{} {measure}", record.plan.name);
        let entry = |measure: &Measure| {
            let summary = &measure.summary;
            let mut entry = json!({
                "name": name(&measure.name),
                "unit": measure.unit,
                "value": summary.p50,
                "extra": format!("median of {}", summary.n),
            });
            if let Some((low, high)) = summary.p50_interval {
                entry["range"] = json!(format!("{low} to {high}"));
            }
            entry
        };
        let mut entries: Vec<Value> = exported(record).map(entry).collect();
        if let Some(rate) = throughput(record) {
            entries.push(json!({
                "name": name("time per token, all streams"),
                "unit": "ms",
                "value": 1e3 / rate,
                "extra": format!("{rate:.1} tokens/s in {:.1} s", record.window.seconds()),
            }));
        }
        entries
    };
    let entries: Vec<Value> = report.scenarios.iter().flat_map(of_scenario).collect();
    pretty(&Value::Array(entries))
}

/// Bencher Metric Format: benchmarks by name, in each the measures by name, in each a value with its
/// lower and upper bound.
pub fn bencher(report: &RunReport) -> String {
    let of_scenario = |record: &ScenarioRecord| {
        let mut measures = Map::new();
        for measure in exported(record) {
            let mut value = json!({"value": measure.summary.p50});
            if let Some((low, high)) = measure.summary.p50_interval {
                value["lower_value"] = json!(low);
                value["upper_value"] = json!(high);
            }
            measures.insert(format!("{}-{}", measure.name, measure.unit), value);
        }
        if let Some(rate) = throughput(record) {
            measures.insert(String::from("tokens-per-s"), json!({"value": rate}));
        }
        (record.plan.name.clone(), Value::Object(measures))
    };
    let benchmarks: Map<String, Value> = report.scenarios.iter().map(of_scenario).collect();
    pretty(&Value::Object(benchmarks))
}

fn exported(record: &ScenarioRecord) -> impl Iterator<Item = &Measure> {
    EXPORTED.iter().filter_map(|name| record.measure(name))
}

/// Tokens a second, where the load is about that.
fn throughput(record: &ScenarioRecord) -> Option<f64> {
    let rate = record.output_tokens_per_s;
    (record.plan.max_tokens > 1 && rate > 0.0).then_some(rate)
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tasks::worker::reporter::bench::tests::measured;

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
