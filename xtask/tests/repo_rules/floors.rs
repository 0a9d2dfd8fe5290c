//! The house has floors: a file imports only from its own floor and from those below, and no two
//! files import each other, however long the way round.

use std::collections::{BTreeMap, BTreeSet};

use super::root;
use super::source::{Crate, Module};

/// The floors of `xtask/src/tasks/worker/`, from the roof to the ground. What isn't in a floor of its
/// own is a helper of the story and stands right under it.
const FLOORS: [&[&str]; 11] = [
    &[],
    &["mode"],
    &["check"],
    &["target", "model"],
    &["load"],
    &["net"],
    &["process"],
    &["journal"],
    &["reporter"],
    &["config", "plan", "explain"],
    &["record"],
];

/// Folders and files that import the record alone, besides themselves and what is named here.
const PURE: [(&str, &[&str]); 4] = [
    ("config", &["plan"]),
    ("plan", &[]),
    ("explain", &["plan"]),
    ("reporter", &[]),
];

/// Arrows that are still to be turned: from, to. Each of them has to exist, so that the list shrinks.
const EXCEPTIONS: &[(&str, &str)] = &[];

/// The part of the worker's folder that a module belongs to.
fn part(module: &Module) -> Option<&str> {
    match module.as_slice() {
        [tasks, worker, part, ..] if tasks == "tasks" && worker == "worker" => Some(part),
        _ => None,
    }
}

/// How far above the ground a module is.
fn height(module: &Module) -> usize {
    let Some(part) = part(module) else {
        // The story, and above it the command line.
        return FLOORS.len() + usize::from(module.len() < 2);
    };
    let floor = FLOORS.iter().position(|floor| floor.contains(&part));
    FLOORS.len() - floor.unwrap_or(0) - 1
}

fn is_excepted((from, to): &(Module, Module)) -> bool {
    let name = |module: &Module| module.join("::").replacen("tasks::worker::", "", 1);
    EXCEPTIONS.contains(&(name(from).as_str(), name(to).as_str()))
}

#[test]
fn nobody_imports_from_a_floor_above() {
    let krate = Crate::read(&root().join("xtask/src"));
    let mut broken = Vec::new();
    for (edge, path) in krate.imports() {
        let (from, to) = &edge;
        let is_upwards = height(to) > height(from) && from.as_slice() != ["tasks"];
        let may = PURE.iter().find(|(name, _)| part(from) == Some(name));
        let is_too_much = may.is_some_and(|(name, others)| {
            let to = part(to).unwrap_or_default();
            to != *name && to != "record" && !others.contains(&to)
        });
        if (is_upwards || is_too_much) && !is_excepted(&edge) {
            broken.push(format!("{} imports {path}", from.join("::")));
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn no_files_import_each_other() {
    let krate = Crate::read(&root().join("xtask/src"));
    let imports = krate.imports();
    let mut below: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for edge in imports.keys().filter(|edge| !is_excepted(edge)) {
        below.entry(&edge.0).or_default().insert(&edge.1);
    }
    let reachable = |from| {
        let (mut seen, mut ahead) = (BTreeSet::new(), vec![from]);
        while let Some(module) = ahead.pop() {
            for next in below.get(module).into_iter().flatten() {
                if seen.insert(*next) {
                    ahead.push(next);
                }
            }
        }
        seen
    };
    let from: BTreeMap<_, _> = below
        .keys()
        .map(|module| (*module, reachable(module)))
        .collect();
    let mut circles: BTreeSet<Vec<String>> = BTreeSet::new();
    for (module, seen) in from.iter().filter(|(module, seen)| seen.contains(*module)) {
        let back = |other: &&&Module| from.get(**other).is_some_and(|seen| seen.contains(module));
        circles.insert(
            seen.iter()
                .filter(back)
                .map(|module| module.join("::"))
                .collect(),
        );
    }
    let circles: Vec<String> = circles
        .into_iter()
        .map(|circle| circle.join("\n  "))
        .collect();
    assert!(circles.is_empty(), "circles:\n{}", circles.join("\n\n"));
}

#[test]
fn every_exception_is_still_needed_and_every_floor_stands() {
    let krate = Crate::read(&root().join("xtask/src"));
    let imports = krate.imports();
    assert!(
        imports.len() > 300,
        "few imports were found: {}",
        imports.len()
    );
    let needed = imports.keys().filter(|edge| is_excepted(edge)).count();
    assert_eq!(needed, EXCEPTIONS.len(), "an exception names no import");
    let parts: BTreeSet<_> = krate.files().keys().filter_map(part).collect();
    for floor in FLOORS.iter().copied().flatten() {
        assert!(parts.contains(floor), "{floor} is not there");
    }
}
