//! Words that several reports share. Pure.

use crate::tasks::worker::record::facts::TimedLine;

/// "12 ms", "0.42 s", "2 min 05 s".
pub fn duration(duration_ms: f64) -> String {
    // Rounded first: what rounds up to a minute is a minute.
    let seconds = (duration_ms / 1e3).round();
    match duration_ms {
        ms if ms < 9.95 => format!("{ms:.1} ms"),
        ms if ms < 999.5 => format!("{ms:.0} ms"),
        ms if ms < 59_995.0 => format!("{:.2} s", ms / 1e3),
        _ => format!(
            "{:.0} min {:02.0} s",
            (seconds / 60.0).floor(),
            seconds % 60.0
        ),
    }
}

/// A figure with as many digits as mean something.
pub fn number(value: f64) -> String {
    match value.abs() {
        0.0 => String::from("0"),
        size if size < 0.1 => format!("{value:.3}"),
        size if size < 10.0 => format!("{value:.2}"),
        size if size < 1000.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// What stands where there is no figure.
pub const NO_FIGURE: &str = "-";

/// A figure that may be missing.
pub fn figure(value: Option<f64>) -> String {
    value.map_or(NO_FIGURE.to_owned(), number)
}

/// "2026-01-31 10:54:23 +00:00".
pub fn moment(rfc3339: &str) -> String {
    match chrono::DateTime::parse_from_rfc3339(rfc3339) {
        Ok(at) => at.format("%Y-%m-%d %H:%M:%S %:z").to_string(),
        Err(_) => rfc3339.to_owned(),
    }
}

/// As much of a text as fits into a table or a tooltip.
pub fn shortened(text: &str) -> String {
    const LONGEST: usize = 300;
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// A line of a log with its moment, and the worker where it isn't the one under test.
pub fn log_line(line: &TimedLine) -> String {
    let at = duration(line.at_ms);
    match &line.worker {
        Some(worker) => format!("{at:>9}  {worker}: {}", line.text),
        None => format!("{at:>9}  {}", line.text),
    }
}

/// The signals that end a run, as people know them.
pub fn signal_name(signal: i32) -> String {
    match signal {
        1 => String::from("SIGHUP"),
        2 => String::from("Ctrl-C"),
        15 => String::from("SIGTERM"),
        other => format!("signal {other}"),
    }
}

/// A word as a shell reads it back, whatever it contains.
pub fn shell_word(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    // A leading `@` would make curl read a file, but a quoted body keeps it: JSON never has one.
    format!("'{}'", word.replace('\'', r"'\''").replace('\0', ""))
}

/// Text in which nothing is markup of HTML and nothing is obeyed, in an element or a quoted attribute.
pub fn markup(raw: &str) -> String {
    let mut safe = String::with_capacity(raw.len());
    for c in harmless(raw).chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            c => safe.push(c),
        }
    }
    safe
}

/// What CI systems take for a command anywhere in a line: GitHub, Azure, TeamCity.
const COMMANDS: [&str; 3] = ["##[", "##vso[", "##teamcity["];

/// The text without what a terminal or a CI system that reads our output would obey.
pub fn printed(text: &str) -> String {
    let mut shown = harmless(text);
    if shown.contains("::") {
        let lines = shown.split('\n').map(|line| {
            let is_command = line.trim_start().starts_with("::");
            if is_command {
                line.replacen("::", ": :", 1)
            } else {
                line.to_owned()
            }
        });
        shown = lines.collect::<Vec<_>>().join("\n");
    }
    if shown.contains("##") {
        for command in COMMANDS {
            shown = shown.replace(command, &command.replacen('#', "# ", 1));
        }
    }
    shown
}

/// A field that is one line, whatever is in it: what would begin another line is spelt out.
pub fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => line.push_str("\\n"),
            '\r' => line.push_str("\\r"),
            '\u{b}' | '\u{c}' | '\u{85}' | '\u{2028}' | '\u{2029}' => line.push('\u{fffd}'),
            c => line.push(c),
        }
    }
    line
}

/// What may be several lines, none of which but the first begins where ours do.
pub fn indented(text: &str) -> String {
    let mut lines = text.split('\n');
    let first = lines.next().unwrap_or_default().to_owned();
    lines.fold(first, |text, line| {
        let margin = if line.starts_with(' ') { "" } else { "   " };
        text + "\n" + margin + line
    })
}

