//! Everything that is measured, as a table. Pure.
//!
//! A measure is one row: reports, exports, comparisons, baselines and matrices iterate over the table.
//! The definitions are those of ARCHITECTURE.md, "Measures".

mod inputs;

use serde::{Deserialize, Deserializer, Serialize};

pub use self::inputs::{LoadResults, RunFacts};
use super::bench::{RequestRecord, ScenarioPlan};
use super::compare::{Compared, Direction};
use super::stats::{Distribution, quantiles};

/// A measure that was taken.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    /// Stable name.
    #[serde(deserialize_with = "current_name")]
    pub name: String,
    /// "ms", "MB", "tokens/s", "%".
    pub unit: String,
    /// The samples' distribution; `n` is in it.
    #[serde(flatten)]
    pub summary: Distribution,
    /// From the smallest sample to the largest, a hundredth of them apart; only of measures whose
    /// distribution is drawn.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quantiles: Vec<f64>,
}

/// A row of the table.
#[derive(Debug)]
pub struct MeasureSpec {
    /// Stable name. Renaming it breaks stored baselines and other people's dashboards.
    pub name: &'static str,
    /// What figures call it.
    pub title: &'static str,
    /// "ms", "MB", "tokens/s", "%".
    pub unit: &'static str,
    /// Which way is the better one.
    pub better: Direction,
    /// How it is computed.
    pub source: MeasureSource,
    /// The name of the same measure from a request's intended start, which is what counts under an
    /// open loop; only for times that begin when a request is sent.
    pub from_intended_start: Option<&'static str>,
    /// Its columns in the table of loads.
    pub columns: &'static [(&'static str, Statistic)],
    /// Whether it is compared with another worker or with a baseline, and what it is called there.
    pub comparable: Comparable,
    /// What other people's dashboards call it.
    pub export: Option<Export>,
    /// Whether its spread is drawn, load by load.
    pub is_drawn: bool,
    /// Whether its whole distribution is.
    pub has_curve: bool,
}

