//! What the output can show: colour, or none; symbols, or plain ASCII.

use std::io::{IsTerminal, stdout};

use console::{Term, measure_text_width};

use crate::tasks::worker::reporter::words;

const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const BOLD: &str = "\x1b[1m";
const RESET: &str = "\x1b[0m";

/// Symbols, what stands for them in ASCII, and the colour of their lines.
const SYMBOLS: &[(&str, &str, &str)] = &[
    ("🧪 ", "", BOLD),
    ("📦 ", "", BOLD),
    ("📡 ", "", BOLD),
    ("🚀 ", "", BOLD),
    ("⏳ ", "", BOLD),
    ("🔍 ", "", BOLD),
    ("🤔 ", "", BOLD),
    ("📋 ", "", BOLD),
    ("📊 ", "", BOLD),
    ("🧹 ", "", BOLD),
    ("✅ ", "[ok] ", GREEN),
    ("✓ ", "ok: ", GREEN),
    ("❌ ", "[FAILED] ", RED),
    ("⚠️ ", "[INVALID] ", YELLOW),
    ("➖ ", "[skipped] ", YELLOW),
];

/// How lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// ANSI colours.
    pub colour: bool,
    /// Anything beyond ASCII.
    pub unicode: bool,
    /// How many columns a terminal has; nothing elsewhere.
    pub columns: Option<usize>,
}

impl Style {
    /// Colour on a terminal unless NO_COLOR asks for none; symbols where the locale is UTF-8.
    pub fn of_stdout() -> Self {
        let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let dumb = std::env::var("TERM").is_ok_and(|term| term == "dumb");
        let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
            .iter()
            .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
            .unwrap_or_default()
            .to_ascii_lowercase();
        Self {
            colour: stdout().is_terminal() && !set("NO_COLOR") && !dumb,
            unicode: locale.contains("utf-8")
                || locale.contains("utf8")
                || cfg!(target_os = "macos")
                || (cfg!(windows) && set("WT_SESSION")),
            columns: Term::stdout()
                .size_checked()
                .map(|(_, columns)| usize::from(columns)),
        }
    }

    /// As much of a text as one row of a terminal shows; all of it elsewhere.
    pub fn row(self, text: &str) -> String {
        let Some(columns) = self.columns else {
            return text.to_owned();
        };
        let text = words::one_line(text);
        // A symbol may be two columns wide.
        let room = columns.saturating_sub(2).max(1);
        match text.char_indices().nth(room) {
            None => text,
            Some(_) => text.chars().take(room - 1).chain(['…']).collect(),
        }
    }

    /// Lines of prose, broken between words where a terminal would break them anywhere.
    pub fn wrapped(self, text: &str) -> String {
        let Some(columns) = self.columns else {
            return text.to_owned();
        };
        let lines = text.split('\n').map(|line| wrapped(line, columns));
        lines.collect::<Vec<_>>().join("\n")
    }

    /// The line as this output can show it.
    pub fn show(self, line: &str) -> String {
        let symbol = SYMBOLS.iter().find(|(symbol, ..)| line.contains(symbol));
        let mut shown = line.to_owned();
        if !self.unicode {
            for (symbol, ascii, _) in SYMBOLS {
                shown = shown.replace(symbol, ascii);
            }
            shown = shown
                .chars()
                .map(|c| if c.is_ascii() { c } else { '?' })
                .collect();
        }
        match symbol {
            Some((_, _, colour)) if self.colour => format!("{colour}{shown}{RESET}"),
            _ => shown,
        }
    }
}

/// One line of prose in rows of so many columns; what goes on is indented. A word that is longer than a
/// row, such as a path, stays whole, so that it can be copied.
fn wrapped(line: &str, columns: usize) -> String {
    if measure_text_width(line) <= columns {
        return line.to_owned();
    }
    let margin = &line[..line.len() - line.trim_start().len()];
    let indent = " ".repeat((margin.len() + 3).min(columns / 2));
    let mut rows = String::from(margin);
    let (mut width, mut is_first) = (margin.len(), true);
    for word in line.trim_start().split_inclusive(' ') {
        let needed = measure_text_width(word.trim_end());
        if width + needed > columns && !is_first {
            rows.truncate(rows.trim_end().len());
            rows.push('\n');
            rows.push_str(&indent);
            width = indent.len();
        }
        rows.push_str(word);
        width += measure_text_width(word);
        is_first = false;
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_output_is_ascii_without_colour() {
        let plain = Style {
            colour: false,
            unicode: false,
            columns: None,
        };
        assert_eq!(plain.show("\n📊 Summary"), "\nSummary");
        assert_eq!(plain.show("✅ Café is ready"), "[ok] Caf? is ready");
        let rich = Style {
            colour: true,
            unicode: true,
            columns: None,
        };
        assert_eq!(rich.show("✅ Café"), "\x1b[32m✅ Café\x1b[0m");
        assert_eq!(rich.show("   Port: 1"), "   Port: 1");
    }

    #[test]
    fn a_row_of_a_terminal_is_one_line_and_a_pipe_gets_all() {
        let mut style = Style {
            colour: false,
            unicode: true,
            columns: Some(12),
        };
        assert_eq!(style.row("0123456789"), "0123456789");
        assert_eq!(style.row("0123456789a"), "012345678…");
        assert_eq!(style.row("two\nlines"), "two\\nlines");
        style.columns = Some(0);
        assert_eq!(style.row("ab"), "…");
        style.columns = None;
        assert_eq!(style.row("two\nlines, long"), "two\nlines, long");
    }

    #[test]
    fn prose_is_broken_between_words_and_a_path_stays_whole() {
        let mut style = Style {
            colour: false,
            unicode: true,
            columns: Some(20),
        };
        let broken = "  one two three four\n     five six";
        assert_eq!(style.wrapped("  one two three four five six"), broken);
        assert_eq!(
            style.wrapped("see /a/path/that/is/longer/than/a/row now"),
            "see\n   /a/path/that/is/longer/than/a/row\n   now"
        );
        assert_eq!(style.wrapped("❌ as wide as it is"), "❌ as wide as it is");
        assert_eq!(style.wrapped("a\nb"), "a\nb");
        style.columns = Some(0);
        assert_eq!(style.wrapped("a b"), "a\nb");
        style.columns = None;
        assert_eq!(style.wrapped(broken), broken);
    }
}