/// The parts of a text in which backticks stand around code, and whether each of them is code.
pub fn with_code(text: &str) -> impl Iterator<Item = (bool, &str)> {
    let is_paired = text.matches('`').count().is_multiple_of(2);
    let parts = text.split(move |c| c == '`' && is_paired).enumerate();
    let parts = parts.map(|(number, part)| (number % 2 == 1, part));
    parts.filter(|(_, part)| !part.is_empty())
}

/// The text without what a terminal, a page or a parser would obey.
pub fn harmless(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            '\x1b' => skip_escape(&mut characters),
            '\n' | '\t' => shown.push(c),
            // Marks that turn the direction of text around can make it say something else.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
                shown.push('\u{fffd}');
            }
            '\u{fffe}' | '\u{ffff}' => shown.push('\u{fffd}'),
            c if c.is_control() => shown.push('\u{fffd}'),
            c => shown.push(c),
        }
    }
    shown
}

/// The rest of an ANSI sequence: parameters up to the letter that ends it.
fn skip_escape(characters: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    if characters.next_if_eq(&'[').is_none() {
        return;
    }
    while characters
        .next_if(|c| matches!(c, '\x20'..='\x3f'))
        .is_some()
    {}
    characters.next_if(|c| matches!(c, '\x40'..='\x7e'));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_obeyed_is_taken_out() {
        assert_eq!(
            harmless("\x1b[31;1mred\x1b[0m\0\u{202e}x"),
            "red\u{fffd}\u{fffd}x"
        );
        assert_eq!(harmless("a\x1b"), "a");
        assert_eq!(harmless("a\tb\nc"), "a\tb\nc");
    }

    #[test]
    fn code_stands_between_paired_backticks() {
        let parts = |text| with_code(text).collect::<Vec<_>>();
        let expected = [(true, "a"), (false, " is "), (true, "b")];
        assert_eq!(parts("`a` is `b`"), expected);
        assert_eq!(parts("one ` alone"), [(false, "one ` alone")]);
    }

    #[test]
    fn no_text_becomes_markup() {
        let hostile = "</pre><script>alert('x')</script>\" onload=\"y\x1b[31m\0";
        let safe = markup(hostile);
        assert!(
            !safe.contains(['<', '>', '"', '\'', '\x1b', '\0']),
            "{safe}"
        );
    }

    #[test]
    fn a_shell_reads_a_word_back_as_it_was() {
        assert_eq!(shell_word("--port"), "--port");
        assert_eq!(shell_word(""), "''");
        assert_eq!(shell_word("it's $HOME `x`"), r"'it'\''s $HOME `x`'");
    }

    #[test]
    fn durations_read_as_people_write_them() {
        let shown = [1.26, 42.4, 1234.0, 125_000.0].map(duration);
        assert_eq!(shown, ["1.3 ms", "42 ms", "1.23 s", "2 min 05 s"]);
        let rounded_up = [9.97, 999.7, 59_999.0, 119_700.0].map(duration);
        assert_eq!(rounded_up, ["10 ms", "1.00 s", "1 min 00 s", "2 min 00 s"]);
    }

    #[test]
    fn numbers_have_as_many_digits_as_mean_something() {
        let shown = [0.0, 0.0123, 1.234, 12.34, 123.4, 1234.5].map(number);
        assert_eq!(shown, ["0", "0.012", "1.23", "12.3", "123.4", "1234"]);
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(shortened("äöü"), "äöü");
        assert_eq!(shortened(&"ä".repeat(400)), "ä".repeat(300) + "…");
    }

    #[test]
    fn no_ci_system_finds_a_command() {
        for (text, shown) in [
            ("::add-mask::x", ": :add-mask::x"),
            ("   ::error::x", "   : :error::x"),
            ("a\n\t::error::x\n::b", "a\n\t: :error::x\n: :b"),
            ("std::io::Error", "std::io::Error"),
            ("a ##[add-mask]b ###[c]", "a # #[add-mask]b ## #[c]"),
            ("##vso[task.x]", "# #vso[task.x]"),
            ("##teamcity[x]", "# #teamcity[x]"),
            ("\x1b[0m::error::x", ": :error::x"),
            ("#\x1b[0m#[error]", "# #[error]"),
            ("## heading", "## heading"),
        ] {
            assert_eq!(printed(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_line_stays_a_line() {
        assert_eq!(one_line("a\nb\r\u{2028}c"), "a\\nb\\r\u{fffd}c");
        assert_eq!(indented("a\nb\n  c"), "a\n   b\n  c");
    }
}
