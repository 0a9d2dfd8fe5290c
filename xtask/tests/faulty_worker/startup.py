"""From the command line to a config, or to the one error line. No sockets but the one it binds."""

import os
import signal
import socket
import sys
import time

from . import gguf, gpu
from .faults import active, chosen

# option -> (how its text is read, default); no default means that it must be given.
REQUIRED = object()


def _positive(text):
    value = float(text)
    if not 0 < value < float("inf"):
        raise ValueError
    return int(value) if value == int(value) else value


def _count(text):
    value = int(text)
    if value < 0:
        raise ValueError
    return value


def _port(text):
    value = _count(text)
    if value > 65535:
        raise ValueError
    return value


OPTIONS = {
    "--worker-id": (str, REQUIRED),
    "--model": (str, REQUIRED),
    "--model-ref": (str, REQUIRED),
    "--backend": (str, REQUIRED),
    "--device": (_count, REQUIRED),
    "--port": (_port, REQUIRED),
    "--hive-url": (str, REQUIRED),
    "--host": (str, "127.0.0.1"),
    "--heartbeat-interval": (_positive, 30),
    "--drain-timeout": (_positive, 10),
    "--threads": (_count, 1),
    "--ctx-size": (_count, 2048),
    "--max-queue": (_count, 16),
    "--log-format": (str, "text"),
}


# Workers that are quicker, slower, roomier or shorter-winded than the plain one: all of them are right.
TEMPERAMENTS = {
    "benign.instant": {"token_ms": 0, "prefill_ms": 0, "load_ms": 0},
    "benign.slow_load": {"load_ms": 3000},
    "benign.slow_model": {"token_ms": 30, "prefill_ms": 250},
    "benign.one_at_a_time": {"slots": 1},
    "benign.many_at_a_time": {"slots": 64},
    "benign.short_answers": {"answer_tokens": 13},
    "impostor.canned": {"answer_tokens": 9},
}


class CannotServe(Exception):
    """What goes after `error:` on stderr. `kind` is what the faults tell apart."""

    def __init__(self, what, cause, kind="usage", exit_code=1):
        super().__init__("%s: %s" % (what, cause))
        self.what = what
        self.kind = kind
        self.exit_code = exit_code


class Config:
    """The command line and the knobs of the environment, read and checked."""

    def __init__(self, argv):
        values = _read(argv)
        self.given = {name for name in OPTIONS if name in values}
        for name, (_, default) in OPTIONS.items():
            if name not in values and default is REQUIRED:
                raise CannotServe(name, "is missing", exit_code=2)
            setattr(self, name[2:].replace("-", "_"), values.get(name, default))
        self.token = os.environ.get("WORKER_API_TOKEN", "")
        self.load_ms = _knob("FAULTY_LOAD_MS", 50)
        self.token_ms = _knob("FAULTY_TOKEN_MS", 2)
        self.prefill_ms = _knob("FAULTY_PREFILL_MS", 5)
        self.slots = int(_knob("FAULTY_SLOTS", 2))
        self.answer_tokens = int(_knob("FAULTY_ANSWER_TOKENS", 0))
        self.leak_bytes = int(_knob("FAULTY_LEAK_BYTES", 0))
        self.leak_files = int(_knob("FAULTY_LEAK_FILES", 0))
        for name, value in chosen(TEMPERAMENTS, {}).items():
            setattr(self, name, value)


def _read(argv):
    values = {}
    words = list(argv)
    while words:
        name, equals, text = words.pop(0).partition("=")
        if name not in OPTIONS:
            raise CannotServe(name, "no such option", exit_code=2)
        if not equals:
            if not words:
                raise CannotServe(name, "needs a value", exit_code=2)
            text = words.pop(0)
        try:
            values[name] = OPTIONS[name][0](text)
        except ValueError:
            raise CannotServe(name, "%r is not a value for it" % text, exit_code=2) from None
    return values


def _knob(name, default):
    try:
        return max(0.0, float(os.environ.get(name, default)))
    except ValueError:
        raise CannotServe(name, "not a number", exit_code=2) from None


def check(config):
    """Raises `CannotServe` for whatever makes serving impossible before the port is opened."""
    forgiven = {
        "unknown_backend": "refuse.unknown_backend_served",
        "cuda": "refuse.cuda_falls_back",
        "metal": "refuse.metal_falls_back",
        "device": "refuse.unknown_device_served",
        "open_host": "refuse.open_host_without_token",
        "missing_model": "refuse.missing_model_served",
        "text_file": "refuse.text_file_served",
        "truncated": "refuse.truncated_served",
        "architecture": "refuse.architecture_served",
        "quantisation": "refuse.quantisation_served",
    }
    for step in (_check_backend, _check_host, _check_hive_url, _check_model):
        try:
            step(config)
        except CannotServe as error:
            if error.kind not in forgiven or not active(forgiven[error.kind]):
                raise


def _check_backend(config):
    if config.backend not in ("cpu", "cuda", "metal"):
        raise CannotServe("backend %s" % config.backend, "unknown, allowed are cpu, cuda and metal", "unknown_backend", 2)
    if config.backend != "cpu" and not (config.backend == "cuda" and gpu.folder()):
        cause = "this build has only the cpu backend"
        raise CannotServe("backend %s" % config.backend, cause, config.backend)
    if config.device != 0:
        raise CannotServe("device %d" % config.device, "the cpu backend has only device 0", "device")


def _check_host(config):
    loopback = config.host in ("localhost", "::1") or config.host.startswith("127.")
    if not loopback and not config.token:
        cause = "not a loopback address, which needs WORKER_API_TOKEN to be set"
        raise CannotServe("--host %s" % config.host, cause, "open_host")


def _check_hive_url(config):
    if not config.hive_url.startswith("http://") or not config.hive_url[7:].split("/")[0]:
        raise CannotServe("--hive-url %s" % config.hive_url, "not an http:// address", exit_code=2)


def _check_model(config):
    try:
        gguf.check(config.model)
    except gguf.BadModel as error:
        raise CannotServe("model %s" % config.model, error, error.kind) from None


def listen(config):
    """The listening socket."""
    family = socket.AF_INET6 if ":" in config.host else socket.AF_INET
    port = 0 if active("start.wrong_port") else config.port
    host = "0.0.0.0" if active("start.listens_everywhere") else config.host
    listener = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(512)
    except OSError as error:
        if active("refuse.taken_port_moves"):
            listener.bind((config.host, 0))
            listener.listen(512)
        elif active("refuse.taken_port_stays"):
            time.sleep(60)
        else:
            cause = error.strerror or str(error)
            raise CannotServe("cannot listen on %s port %d" % (config.host, port), cause) from None
    return listener


def refuse(error):
    """Ends the process over a start-up error, in the way that the contract or the fault says."""
    if active("refuse.traceback"):
        frames = "".join("  at engine/load.rs:%d\n" % line for line in range(20))
        sys.stderr.write("thread 'main' panicked: %s\n%s" % (error, frames))
    elif active("refuse.no_cause"):
        sys.stderr.write("error: cannot start\n")
    elif active("refuse.on_stdout"):
        sys.stdout.write("error: %s\n" % error)
        sys.stdout.flush()
    elif not active("refuse.silent"):
        sys.stderr.write("error: %s\n" % str(error).replace("\n", " "))
    sys.stderr.flush()
    if active("refuse.slow"):
        time.sleep(5)
    if active("refuse.hangs"):
        time.sleep(60)
    if active("refuse.crashes"):
        signal.raise_signal(signal.SIGSEGV)
    os._exit(0 if active("refuse.exits_zero") else error.exit_code)
