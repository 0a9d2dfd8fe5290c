//! The reaper: what it is, what it holds, what it doesn't heed.

use std::fs;

use crate::run::{GONE_LIMIT, GRACE, Plan, Worker, send};

#[test]
fn it_is_in_a_session_of_its_own_and_holds_nothing_of_ours() {
    // File 9 stands for whatever a user's shell leaves open.
    let plan = Plan::over(Worker::Stubborn).env("STUBBORN_POLITE", "1");
    let script = "exec 9</dev/zero; exec \"$@\"";
    let mut run = plan.through("sh", &["-c", script, "sh"]).start();
    run.wait_until_busy();
    let reaper = run.reaper().pid;
    let stat = fs::read_to_string(format!("/proc/{reaper}/stat")).unwrap();
    let fields: Vec<_> = stat.rsplit_once(')').unwrap().1.split(' ').collect();
    let (group, session) = (fields[3], fields[4]);
    assert_eq!(
        (group, session),
        (&*reaper.to_string(), &*reaper.to_string())
    );
    let mut files: Vec<(u32, String)> = fs::read_dir(format!("/proc/{reaper}/fd"))
        .unwrap()
        .flatten()
        .filter_map(|entry| {
            let target = fs::read_link(entry.path()).ok()?;
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, target.display().to_string()))
        })
        .collect();
    files.sort();
    assert!(files[0].1.starts_with("pipe:"), "{files:?}");
    assert_eq!(files[1], (1, String::from("/dev/null")));
    assert_eq!(files[2], (2, String::from("/dev/null")));
    // Beside them only what it takes signals with.
    let others = files.iter().skip(3).map(|(_, target)| target.as_str());
    assert!(
        others.clone().all(|target| target.starts_with("socket:")),
        "{files:?}"
    );
    run.signal("TERM");
    run.finish();
    run.assert_gone();
}

#[test]
fn signals_that_can_be_ignored_do_not_end_it() {
    let mut run = Plan::over(Worker::Stubborn).start();
    run.wait_until_busy();
    let reaper = run.reaper().pid;
    for signal in ["INT", "TERM", "HUP"] {
        send(signal, reaper);
    }
    run.kill_both();
    run.wait();
    run.assert_gone_within(GRACE + GONE_LIMIT);
}