/// How a measure is computed. What gives no samples isn't measured.
#[derive(Debug, Clone, Copy)]
pub enum MeasureSource {
    /// Samples of each valid request that was sent inside the window of a load.
    Request(fn(&RequestRecord) -> Vec<f64>),
    /// A rate over the whole window of a load.
    Window(fn(&LoadResults<'_>) -> Option<f64>),
    /// Samples of a whole run.
    Run(fn(&RunFacts<'_>) -> Vec<f64>),
}

/// What a column shows of a distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Statistic {
    /// With its interval.
    Median,
    /// The 90th percentile.
    P90,
    /// The 99th percentile.
    P99,
}

/// How a measure is compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparable {
    /// Never: it follows from others, or says nothing about a worker.
    Not,
    /// Only in pairs of runs: a rate has no interval of its own.
    InPairs,
    /// In pairs, and by the medians of two runs.
    Always,
}

/// What other people's dashboards call a measure.
#[derive(Debug, Clone, Copy)]
pub struct Export {
    /// In Bencher Metric Format.
    pub bencher: &'static str,
    /// For `github-action-benchmark`, where less is better: a rate is exported as the time that one
    /// takes, in ms.
    pub github: &'static str,
}

/// What a row has unless it says otherwise.
const ROW: MeasureSpec = MeasureSpec {
    name: "",
    title: "",
    unit: "ms",
    better: Direction::LessIsBetter,
    source: MeasureSource::Run(|_| Vec::new()),
    from_intended_start: None,
    columns: &[],
    comparable: Comparable::Not,
    export: None,
    is_drawn: false,
    has_curve: false,
};

/// Every measure.
pub const MEASURES: &[MeasureSpec] = &[
    MeasureSpec {
        name: "ttft",
        title: "Time to first token",
        source: MeasureSource::Request(|request| request.ttft_ms().into_iter().collect()),
        from_intended_start: Some("ttft_from_intended_start"),
        columns: &[
            ("TTFT ms", Statistic::Median),
            ("p90", Statistic::P90),
            ("p99", Statistic::P99),
        ],
        comparable: Comparable::Always,
        export: Some(Export {
            bencher: "ttft-ms",
            github: "ttft",
        }),
        is_drawn: true,
        has_curve: true,
        ..ROW
    },
    MeasureSpec {
        name: "tpot",
        title: "Time per output token",
        source: MeasureSource::Request(|request| request.tpot_ms().into_iter().collect()),
        columns: &[("TPOT ms", Statistic::Median)],
        comparable: Comparable::Always,
        export: Some(Export {
            bencher: "tpot-ms",
            github: "tpot",
        }),
        is_drawn: true,
        ..ROW
    },
    MeasureSpec {
        name: "itl",
        title: "Inter-token latency",
        source: MeasureSource::Request(|request| request.itl_ms().collect()),
        columns: &[("ITL p99", Statistic::P99)],
        export: Some(Export {
            bencher: "itl-ms",
            github: "itl",
        }),
        has_curve: true,
        ..ROW
    },
    MeasureSpec {
        name: "e2e",
        title: "End-to-end latency",
        source: MeasureSource::Request(|request| vec![request.took_ms]),
        from_intended_start: Some("e2e_from_intended_start"),
        columns: &[("E2E ms", Statistic::Median)],
        export: Some(Export {
            bencher: "e2e-ms",
            github: "e2e",
        }),
        is_drawn: true,
        ..ROW
    },
    MeasureSpec {
        name: "end_delay",
        title: "Last token to end event",
        source: MeasureSource::Request(|request| {
            let last = request.chunks.last();
            last.map(|(at, _)| request.took_ms - at)
                .into_iter()
                .collect()
        }),
        is_drawn: true,
        ..ROW
    },
    MeasureSpec {
        name: "tokens",
        title: "Output tokens per request",
        unit: "tokens",
        better: Direction::MoreIsBetter,
        source: MeasureSource::Request(|request| vec![request.tokens() as f64]),
        ..ROW
    },
    MeasureSpec {
        name: "prefill_rate",
        title: "Prefill rate",
        unit: "tokens/s",
        better: Direction::MoreIsBetter,
        source: MeasureSource::Request(|request| {
            request.prefill_tokens_per_s().into_iter().collect()
        }),
        columns: &[("prefill tokens/s", Statistic::Median)],
        ..ROW
    },
    MeasureSpec {
        name: OUTPUT_THROUGHPUT,
        title: "Output throughput",
        unit: "tokens/s",
        better: Direction::MoreIsBetter,
        source: MeasureSource::Window(|load| {
            // With one token per answer it would be the rate of prefill, which TTFT tells.
            let rate = load.output_tokens_per_s();
            (load.plan.max_tokens > 1 && rate > 0.0).then_some(rate)
        }),
        columns: &[("tokens/s", Statistic::Median)],
        comparable: Comparable::InPairs,
        export: Some(Export {
            bencher: "tokens-per-s",
            github: "time per token, all streams",
        }),
        ..ROW
    },
    MeasureSpec {
        name: "time_to_ready",
        title: "Time to ready",
        source: MeasureSource::Run(|run| {
            let own = run.ready_ms.map(|ms| ms as f64);
            own.into_iter()
                .chain(run.starts_ms.iter().copied())
                .collect()
        }),
        ..ROW
    },
    MeasureSpec {
        name: "get_duration",
        title: "GET duration",
        source: MeasureSource::Run(|run| run.durations("GET ")),
        ..ROW
    },
    MeasureSpec {
        name: "state_under_load",
        title: "Health and readiness under load",
        source: MeasureSource::Run(|run| run.durations_within("load.", "GET ")),
        ..ROW
    },
    MeasureSpec {
        name: "stop_after_leave",
        title: "Leave to end of generation",
        source: MeasureSource::Run(|run| run.stops_ms.to_vec()),
        ..ROW
    },
    MeasureSpec {
        name: "post_duration",
        title: "POST duration",
        source: MeasureSource::Run(|run| run.durations("POST ")),
        ..ROW
    },
    MeasureSpec {
        name: "time_to_first_token",
        title: "Time to first token",
        source: MeasureSource::Run(|run| run.streams().filter_map(|s| s.first_token_ms).collect()),
        ..ROW
    },
    MeasureSpec {
        name: "decode_rate",
        title: "Decode rate",
        unit: "tokens/s",
        better: Direction::MoreIsBetter,
        source: MeasureSource::Run(|run| {
            let gaps_ms = run.streams().filter_map(|stream| stream.token_gap_ms);
            gaps_ms
                .filter(|gap| *gap > 0.0)
                .map(|gap| 1e3 / gap)
                .collect()
        }),
        ..ROW
    },
    MeasureSpec {
        name: "heartbeat_lateness",
        title: "Heartbeat lateness",
        source: MeasureSource::Run(|run| run.lateness_ms.to_vec()),
        ..ROW
    },
    MeasureSpec {
        name: "cpu",
        title: "CPU",
        unit: "%",
        source: MeasureSource::Run(|run| run.vitals(|vitals| Some(vitals.cpu_percent))),
        ..ROW
    },
    MeasureSpec {
        name: "rss",
        title: "Resident memory",
        unit: "MB",
        source: MeasureSource::Run(|run| run.vitals(|vitals| Some(vitals.rss_bytes as f64 / 1e6))),
        ..ROW
    },
    MeasureSpec {
        name: "threads",
        title: "Threads",
        unit: "threads",
        source: MeasureSource::Run(|run| run.vitals(|vitals| Some(vitals.threads as f64))),
        ..ROW
    },
    MeasureSpec {
        name: "open_files",
        title: "Open files",
        unit: "files",
        source: MeasureSource::Run(|run| {
            run.vitals(|vitals| vitals.open_files.map(|files| files as f64))
        }),
        ..ROW
    },
];

/// The name of the rate that loads are about.
pub const OUTPUT_THROUGHPUT: &str = "output_throughput";

/// Reads the name of a measure, which may be one that it had in older reports and baselines.
pub fn current_name<'de, D: Deserializer<'de>>(source: D) -> Result<String, D::Error> {
    let name = String::deserialize(source)?;
    Ok(match name.strip_suffix("_from_due") {
        Some(measure) => format!("{measure}_from_intended_start"),
        None => name,
    })
}

/// The row of a measure, by either of its names.
pub fn spec(name: &str) -> Option<&'static MeasureSpec> {
    let is_meant =
        |spec: &&MeasureSpec| spec.name == name || spec.from_intended_start == Some(name);
    MEASURES.iter().find(is_meant)
}

impl MeasureSpec {
    fn measure(&self, name: &str, summary: Option<Distribution>) -> Option<Measure> {
        Some(Measure {
            name: name.to_owned(),
            unit: self.unit.to_owned(),
            summary: summary?,
            quantiles: Vec::new(),
        })
    }

