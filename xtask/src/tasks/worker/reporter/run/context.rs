//! Machine, model, worker and options: what a run's figures and verdicts depend on. Pure.

use serde_json::Value;

use super::causes;
use crate::tasks::worker::record::report::RunReport;
use crate::tasks::worker::reporter::page::{Block, Fact, Section, Shown, known};
use crate::tasks::worker::reporter::words;

/// The few facts that a reader looks for first.
pub fn facts(report: &RunReport) -> Vec<Fact> {
    let machine = report.environment.as_ref();
    let worker = report.worker.as_ref();
    let gpu = machine.and_then(|machine| machine.gpus.first());
    let backend = worker.map(|worker| match gpu {
        Some(gpu) if worker.backend != "cpu" => {
            format!(
                "{} · device {} · {}",
                worker.backend, worker.device, gpu.name
            )
        }
        _ => format!("{} · device {}", worker.backend, worker.device),
    });
    let file_name = |path: &str| path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned();
    let machine = machine.map(|machine| {
        let cpu = machine.cpu.as_ref().unwrap_or(&machine.architecture);
        match &machine.host {
            Some(host) => format!("{host} · {cpu}"),
            None => cpu.clone(),
        }
    });
    let took = |ms: u64| words::duration(ms as f64);
    known([
        (
            "Model",
            report.model.as_ref().map(|model| file_name(&model.path)),
        ),
        ("Backend", backend),
        ("Machine", machine),
        ("Ready after", report.ready_ms.map(took)),
        ("Whole run", report.duration_ms.map(took)),
        (
            "Started",
            report
                .run
                .as_ref()
                .map(|run| words::moment(&run.started_at)),
        ),
        ("Worker exit", report.worker_exit.clone()),
        ("Exit code", Some(report.verdict().exit_code().to_string())),
    ])
}

/// What is true of every check of the run.
pub fn properties(report: &RunReport) -> Vec<Fact> {
    let (model, worker) = (report.model.as_ref(), report.worker.as_ref());
    known([
        ("model", model.map(|model| model.path.clone())),
        ("model_ref", model.map(|model| model.model_ref.clone())),
        (
            "quantisation",
            model.map(|model| model.quantisation.clone()),
        ),
        ("model_sha256", report.model_sha256.clone()),
        ("backend", worker.map(|worker| worker.backend.clone())),
        ("device", worker.map(|worker| worker.device.to_string())),
        ("worker_id", worker.map(|worker| worker.worker_id.clone())),
        ("run_id", report.run.as_ref().map(|run| run.run_id.clone())),
        ("exit_code", Some(report.verdict().exit_code().to_string())),
        ("causes", causes::counted(&report.check_summaries())),
    ])
}

/// All of it.
pub fn section(report: &RunReport) -> Option<Section> {
    let mut facts = machine(report);
    facts.extend(model(report));
    let command = report
        .worker
        .as_ref()
        .map(|worker| worker.command.join(" "));
    facts.extend(command.map(|command| ("command", command)));
    let is_set =
        |value: &Value| !value.is_null() && value.as_array().is_none_or(|all| !all.is_empty());
    let options = report.options.iter().filter(|(_, value)| is_set(value));
    facts.extend(options.map(|(name, value)| {
        let shown = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        ("option", format!("--{name} {shown}"))
    }));
    (!facts.is_empty()).then(|| Section {
        id: "environment",
        title: "Machine, model and options",
        aside: String::new(),
        shown: Shown::Folded,
        blocks: vec![Block::Facts { of: None, facts }],
    })
}

fn machine(report: &RunReport) -> Vec<Fact> {
    let Some(machine) = &report.environment else {
        return Vec::new();
    };
    let changed = match machine.git_dirty {
        Some(true) => " with uncommitted changes",
        Some(false) | None => "",
    };
    let revision = machine.git_revision.as_ref();
    let gigabytes = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
    let mut facts = known([
        ("system", Some(machine.os.clone())),
        ("kernel", machine.kernel.clone()),
        ("processor", machine.cpu.clone()),
        ("cores", machine.cores.map(|cores| cores.to_string())),
        ("memory", machine.memory_bytes.map(gigabytes)),
        ("xtask", Some(machine.xtask.clone())),
        ("rustc", machine.rustc.clone()),
        (
            "revision",
            revision.map(|revision| format!("{revision}{changed}")),
        ),
    ]);
    facts.extend(machine.gpus.iter().map(|gpu| {
        let shown = format!("{} · {} · driver {}", gpu.name, gpu.memory, gpu.driver);
        ("GPU", shown)
    }));
    facts
}

fn model(report: &RunReport) -> Vec<Fact> {
    let Some(model) = &report.model else {
        return Vec::new();
    };
    let size_mb = model.size_bytes as f64 / 1e6;
    let kind = format!(
        "{} · {} · {size_mb:.1} MB",
        model.architecture, model.quantisation
    );
    known([
        ("model", Some(model.path.clone())),
        ("model_ref", Some(model.model_ref.clone())),
        ("kind", Some(kind)),
        ("sha256", report.model_sha256.clone()),
    ])
}
