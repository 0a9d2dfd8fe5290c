//! Tests that need more than Rust and Python run where somebody asks for them.

use std::io::{Write, stderr};

/// What a test needs besides Rust and Python.
#[allow(dead_code, reason = "each test program needs some of them")]
#[derive(Debug, Clone, Copy)]
pub enum Needs {
    /// A browser.
    Browser,
    /// The package index that pip is configured for.
    PackageIndex,
}

/// Whether tests with this need are asked for. Where they aren't, the output says so; where they are,
/// a need that isn't met is a failure.
pub fn is_asked_for(needs: Needs) -> bool {
    let (variable, what) = match needs {
        Needs::Browser => ("TEST_BROWSER", "a browser"),
        Needs::PackageIndex => ("TEST_PACKAGE_INDEX", "a package index"),
    };
    let asked_for = std::env::var_os(variable).is_some_and(|value| value == "1");
    if !asked_for {
        let thread = std::thread::current();
        let test = thread.name().unwrap_or("a test");
        // Not by `eprintln!`, which nobody sees of a test that passes.
        let _ = writeln!(
            stderr(),
            "{test} was not run: {variable}=1 runs it, with {what}"
        );
    }
    asked_for
}
