//! The options of `worker:download-model`, as types.

use std::path::PathBuf;

use clap::Args;

use crate::tasks::worker::model::{DEFAULT_DOWNLOAD, download::DownloadConfig};

/// What `--help` says below the options.
pub const HELP: &str = "\
Examples:
  cargo xtask worker:download-model --list
  cargo xtask worker:download-model smollm2-135m
  cargo xtask worker:test --model smollm2-135m

These variables are respected: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE, HF_HOME and HF_HUB_CACHE, the
proxy variables, and whatever pip is configured with. An interrupted download is resumed
if the server still has the same file.

Exit codes:
  0  the model is there, and it is the right one
  2  the command line is wrong, or the model's terms were not accepted
  3  it could not be downloaded
  130, 143  interrupted or terminated";

/// Options of `worker:download-model`.
#[derive(Debug, Args)]
pub struct DownloadModelArgs {
    /// The model's name in the catalog
    #[arg(default_value = DEFAULT_DOWNLOAD)]
    name: String,
    /// Show the catalog: name, size, licence, present or not
    #[arg(long, conflicts_with_all = ["name", "force"])]
    list: bool,
    /// Download again even if it is already there
    #[arg(long)]
    force: bool,
    /// Accept the terms of the model's licence, if it has any to accept
    #[arg(long)]
    accept_license: bool,
    /// The folder of the models [default: .test-models of this workspace]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The Python that downloads [default: python3, python or py -3]
    #[arg(long, value_name = "PATH")]
    python: Option<PathBuf>,
}

impl DownloadModelArgs {
    /// What to download, and where to.
    pub fn into_config(self) -> DownloadConfig {
        DownloadConfig {
            name: self.name,
            list: self.list,
            force: self.force,
            accept_license: self.accept_license,
            dir: self.dir,
            python: self.python,
        }
    }
}
