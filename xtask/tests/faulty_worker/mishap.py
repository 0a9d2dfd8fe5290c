"""What befalls a worker, its hive or the run around it at a stage of the worker's life, where
FAULTY_MISHAP=WHAT@STAGE asks for it.

WHAT is the name of a signal, `panic` (the exit of a program that gives up), `memory` (an allocation that
can't be met), `files` (no descriptor is left), `hive` (the run's hive is killed), or one of these after
`run.`: then it befalls the process that has started the worker, to which `disk` (nothing can be written
any more) can happen, too.
"""

import os
import signal
import time

WHAT, _, STAGE = os.environ.get("FAULTY_MISHAP", "").partition("@")
PAUSE_S = 0.4
# The generation that it happens in: by the first one a run learns how long to wait for an answer.
GENERATION = 2
seen = {}


def at(stage):
    """The worker is at this stage now."""
    seen[stage] = seen.get(stage, 0) + 1
    if stage != STAGE or seen[stage] != (GENERATION if stage in ("prefill", "decode") else 1):
        return
    if WHAT.startswith("run."):
        befall_run(WHAT[4:], os.getppid())
    elif WHAT == "hive":
        os.kill(hive_of(os.getppid()), signal.SIGKILL)
    elif WHAT == "panic":
        os.write(2, b"thread 'engine' panicked at engine.rs:1: rehearsed\n")
        os._exit(101)
    elif WHAT == "memory":
        run_out_of_memory()
    elif WHAT == "files":
        limit(os.getpid(), "RLIMIT_NOFILE", 0)
    else:
        os.kill(os.getpid(), getattr(signal, WHAT))
    # A signal that is handled is handled a moment later.
    time.sleep(0.05)


def befall_run(what, run):
    """The same to the run."""
    if what == "disk":
        limit(run, "RLIMIT_FSIZE", 0)
    elif what == "files":
        limit(run, "RLIMIT_NOFILE", 0)
    elif what == "memory":
        with open("/proc/%d/statm" % run) as statm:
            pages = [int(count) for count in statm.read().split()]
        # No new mapping, and nothing more in those that are there.
        limit(run, "RLIMIT_AS", pages[0] * os.sysconf("SC_PAGE_SIZE"))
        limit(run, "RLIMIT_DATA", pages[5] * os.sysconf("SC_PAGE_SIZE"))
    else:
        os.kill(run, getattr(signal, what))
    if what == "SIGSTOP":
        time.sleep(PAUSE_S)
        os.kill(run, signal.SIGCONT)


def run_out_of_memory():
    """Ends as a program does that can't have what it needs."""
    limit(os.getpid(), "RLIMIT_AS", 1 << 20)
    try:
        bytearray(1 << 30)
    except MemoryError:
        os.write(2, b"memory allocation of 1073741824 bytes failed\n")
        os.abort()


def limit(pid, what, most):
    """Gives the process no more of this than that."""
    import resource

    _, hard = resource.prlimit(pid, getattr(resource, what))
    resource.prlimit(pid, getattr(resource, what), (most, hard))


def hive_of(run):
    """The child of the run that isn't a worker."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/stat" % pid) as stat, open("/proc/%s/cmdline" % pid) as command:
                parent = int(stat.read().rpartition(")")[2].split()[1])
                if parent == run and "mock_hive" in command.read():
                    return int(pid)
        except OSError:
            continue
    raise SystemExit("the run has no hive")
