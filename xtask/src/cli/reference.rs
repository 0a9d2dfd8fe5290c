//! The reference of all options, `docs/options.md`: written from the command line's own types, so
//! that it can't say anything else than `--help` does.

use std::fmt::Write;

use clap::{Arg, Command, CommandFactory};

use super::Cli;

/// The page, as Markdown: a section for each task, a table for each group of its options.
pub fn page() -> String {
    let mut page = String::from(
        "# Options\n\nGenerated from the definitions of the command line; `cargo xtask TASK --help` \
         says the same, with examples.\n",
    );
    let mut command = Cli::command();
    command.build();
    sections(&mut page, "cargo xtask", &command);
    page
}

/// A section for each task of a command, and for what can be done within it.
fn sections(page: &mut String, name: &str, command: &Command) {
    let tasks = command.get_subcommands();
    for task in tasks.filter(|task| !task.is_hide_set() && task.get_name() != "help") {
        let name = format!("{name} {}", task.get_name());
        section(page, &name, task);
        sections(page, &name, task);
    }
}

fn section(page: &mut String, name: &str, task: &Command) {
    let about = task.get_about().map(ToString::to_string);
    let _ = write!(page, "\n## {name}\n\n{}.\n", about.unwrap_or_default());
    let mut headings: Vec<Option<&str>> = Vec::new();
    for argument in shown(task) {
        if !headings.contains(&argument.get_help_heading()) {
            headings.push(argument.get_help_heading());
        }
    }
    for heading in headings {
        if let Some(heading) = heading {
            let _ = write!(page, "\n### {heading}\n");
        }
        page.push_str("\n| option | default | meaning |\n|---|---|---|\n");
        for argument in shown(task).filter(|argument| argument.get_help_heading() == heading) {
            row(page, argument);
        }
    }
}

fn shown(task: &Command) -> impl Iterator<Item = &Arg> {
    task.get_arguments()
        .filter(|argument| !argument.is_hide_set() && argument.get_id() != "help")
}

fn row(page: &mut String, argument: &Arg) {
    let values = argument.get_default_values().iter();
    let defaults: Vec<_> = values
        .map(|value| format!("`{}`", value.to_string_lossy()))
        .collect();
    let defaults = match argument.get_action().takes_values() {
        true => defaults.join(", "),
        false => String::new(),
    };
    let help = argument.get_help().map(ToString::to_string);
    let _ = writeln!(
        page,
        "| `{}` | {defaults} | {}{} |",
        cell(&spelling(argument)),
        cell(&help.unwrap_or_default()).replace('<', "&lt;"),
        choices(argument)
    );
}

/// The values that it takes, where there are few; and its other names.
fn choices(argument: &Arg) -> String {
    let named = argument.get_possible_values();
    let mut names: Vec<_> = match argument.get_action().takes_values() {
        true => named.iter().map(|value| value.get_name()).collect(),
        false => Vec::new(),
    };
    let last = names.pop().map(|last| match names.is_empty() {
        true => format!(". Takes `{last}`"),
        false => format!(". Takes `{}` or `{last}`", names.join("`, `")),
    });
    let aliases = argument.get_visible_aliases().unwrap_or_default();
    let aliases = aliases.iter().map(|alias| format!("; also `--{alias}`"));
    last.into_iter().chain(aliases).collect()
}

/// How the option is written: `-q, --quiet`, `--port <PORT>`, `[FILE]...`.
fn spelling(argument: &Arg) -> String {
    match argument
        .get_short()
        .filter(|_| argument.get_long().is_some())
    {
        Some(short) => format!("-{short}, {argument}"),
        None => argument.to_string(),
    }
}

/// Text as it may stand in a table's cell.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    #[test]
    fn the_page_of_options_is_what_the_command_line_takes() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let path = root.join("docs/options.md");
        let page = super::page();
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(&path, &page).unwrap();
        }
        let written = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            written.replace("\r\n", "\n") == page,
            "docs/options.md is stale: UPDATE_EXPECT=1 cargo test -p xtask --bin xtask page_of_options"
        );
    }
}
