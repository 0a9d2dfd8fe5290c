//! A command line without some of its options: what a run of a run, or another one like it, is given. Pure.

use std::ffi::{OsStr, OsString};

/// An option's name, and whether a value follows it.
pub type Named = (&'static str, bool);

/// What says which checks to try, and how the run of them is cut short.
pub const SELECTION: &[Named] = &[
    ("--suite", true),
    ("--check", true),
    ("--skip", true),
    ("--shard", true),
    ("--max-fail", true),
];

/// The arguments but for these options and their values.
pub fn without(arguments: impl IntoIterator<Item = OsString>, options: &[Named]) -> Vec<OsString> {
    let mut kept = Vec::new();
    let mut arguments = arguments.into_iter();
    while let Some(argument) = arguments.next() {
        let is_meant = |(name, _): &&Named| is_option(&argument, name);
        match options.iter().find(is_meant) {
            None => kept.push(argument),
            // Its value stands by itself.
            Some((name, true)) if argument == *name => drop(arguments.next()),
            Some(_) => {}
        }
    }
    kept
}

/// Whether an argument is this option, alone or with `=` and a value.
fn is_option(argument: &OsStr, name: &str) -> bool {
    let bytes = argument.as_encoded_bytes();
    let rest = bytes.strip_prefix(name.as_bytes());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(b"="))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn options_go_with_their_values_and_all_else_stays() {
        let line = "worker:test --suite all --port 0 --check=a.b --check c.d --checks --skip x -q";
        let line = format!("{line} --shard 1/3 --max-fail=1");
        let kept = without(words(&line), SELECTION);
        assert_eq!(kept, words("worker:test --port 0 --checks -q"));
    }
}
