//! `worker:mutants`: tests the tester. A faulty worker breaks one promise at a time, and each time
//! the check that guards the promise has to fail, and nobody else may be blamed.

pub mod config;
#[cfg(test)]
mod coverage;
mod faults;
mod table;
mod trial;

use std::io::{Write, stdout};
use std::path::Path;
use std::sync::Mutex;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};

use self::config::MutantsConfig;
use self::table::{Expectation, FaultTable, Judgement, NO_FAULT};
use self::trial::Laboratory;
use crate::tasks::worker::plan;
use crate::tasks::worker::process::lock::lock;
use crate::tasks::worker::process::platform;
use crate::tasks::worker::process::python::Python;
use crate::tasks::worker::process::stop::StopFlag;

/// Where the faulty worker and the table of its faults are, from the workspace root.
const FAULTY_WORKER: &str = "xtask/tests/faulty_worker.py";
const TABLE: &str = "xtask/tests/faults.toml";

/// Runs mostly wait: so many a core keep it busy without making them late.
const RUNS_PER_CORE: usize = 2;

/// One fault, tried.
struct MutantRow {
    fault: String,
    /// Whether a check has to catch it.
    has_fault: bool,
    judgement: Judgement,
    seconds: f64,
}

/// Tries the faults and prints the table; gives whether every fault was caught, and caught rightly.
pub fn run(config: &MutantsConfig, root: &Path, stop: &StopFlag) -> Result<bool> {
    ensure!(
        platform::STARTS_SCRIPTS,
        "the faulty worker is a Python script, which this system can't start as a program\n  try: Linux, macOS or WSL"
    );
    ensure!(
        root.join(TABLE).is_file(),
        "this program is not in its workspace, where the faulty worker and its faults are\n  try: cargo xtask worker:mutants in a checkout"
    );
    let python = Python::find(config.python.as_deref())?;
    let table = FaultTable::load(&root.join(TABLE))?;
    let program = root.join(FAULTY_WORKER);
    table.expect_same_faults(&faults::list_faults(&python, &program)?)?;
    let mut wanted = wanted(&table, &config.faults)?;
    if config.each_check {
        keep_one_for_each_check(&mut wanted);
    }
    let laboratory = Laboratory::new(root, &program, &python, config, stop)?;
    let began = Instant::now();
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let jobs = config.jobs.unwrap_or(cores * RUNS_PER_CORE);
    let rows = try_all(&laboratory, &wanted, jobs, stop)?;
    let right = rows.iter().filter(|row| row.judgement.is_right()).count();
    let mut out = stdout().lock();
    let seconds = began.elapsed().as_secs_f64();
    writeln!(out, "\n{}, in {seconds:.0} s", totals(&rows))?;
    if right < rows.len() {
        writeln!(
            out,
            "the evidence of each run: {}",
            laboratory.folder().display()
        )?;
    }
    Ok(right == rows.len())
}

/// "caught 290 / 290, no false alarm in 23 / 23 without a fault".
fn totals(rows: &[MutantRow]) -> String {
    let count = |has_fault: bool| {
        let kind = || rows.iter().filter(move |row| row.has_fault == has_fault);
        let right = kind().filter(|row| row.judgement.is_right());
        (right.count(), kind().count())
    };
    let ((caught, faults), (clean, faultless)) = (count(true), count(false));
    format!("caught {caught} / {faults}, no false alarm in {clean} / {faultless} without a fault")
}

/// The good worker first, where everything is wanted: it shows what false alarms look like.
fn wanted<'t>(table: &'t FaultTable, globs: &[String]) -> Result<Vec<&'t Expectation>> {
    for glob in globs {
        let known = table.rows().any(|row| plan::matches(glob, &row.fault));
        ensure!(
            known,
            "--fault {glob} matches no fault\n  try: python3 {FAULTY_WORKER} --list-faults"
        );
    }
    let wanted = |row: &&Expectation| {
        globs.is_empty() || globs.iter().any(|glob| plan::matches(glob, &row.fault))
    };
    Ok(by_turns(table.rows().filter(wanted).collect()))
}

