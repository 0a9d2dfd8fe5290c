//! A backend that this machine has no device or no compiler for: said at once, before anything is built
//! or started, with the way to get it.

#[path = "support/xtask.rs"]
mod xtask;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use xtask::{said, worker_test};

/// How long the refusal may take.
const LIMIT: Duration = Duration::from_secs(2);

/// A run on a backend, which has to be refused in time; what it said.
fn refusal(options: &[&str], path: Option<PathBuf>) -> String {
    // Nobody computes on the pretended device.
    let nobody = Path::new(env!("CARGO_TARGET_TMPDIR")).join("nobody-on-the-gpu");
    std::fs::create_dir_all(&nobody).unwrap();
    let mut command = worker_test();
    command
        .args(["--model", "tiny"])
        .args(options)
        .env("FAKE_GPU_DIR", nobody)
        .env_remove("CUDA_VISIBLE_DEVICES")
        .env_remove("CUDA_HOME")
        .env_remove("CUDA_PATH")
        .env_remove("CUDA_ROOT");
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let began = Instant::now();
    let output = command.output().unwrap();
    let took = began.elapsed();
    let said = said(&output);
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(took < LIMIT, "{took:?}\n{said}");
    for started in ["mock hive server", "Building the worker", "Starting"] {
        assert!(!said.contains(started), "{said}");
    }
    said
}

#[test]
#[cfg(not(target_os = "macos"))]
fn metal_is_refused_where_there_is_none() {
    let said = refusal(&["--backend", "metal"], None);
    assert!(said.contains("no Metal device"), "{said}");
    assert!(said.contains("--backend cpu"), "{said}");
}

#[test]
#[cfg(target_os = "linux")]
fn a_compiler_that_is_missing_is_named_with_the_way_to_get_it() {
    if Path::new("/usr/local/cuda/bin/nvcc").exists() {
        eprintln!("this machine has a CUDA compiler, so none is missing");
        return;
    }
    let empty = Path::new(env!("CARGO_TARGET_TMPDIR")).to_owned();
    let said = refusal(&["--backend", "cuda", "--device", "0"], Some(empty));
    assert!(said.contains("no CUDA compiler"), "{said}");
    assert!(said.contains("get it:"), "{said}");
    let has_node = [
        "/dev/nvidiactl",
        "/dev/nvidia0",
        "/dev/nvhost-gpu",
        "/dev/dxg",
    ];
    if !has_node.iter().any(|node| Path::new(node).exists()) {
        assert!(
            said.contains("no NVIDIA driver and no NVIDIA device"),
            "{said}"
        );
    }
}

#[test]
#[cfg(unix)]
fn a_device_that_is_not_there_is_named_with_those_that_are() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fake_gpu");
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([tools].into_iter().chain(std::env::split_paths(&path)));
    let options = [
        "--backend",
        "cuda",
        "--device",
        "7",
        "--worker-bin",
        xtask::FAULTY_WORKER,
    ];
    let said = refusal(&options, Some(path.unwrap().into()));
    assert!(
        said.contains("no NVIDIA device 7: there is 0 (Fake GPU 9000)"),
        "{said}"
    );
    assert!(said.contains("try: --device 0"), "{said}");
}
