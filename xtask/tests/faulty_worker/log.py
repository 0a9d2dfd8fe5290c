"""Log lines on stderr: one line an event, level first."""

import json
import os
import sys
import threading
import time

from . import variants
from .faults import active

_as_json = False
_lock = threading.Lock()


def use_json(wanted):
    """Chooses between text and JSON lines."""
    global _as_json
    _as_json = wanted and not active("log.json_ignored")


def is_json():
    """Whether log lines are JSON."""
    return _as_json


def info(message):
    """Something went as it should."""
    _write("INFO", message)


def warn(message):
    """Something went wrong that the worker copes with."""
    _write("WARN", message)


def _write(level, message):
    if active("log.none"):
        return
    other = variants.log_line(level, message, _as_json)
    if other is not None:
        line = json.dumps(other) if _as_json else other
    elif _as_json:
        line = json.dumps({"level": level, "message": message, "timestamp": time.time()})
    else:
        line = "[%s] %s" % (level, message)
    if active("log.other_words"):
        line = "[%s] %s" % (level, message.replace("Model loaded", "Loaded the model"))
    if active("log.no_level"):
        line = message
    if active("log.events_over_lines"):
        line = "[%s]\n    %s\n    end of event" % (level, message)
    stream = sys.stdout if active("log.on_stdout") else sys.stderr
    with _lock:
        try:
            stream.write(line + "\n")
            stream.flush()
        except OSError:
            # Nobody reads the log any more; that is no reason to stop serving.
            pass


def flood():
    """Writes some thousand lines a second for as long as the process lives."""
    while True:
        os.write(2, b"[DEBUG] polling the queue, which is empty\n" * 50)
        time.sleep(0.01)
