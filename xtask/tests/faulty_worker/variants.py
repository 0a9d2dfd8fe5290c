"""Well-behaved but different: ways of keeping every promise that another worker may have of its own.

A harness that blames one of these holds workers to what nobody promised. Each function takes what the
plain worker sends and gives what this variant sends instead; where no variant is active, the same.
Timing variants are in `startup.py` and `heartbeat.py`, where the plain ones are.
"""

import time

from .faults import active

# How the HTTP of a variant differs.
VERSION = "HTTP/1.0" if active("benign.http10") else "HTTP/1.1"
CLOSES = active("benign.http10") or active("benign.closes")
# What answers say of idle connections, and for how long those are kept; for ever without a word.
KEEP_ALIVE = "timeout=1" if active("benign.short_keep_alive") else None
IDLE_LIMIT_S = 1.0 if active("benign.short_keep_alive") or active("benign.openai_short_keep_alive") else None
SLICE_BYTES = 7
PAUSE_S = 0.01


def header(name):
    """A header's name, in the case that this worker likes."""
    if active("benign.header_case"):
        return name.lower() if len(name) % 2 else name.upper()
    return name


def content_type(kind):
    """A content type, spelt in another way."""
    if active("benign.header_case"):
        return kind.title().replace("Json", "JSON") + " ; charset=UTF-8"
    return kind


def body_framing(body):
    """The header that says how long the body is, and the body as it is sent."""
    if active("benign.http10"):
        return [], body
    if active("benign.chunked_answers"):
        half = len(body) // 2
        pieces = [piece for piece in (body[:half], body[half:]) if piece]
        coded = b"".join(b"%X;note=x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
        return [header("Transfer-Encoding") + ": chunked"], coded + b"0\r\n\r\n"
    return [header("Content-Length") + ": %d" % len(body)], body


def slices(data):
    """The pieces in which bytes are handed to the system."""
    if active("benign.split_writes"):
        return [data[at : at + SLICE_BYTES] for at in range(0, len(data), SLICE_BYTES)]
    return [data]


def halves(data):
    """Whole answers in two writes with a pause between them."""
    if not active("benign.split_answers"):
        yield data
        return
    middle = len(data) // 2
    yield data[:middle]
    time.sleep(PAUSE_S)
    yield data[middle:]


def payload(value):
    """Other fields in another order."""
    if active("benign.more_fields") and isinstance(value, dict):
        inner = {name: payload(item) for name, item in reversed(list(value.items()))}
        return dict({"id": "cmpl-1", "model": None, "extra": {"list": [1, None]}}, **inner)
    if active("benign.whole_floats"):
        return _floats(value)
    return value


def _floats(value):
    if isinstance(value, dict):
        return {name: _floats(item) for name, item in value.items()}
    is_count = isinstance(value, int) and not isinstance(value, bool)
    return float(value) if is_count else value


def json_style():
    """How JSON is laid out."""
    if active("benign.pretty_json"):
        return {"ensure_ascii": True, "indent": 2, "sort_keys": True}
    return {"ensure_ascii": False, "separators": (",", ":")}


def sse(name, data):
    """One event as bytes."""
    lines = [b"event: " + name.encode()] if name else []
    lines += [b"data: " + line for line in data.split(b"\n")]
    end = b"\n"
    if active("benign.sse_style"):
        lines = [b": a comment", b"id: 7", b"retry: 1000"] + [line.replace(b": ", b":", 1) for line in lines[::-1]]
        end = b"\r\n"
    return end.join(lines) + end + end


def log_line(level, message, as_json):
    """A log line in other words; `None` for the plain ones."""
    if not active("benign.other_logs"):
        return None
    if as_json:
        return {"ts": time.time(), "level": level.lower(), "message": message, "timestamp": "now", "pid": 1}
    return "%s:worker.main:%s" % ({"WARN": "WARNING"}.get(level, level), message.replace("Refused", "Sent away"))


def timestamp(plain, seconds):
    """The time with microseconds and a numeric zone."""
    if active("benign.other_timestamps"):
        return plain[:-4] + "%06d+00:00" % (seconds % 1 * 1e6)
    return plain
