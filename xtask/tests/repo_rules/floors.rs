//! The house has floors: a file imports only from its own floor and from those below, and no two
//! files import each other, however long the way round.

use std::collections::{BTreeMap, BTreeSet};

use super::root;
use super::source::{Crate, Imports, Module};

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
        return FLOORS.len() + usize::from(module.first().is_none_or(|first| first != "tasks"));
    };
    let floor = FLOORS.iter().position(|floor| floor.contains(&part));
    FLOORS.len() - floor.unwrap_or(0) - 1
}

fn is_forbidden(from: &Module, to: &Module) -> bool {
    let is_upwards = height(to) > height(from);
    let may = PURE.iter().find(|(name, _)| part(from) == Some(name));
    let is_too_much = may.is_some_and(|(name, others)| {
        let to = part(to).unwrap_or_default();
        to != *name && to != "record" && !others.contains(&to)
    });
    let judges = matches!(part(from), Some("check" | "mode"));
    is_upwards || is_too_much || (judges && part(to) == Some("reporter"))
}

/// Files that import each other, however long the way round.
fn circles(imports: &Imports) -> BTreeSet<Vec<Module>> {
    let mut below: BTreeMap<&Module, BTreeSet<&Module>> = BTreeMap::new();
    for (from, to) in imports.keys() {
        below.entry(from).or_default().insert(to);
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
    let seen_from: BTreeMap<_, _> = below.keys().map(|from| (*from, reachable(from))).collect();
    let reaches =
        |from: &Module, to: &Module| seen_from.get(from).is_some_and(|seen| seen.contains(to));
    let in_circles = seen_from.keys().filter(|module| reaches(module, module));
    in_circles
        .map(|module| {
            let circle = seen_from[module].iter();
            let circle = circle.filter(|other| reaches(other, module));
            circle.map(|other| (*other).clone()).collect()
        })
        .collect()
}

#[test]
fn nobody_imports_from_a_floor_above_and_no_files_import_each_other() {
    let imports = Crate::read(&root().join("xtask/src")).imports();
    assert!(imports.len() > 300, "only {} were found", imports.len());
    let arrows = imports
        .iter()
        .filter(|((from, to), _)| is_forbidden(from, to));
    let arrows = arrows.map(|((from, _), path)| format!("{} imports {path}", from.join("::")));
    let circles = circles(&imports).into_iter().map(|circle| {
        let names: Vec<_> = circle.iter().map(|module| module.join("::")).collect();
        format!("a circle of {}", names.join(", "))
    });
    let broken: Vec<String> = arrows.chain(circles).collect();
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn every_floor_stands() {
    let krate = Crate::read(&root().join("xtask/src"));
    let parts: BTreeSet<_> = krate.files().keys().filter_map(part).collect();
    for floor in FLOORS.iter().copied().flatten() {
        assert!(parts.contains(floor), "{floor} is not there");
    }
}

#[test]
fn circles_are_found_and_chains_are_none() {
    let edge = |from: &str, to: &str| ((vec![from.to_owned()], vec![to.to_owned()]), String::new());
    let chain = [edge("a", "b"), edge("b", "c"), edge("a", "c")];
    assert!(circles(&chain.into()).is_empty());
    let circle = [edge("a", "b"), edge("b", "c"), edge("c", "b")];
    let found = circles(&circle.into());
    assert_eq!(
        found,
        [vec![vec![String::from("b")], vec![String::from("c")]]].into()
    );
}
