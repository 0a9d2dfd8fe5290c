"""The worker's life: load, serve, drain, exit. Joins all the other parts."""

import os
import queue
import signal
import subprocess
import sys
import threading
import time

from . import gpu, log, mishap, startup
from .engine import Places
from .faults import ACTIVE, BY_ID, active, chosen, print_table
from .heartbeat import Heartbeat
from .knowledge import Knowledge
from .server import Server

# How long the last beat may take before the process ends without it.
LAST_BEAT_S = 2


class Worker:
    """What all parts know about this worker: its config, its state, its places."""

    def __init__(self, config):
        self.config = config
        self.places = Places(config.slots, config.max_queue)
        self.knowledge = Knowledge(config.model)
        self.loaded = threading.Event()
        self.draining = False
        self.cut = False
        self.served = 0
        self.leaked = []
        self.said_ready = 0
        self.answering = 0
        self.heartbeat = None
        self.lock = threading.Lock()
        self.last_state = "Loading"

    def state(self):
        """Loading, Ready, Busy or Draining."""
        if self.draining:
            return "Draining"
        if not self.loaded.is_set():
            return "Loading"
        if self.places.busy() or (active("beat.stays_busy") and self.served):
            return "Busy"
        return "Ready"

    def refresh_state(self):
        """Tells the hive when the state is another than before."""
        with self.lock:
            state = self.state()
            if state != self.last_state:
                self.last_state = state
                self.heartbeat.state_changed(state)

    def answering_changed(self, by):
        """One more or one fewer request is being answered."""
        with self.lock:
            self.answering += by


def main(argv):
    """Runs the worker; the process ends in here."""
    if argv == ["--list-faults"]:
        print_table()
        return
    config = None
    try:
        for fault_id in ACTIVE:
            if fault_id not in BY_ID:
                raise startup.CannotServe("WORKER_FAULT %s" % fault_id, "no such fault, see --list-faults", exit_code=2)
        signals = catch_signals()
        config = startup.Config(argv)
        log.use_json(config.log_format == "json")
        startup.check(config)
        if active("start.port_opens_late"):
            time.sleep(2)
        if active("benign.slow_start"):
            time.sleep(0.3)
        listeners = startup.listen(config)
    except startup.CannotServe as error:
        if config and (active("beat.no_last_word") or active("benign.says_failed")):
            tell_of_failure(config)
        startup.refuse(error)
    worker = Worker(config)
    port = listeners[0].getsockname()[1]
    worker.heartbeat = Heartbeat(config, port, worker.state, worker.places.running)
    worker.heartbeat.start()
    server = Server(listeners, worker)
    worker.heartbeat.connections = server.connections
    server.start()
    announce(config, port)
    load(worker, signals)
    misbehave()
    wait_for(signals, None)
    stop(worker, listeners)


def catch_signals():
    """The first signal goes into the queue that is returned; a second one ends the process at once."""
    signals = queue.SimpleQueue()
    seen = []

    def on_signal(number, _frame):
        if seen and not active("stop.second_signal_ignored"):
            os._exit(128 + number)
        seen.append(number)
        signals.put(number)

    for name in ("SIGINT", "SIGTERM", "SIGBREAK"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), on_signal)
    if active("stop.sigterm_ignored"):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if active("stop.sigint_ignored"):
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    if active("stop.killed_by_sigterm"):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if active("robust.dies_on_sigcont"):
        signal.signal(signal.SIGCONT, lambda *_: os._exit(1))
    return signals


def wait_for(signals, limit_s):
    """Waits for a signal; returns whether one came within the limit."""
    until = None if limit_s is None else time.monotonic() + limit_s
    while True:
        left = 0.25 if until is None else min(0.25, until - time.monotonic())
        try:
            # Short waits, because on Windows a wait isn't interrupted by a signal.
            return bool(signals.get(timeout=max(0.0, left)))
        except queue.Empty:
            if until is not None and time.monotonic() >= until:
                return False


