//! What workers and the mock hive inherit of our environment: what a program needs to run, and nothing
//! that may be a secret. They are foreign code, and a CI job's environment is full of secrets.

use std::ffi::OsString;
use std::process::Command;
use std::sync::Mutex;

use super::lock::lock;

/// Variables that are passed on. Windows doesn't tell upper from lower case, so neither do we.
const PASSED_ON: &[&str] = &[
    // Where programs, libraries and files are.
    "PATH",
    "HOME",
    "TMPDIR",
    "TMP",
    "TEMP",
    "LD_LIBRARY_PATH",
    "VIRTUAL_ENV",
    "CONDA_PREFIX",
    "PYENV_ROOT",
    "PYENV_VERSION",
    // Who and where the user is.
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LANGUAGE",
    "TZ",
    // What programs tell those who debug them.
    "RUST_LOG",
    "RUST_BACKTRACE",
    "RUST_LIB_BACKTRACE",
    "LLVM_PROFILE_FILE",
    "ASAN_OPTIONS",
    "LSAN_OPTIONS",
    "TSAN_OPTIONS",
    "UBSAN_OPTIONS",
    // How many threads compute.
    "RAYON_NUM_THREADS",
    "TOKIO_WORKER_THREADS",
    // Without these no program starts on Windows, or finds its files.
    "SYSTEMROOT",
    "SYSTEMDRIVE",
    "WINDIR",
    "COMSPEC",
    "PATHEXT",
    "USERPROFILE",
    "APPDATA",
    "LOCALAPPDATA",
    "PROGRAMDATA",
    "PROGRAMFILES",
    "PROGRAMFILES(X86)",
    "COMMONPROGRAMFILES",
    "NUMBER_OF_PROCESSORS",
    "PROCESSOR_ARCHITECTURE",
    "PROCESSOR_IDENTIFIER",
    "OS",
];

/// How names begin that are passed on: languages, folders, interpreters, devices and what computes.
const FAMILIES: &[&str] = &[
    "LC_",
    "XDG_",
    "PYTHON",
    "DYLD_",
    "CUDA_",
    "NVIDIA_",
    "NCCL_",
    "HIP_",
    "HSA_",
    "ROCR_",
    "ROCM_",
    "MTL_",
    "METAL_",
    "OMP_",
    "KMP_",
    "GOMP_",
    "MKL_",
    "OPENBLAS_",
    "GGML_",
];

/// What the user gives workers besides.
static GIVEN: Mutex<Vec<(OsString, OsString)>> = Mutex::new(Vec::new());

/// From now on workers get these variables, too: with this value, or with ours, where we have one.
pub fn give_workers(variables: &[(String, Option<String>)]) {
    let value = |(name, value): &(String, Option<String>)| {
        let value = value.as_ref().map(OsString::from);
        Some((name.into(), value.or_else(|| std::env::var_os(name))?))
    };
    *lock(&GIVEN) = variables.iter().filter_map(value).collect();
}

/// What the user gives workers besides.
pub fn given() -> Vec<(OsString, OsString)> {
    lock(&GIVEN).clone()
}

/// Leaves the command what may be passed on, and what it was given by name.
pub fn restrict(command: &mut Command) {
    let by_name: Vec<(OsString, Option<OsString>)> = command
        .get_envs()
        .map(|(name, value)| (name.to_owned(), value.map(ToOwned::to_owned)))
        .collect();
    command.env_clear();
    let ours = std::env::vars_os();
    command.envs(ours.filter(|(name, _)| name.to_str().is_some_and(is_passed_on)));
    for (name, value) in by_name {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
}

fn is_passed_on(name: &str) -> bool {
    let begins = |family: &&str| {
        let begin = name.get(..family.len());
        begin.is_some_and(|begin| begin.eq_ignore_ascii_case(family))
    };
    PASSED_ON
        .iter()
        .any(|known| known.eq_ignore_ascii_case(name))
        || FAMILIES.iter().any(begins)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_passed_on_and_what_programs_need_is() {
        for name in [
            "PATH",
            "SystemRoot",
            "LC_ALL",
            "CUDA_VISIBLE_DEVICES",
            "RUST_LOG",
        ] {
            assert!(is_passed_on(name), "{name}");
        }
        for name in [
            "HF_TOKEN",
            "AWS_SECRET_ACCESS_KEY",
            "GITHUB_TOKEN",
            "GITHUB_ENV",
            "ACTIONS_RUNTIME_TOKEN",
            "WORKER_API_TOKEN",
            "http_proxy",
            "SSH_AUTH_SOCK",
            "LD_PRELOAD",
            "PATHX",
            "Ω",
        ] {
            assert!(!is_passed_on(name), "{name}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_child_sees_what_is_passed_on_and_what_it_was_given() {
        let mut command = Command::new("/usr/bin/env");
        command.env("GIVEN_BY_NAME", "1").env_remove("PATH");
        restrict(&mut command);
        let output = command.output().unwrap();
        let seen = String::from_utf8(output.stdout).unwrap();
        let names: Vec<&str> = seen
            .lines()
            .filter_map(|line| Some(line.split_once('=')?.0))
            .collect();
        assert!(names.contains(&"GIVEN_BY_NAME"), "{seen}");
        assert!(!names.contains(&"PATH"), "{seen}");
        // Cargo sets this one for every test.
        assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
        assert!(!names.contains(&"CARGO_MANIFEST_DIR"), "{seen}");
    }
}
