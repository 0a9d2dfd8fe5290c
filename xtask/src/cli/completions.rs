//! `completions`: what a shell needs to complete commands, options and their values.

use clap::{Args, Command};
use clap_complete::{Shell, generate};

/// What the scripts complete: the executable itself, or an alias of that name.
const PROGRAM: &str = "xtask";

/// Bash takes a colon for the end of a word, and the tasks have one in their names.
const COLONS_IN_WORDS: &str = "COMP_WORDBREAKS=${COMP_WORDBREAKS//:}\n";

/// Shown below the options.
pub const HELP: &str = "\
The script completes `xtask`, which is target/debug/xtask, or an alias:
  alias xtask='cargo xtask'

Examples:
  cargo xtask completions bash >> ~/.bashrc
  cargo xtask completions zsh > ~/.zfunc/_xtask
  cargo xtask completions fish > ~/.config/fish/completions/xtask.fish
  cargo xtask completions powershell >> $PROFILE";

/// Options of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell that completes
    #[arg(value_enum)]
    shell: Shell,
}

impl CompletionsArgs {
    /// The script for the tasks of `command`.
    pub fn script(&self, mut command: Command) -> String {
        let mut script = Vec::new();
        generate(self.shell, &mut command, PROGRAM, &mut script);
        let mut script = String::from_utf8_lossy(&script).into_owned();
        if self.shell == Shell::Bash {
            script.insert_str(0, COLONS_IN_WORDS);
        }
        script
    }
}