/// Leaves the first fault of each check, and every worker that nobody is to be blamed for.
fn keep_one_for_each_check(wanted: &mut Vec<&Expectation>) {
    let mut seen = std::collections::BTreeSet::new();
    wanted.retain(|row| {
        row.by
            .as_ref()
            .is_none_or(|check| seen.insert(check.clone()))
    });
}

/// One of each area after the other: what keeps a machine busy stands together in the table, and
/// several of it at the same time would make each other late.
fn by_turns(rows: Vec<&Expectation>) -> Vec<&Expectation> {
    let mut seen = std::collections::BTreeMap::new();
    let mut turns: Vec<(usize, &Expectation)> = Vec::new();
    for row in rows {
        let area = row.fault.split('.').next().unwrap_or_default();
        let turn: &mut usize = seen.entry(area).or_default();
        *turn += 1;
        turns.push((*turn, row));
    }
    turns.sort_by_key(|(turn, _)| *turn);
    turns.into_iter().map(|(_, row)| row).collect()
}

/// Tries several at a time and prints each row as soon as those before it are printed.
fn try_all(
    laboratory: &Laboratory,
    wanted: &[&Expectation],
    jobs: usize,
    stop: &StopFlag,
) -> Result<Vec<MutantRow>> {
    let width = wanted.iter().map(|row| row.fault.len()).max().unwrap_or(0);
    let next = Mutex::new(wanted.iter().enumerate());
    let (sender, receiver) = channel();
    std::thread::scope(|scope| {
        for _ in 0..jobs.clamp(1, wanted.len().max(1)) {
            let sender = sender.clone();
            scope.spawn(|| work(laboratory, &next, sender));
        }
        drop(sender);
        let mut waiting = std::collections::BTreeMap::new();
        let mut rows = Vec::new();
        for (number, row) in receiver {
            // One run that could not be made ends all of them, once those under way are over.
            waiting.insert(number, row?);
            while let Some(row) = waiting.remove(&rows.len()) {
                print(&row, width)?;
                rows.push(row);
            }
        }
        stop.check()?;
        if rows.len() < wanted.len() {
            bail!("only {} of {} faults were tried", rows.len(), wanted.len());
        }
        Ok(rows)
    })
}

type Tried = (usize, Result<MutantRow>);

fn work<'t>(
    laboratory: &Laboratory,
    next: &Mutex<impl Iterator<Item = (usize, &'t &'t Expectation)>>,
    sender: Sender<Tried>,
) {
    let take = || lock(next).next();
    while let Some((number, expectation)) = take() {
        let row = try_one(laboratory, expectation);
        let failed = row.is_err();
        if sender.send((number, row)).is_err() || failed {
            return;
        }
    }
}

fn try_one(laboratory: &Laboratory, expectation: &Expectation) -> Result<MutantRow> {
    let began = Instant::now();
    let fault = &expectation.fault;
    let tried = || -> Result<Judgement> {
        let trial = laboratory.try_fault(expectation)?;
        Ok(expectation.judge(&trial))
    };
    let judgement = tried().with_context(|| format!("cannot try the fault {fault}"))?;
    Ok(MutantRow {
        fault: fault.clone(),
        has_fault: expectation.by.is_some(),
        judgement,
        seconds: began.elapsed().as_secs_f64(),
    })
}

fn print(row: &MutantRow, width: usize) -> Result<()> {
    let fault = if row.fault == NO_FAULT {
        "(none)"
    } else {
        &row.fault
    };
    let mark = if row.judgement.is_right() {
        "ok "
    } else {
        "BAD"
    };
    let mut out = stdout().lock();
    writeln!(
        out,
        "{mark} {fault:width$}  {:5.1} s  {}",
        row.seconds, row.judgement
    )?;
    Ok(())
}