    /// What a comparison of it under one load is.
    pub fn compared_under(&self, plan: &ScenarioPlan, floor: f64) -> Compared {
        Compared {
            name: format!("{} {}", plan.name, self.name),
            unit: self.unit,
            better: self.better,
            floor,
        }
    }
}

impl LoadResults<'_> {
    /// Every measure that has samples.
    pub fn measures(&self) -> Vec<Measure> {
        let rows = MEASURES.iter();
        rows.flat_map(|spec| self.measures_of(spec)).collect()
    }

    fn measures_of(&self, spec: &MeasureSpec) -> Vec<Measure> {
        match spec.source {
            MeasureSource::Request(sample) => {
                let valid = self.valid.iter();
                let samples: Vec<f64> = valid.flat_map(|request| sample(request)).collect();
                let mut measure = spec.measure(spec.name, Distribution::of(&samples));
                if let Some(measure) = measure.as_mut().filter(|_| spec.has_curve) {
                    measure.quantiles = quantiles(&samples);
                }
                let is_open = self.plan.load.is_open();
                let twin = spec
                    .from_intended_start
                    .filter(|_| is_open)
                    .and_then(|twin| {
                        let from_intended_start = self.valid.iter().flat_map(|request| {
                            let waited_ms = request.waited_ms();
                            sample(request).into_iter().map(move |ms| ms + waited_ms)
                        });
                        let samples: Vec<f64> = from_intended_start.collect();
                        spec.measure(twin, Distribution::of(&samples))
                    });
                measure.into_iter().chain(twin).collect()
            }
            MeasureSource::Window(rate) => {
                let value = rate(self).map(|rate| Distribution::single(rate, self.valid.len()));
                spec.measure(spec.name, value).into_iter().collect()
            }
            MeasureSource::Run(_) => Vec::new(),
        }
    }
}

impl RunFacts<'_> {
    /// Every measure that has samples.
    pub fn measures(&self) -> Vec<Measure> {
        let measure = |spec: &MeasureSpec| match spec.source {
            MeasureSource::Run(samples) => {
                spec.measure(spec.name, Distribution::of(&samples(self)))
            }
            MeasureSource::Request(_) | MeasureSource::Window(_) => None,
        };
        MEASURES.iter().filter_map(measure).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_unique_and_complete() {
        let mut names: Vec<&str> = MEASURES
            .iter()
            .flat_map(|spec| [Some(spec.name), spec.from_intended_start])
            .flatten()
            .collect();
        assert!(names.iter().all(|name| !name.is_empty()));
        assert!(MEASURES.iter().all(|spec| !spec.title.is_empty()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count, "a name stands twice in the table");
    }

    #[test]
    fn what_was_stored_under_an_older_name_is_read() {
        let read = |name: &str| {
            let summary = Distribution::of(&[1.0]).unwrap();
            let stored = Measure {
                name: name.to_owned(),
                unit: String::from("ms"),
                summary,
                quantiles: Vec::new(),
            };
            let stored = serde_json::to_string(&stored).unwrap();
            serde_json::from_str::<Measure>(&stored).unwrap().name
        };
        for name in ["ttft_from_due", "e2e_from_due"] {
            assert!(spec(&read(name)).is_some(), "{name}");
        }
        for row in MEASURES {
            let mut names = [Some(row.name), row.from_intended_start]
                .into_iter()
                .flatten();
            assert!(names.all(|name| read(name) == name));
        }
    }

    #[test]
    fn only_what_is_measured_under_load_has_columns_comparisons_and_exports() {
        for spec in MEASURES {
            let is_of_loads = !matches!(spec.source, MeasureSource::Run(_));
            let is_used = !spec.columns.is_empty()
                || spec.comparable != Comparable::Not
                || spec.export.is_some()
                || spec.is_drawn
                || spec.has_curve;
            assert!(is_of_loads || !is_used, "{}", spec.name);
        }
    }
}
