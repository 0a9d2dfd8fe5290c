//! What the output can show: colour, or none; symbols, or plain ASCII.

use std::io::{IsTerminal, stdout};

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
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_output_is_ascii_without_colour() {
        let plain = Style {
            colour: false,
            unicode: false,
        };
        assert_eq!(plain.show("\n📊 Summary"), "\nSummary");
        assert_eq!(plain.show("✅ Café is ready"), "[ok] Caf? is ready");
        let rich = Style {
            colour: true,
            unicode: true,
        };
        assert_eq!(rich.show("✅ Café"), "\x1b[32m✅ Café\x1b[0m");
        assert_eq!(rich.show("   Port: 1"), "   Port: 1");
    }
}
