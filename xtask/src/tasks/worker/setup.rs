//! What a run needs before anything is started: what its command line points to, whether this machine
//! can do it, which program it is, and how that is talked to.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use super::build;
use super::check;
use super::config::WorkerTestConfig;
use super::config::known_failures::KnownFailures;
use super::config::target::{Attachment, DialectName, WorkerSource};
use super::journal::Journal;
use super::net::client::Client;
use super::process::gpu;
use super::process::group::Watch;
use super::process::secrets;
use super::process::stop::StopFlag;
use super::target::dialect::{self, ApiKey, Dialect};
use super::target::worker::Program;
use super::workspace::Home;

/// How long a server may take to list its models.
const MODELS_LIMIT: Duration = Duration::from_secs(10);

/// What the command line points to.
#[derive(Debug, Default)]
pub struct Inputs {
    /// Checks that are known to fail.
    pub known: KnownFailures,
    /// The key for the server's clients.
    api_key: Option<ApiKey>,
}

/// Reads what the command line points to, before anything is started.
pub fn inputs(config: &WorkerTestConfig) -> Result<Inputs> {
    let mut inputs = Inputs::default();
    if let Some(path) = &config.known_failures {
        let text = std::fs::read_to_string(path).map_err(Into::into);
        inputs.known = text
            .and_then(|text| KnownFailures::parse(&text, &check::table::rows()))
            .with_context(|| format!("--known-failures {}", path.display()))?;
    }
    if let Some(name) = &config.target.api_key_env {
        let key = std::env::var(name).unwrap_or_default();
        let is_sendable = !key.is_empty() && key.chars().all(|c| c.is_ascii_graphic());
        anyhow::ensure!(
            is_sendable,
            "--api-key-env {name}: the variable holds no key that a header can carry\n  try: {name}=KEY in front of the command"
        );
        secrets::keep(&key);
        inputs.api_key = Some(ApiKey {
            variable: name.clone(),
            value: key,
        });
    }
    Ok(inputs)
}

/// Fails where this machine, or this place, can't do what is asked for.
pub fn ensure_testable(config: &WorkerTestConfig, home: &Home) -> Result<()> {
    let builds = config.target.source == WorkerSource::Workspace;
    anyhow::ensure!(
        !builds || home.is_workspace,
        "this program is not in its workspace, so it cannot build the worker\n  try: --worker-bin PATH, --worker-cmd 'TEMPLATE' or --attach URL"
    );
    if config.target.attached().is_some() {
        return Ok(());
    }
    if let Some(lacks) = gpu::missing(config.backend, config.device, builds) {
        anyhow::bail!(
            "this machine can't test --backend {}\n{lacks}",
            config.backend.as_str()
        );
    }
    Ok(())
}

/// How the worker is talked to. A server that runs already says itself what its model is called.
pub fn dialect(
    config: &WorkerTestConfig,
    inputs: &Inputs,
    model_ref: &str,
    stop: &StopFlag,
) -> Result<&'static dyn Dialect> {
    let target = &config.target;
    if target.dialect == DialectName::Rbee {
        return Ok(dialect::native());
    }
    let api_key = inputs.api_key.as_ref();
    let said = match target.attached() {
        Some(server) => model_of(server, api_key, stop)?,
        None => Ok(model_ref.to_owned()),
    };
    let name = target.model_name.clone().map_or(said, Ok)?;
    let profile = target.profile.unwrap_or_default();
    Ok(dialect::openai(profile, &name, api_key))
}

/// What a server that runs already calls its model, or why it doesn't say; fails where it lets us in
/// with another key only.
fn model_of(
    server: Attachment,
    api_key: Option<&ApiKey>,
    stop: &StopFlag,
) -> Result<Result<String>> {
    let request = dialect::openai_models(api_key);
    let client = Client::new(server.port, Watch::nobody(), stop);
    let answer = client.send(&request, MODELS_LIMIT);
    let named = match answer {
        Ok(answer) => dialect::read_first_model(&answer, api_key)
            .map_err(anyhow::Error::msg)?
            .map_err(Into::into),
        Err(error) => Err(error),
    };
    Ok(named.with_context(|| {
        format!("--attach {server}: the server does not say which model it has\n  try: --model-name NAME")
    }))
}

/// The program that is tested, built where it is this workspace's own.
pub fn program(
    config: &WorkerTestConfig,
    root: &Path,
    journal: &Journal,
    stop: &StopFlag,
) -> Result<Program> {
    Ok(match &config.target.source {
        // A bare name is a file here, not something in the search path.
        WorkerSource::Binary(binary) => Program::Contract(std::path::absolute(binary)?),
        WorkerSource::Command(template) => Program::Template(template.clone()),
        WorkerSource::Attached(_) => Program::Attached,
        WorkerSource::Workspace => Program::Contract(build::build_worker(
            root,
            None,
            config.backend,
            journal,
            stop,
        )?),
    })
}