def announce(config, port):
    """The first lines of the log."""
    log.info("Worker %s loads %s (%s)" % (config.worker_id, config.model, config.model_ref))
    log.info("Listening on %s port %d, backend %s, device %d" % (config.host, port, config.backend, config.device))
    if active("auth.token_logged"):
        log.info("Requests need the token %s" % config.token)
    if active("log.flood"):
        threading.Thread(target=log.flood, daemon=True).start()


def load(worker, signals):
    """The loading phase; a signal within it ends the process."""
    load_s = worker.config.load_ms / 1000
    mishap.at("loading")
    for fault_id in ACTIVE:
        load_s = max(load_s, BY_ID[fault_id].load_ms / 1000)
    if active("start.never_ready"):
        load_s = 1e9
    if active("crash.exits_while_loading"):
        time.sleep(load_s)
        os._exit(1)
    if active("stop.ignored_while_loading"):
        time.sleep(load_s)
    elif wait_for(signals, load_s):
        stop(worker, ())
    if active("hive.waits_for_hive"):
        worker.heartbeat.taken.wait()
    gpu.take(worker.config)
    worker.loaded.set()
    log.info("Model loaded successfully")
    worker.refresh_state()
    log.info("Worker ready, starting HTTP server")


def tell_of_failure(config):
    """The beats of a worker that finds out only when it has told the hive that it is there."""
    heartbeat = Heartbeat(config, config.port, lambda: "Loading", lambda: False)
    heartbeat.start()
    if active("benign.says_failed"):
        heartbeat.due("Failed")
    heartbeat.drain(LAST_BEAT_S)


def misbehave():
    """Faults that begin of themselves once the worker is ready."""
    if active("stop.grandchild_left"):
        code = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(60)"
        subprocess.Popen([sys.executable, "-c", code])
    if active("stop.orphan_left"):
        # Elsewhere than on Linux nobody can find what has dropped its environment.
        naked = "env -i" if sys.platform == "linux" else ""
        quiet = "< /dev/null > /dev/null 2>&1"
        command = "%s %s -c 'import os, time; os.setsid(); time.sleep(60)' %s &"
        subprocess.run(["sh", "-c", command % (naked, sys.executable, quiet)], check=True)
    if mishap.STAGE == "idle":
        time.sleep(0.3)
        mishap.at("idle")
    ends = {"crash.segv_after_ready": "SIGSEGV", "crash.abort_after_ready": "SIGABRT", "crash.freezes": "SIGSTOP"}
    end = chosen(ends)
    if end:
        time.sleep(0.3)
        os.kill(os.getpid(), getattr(signal, end))


def stop(worker, listeners):
    """Drains and ends the process."""
    loading = not worker.loaded.is_set()
    log.info("Stopping: finishing what runs, for up to %g s" % worker.config.drain_timeout)
    worker.draining = True
    # Before the beat that says so: what befalls it now must not depend on who is quicker.
    mishap.at("draining")
    if not active("beat.draining_late"):
        worker.refresh_state()
    if active("stop.cuts_stream"):
        worker.heartbeat.drain(LAST_BEAT_S)
        os._exit(0)
    for listener in listeners if active("stop.port_closed_while_draining") else ():
        close_port(listener)
    limit_s = 1e9 if active("stop.drains_for_ever") else worker.config.drain_timeout
    if not wait_until(lambda: worker.answering == 0, limit_s):
        log.warn("Stopping: time is over, what still runs is cut")
        worker.cut = True
        wait_until(lambda: worker.answering == 0, 1)
    if active("stop.slow"):
        time.sleep(15)
    worker.refresh_state()
    worker.heartbeat.drain(LAST_BEAT_S)
    gpu.release()
    log.info("Worker stopped")
    if active("benign.openai_ends_by_signal"):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGTERM)
    failed = active("stop.exits_nonzero") or (loading and active("stop.nonzero_while_loading"))
    os._exit(1 if failed else 0)


def close_port(listener):
    """Takes no more connections; shutting down first wakes the thread that accepts."""
    import socket

    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def wait_until(is_so, limit_s):
    """Returns whether it became so within the limit."""
    until = time.monotonic() + limit_s
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True
