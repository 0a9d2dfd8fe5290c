"""Bends payloads on their way out, as the active fault says; a good worker's pass through unchanged.

Each function takes what the contract promises and returns what is sent. What a fault does to behaviour
rather than to a payload lives where that behaviour is.
"""

import time

from . import variants
from .faults import active, chosen
from .wire import to_json


def _without(payload, name):
    return {key: value for key, value in payload.items() if key != name}


# Health and ready

HEALTH = {
    "start.health_says_loaded": lambda body: dict(body, model_loaded=True),
    "start.health_wrong_worker_id": lambda body: dict(body, worker_id="somebody-else"),
    "start.health_no_worker_id": lambda body: _without(body, "worker_id"),
    "start.health_no_model_loaded": lambda body: _without(body, "model_loaded"),
    "start.health_no_status": lambda body: _without(body, "status"),
    "start.health_wrong_status": lambda body: dict(body, status="ok"),
    "start.health_loaded_string": lambda body: dict(body, model_loaded=str(body["model_loaded"]).lower()),
    "start.health_never_loaded": lambda body: dict(body, model_loaded=False),
    "stop.health_says_healthy": lambda body: dict(body, status="healthy" if body["model_loaded"] else "loading"),
}


def health(status, body):
    """The status and body of health."""
    if active("start.health_503_while_loading") and not body["model_loaded"]:
        return 503, body
    return status, chosen(HEALTH, lambda same: same)(body)


def ready(status, body, headers):
    """The status, body and headers of ready."""
    reason = body.get("reason")
    if active("start.ready_while_loading") and reason == "loading":
        return 200, {"ready": True}, {}
    if active("stop.ready_while_draining") and reason == "draining":
        return 200, {"ready": True}, {}
    if active("start.ready_never_true") and status == 200:
        return 503, {"ready": False, "reason": "loading"}, {"Retry-After": "1"}
    if active("start.ready_503_true") and status == 200:
        return 503, body, {"Retry-After": "1"}
    if active("start.ready_200_false") and status == 503:
        return 200, body, {}
    if active("start.ready_no_reason"):
        return status, _without(body, "reason"), headers
    if active("start.ready_no_retry_after"):
        return status, body, {}
    return status, body, headers


# Answers to an inference, plain and at the end of a stream

ANSWER = {
    "infer.zero_tokens": lambda body: dict(
        body, text="", tokens=0, usage=dict(body["usage"], completion_tokens=0)
    ),
    "infer.empty_text": lambda body: dict(body, text=""),
    "infer.tokens_miscounted": lambda body: dict(body, tokens=body["tokens"] + 1),
    "infer.usage_differs": lambda body: dict(
        body, usage=dict(body["usage"], completion_tokens=body["tokens"] - 1)
    ),
    "infer.usage_missing": lambda body: _without(body, "usage"),
    "infer.prompt_tokens_zero": lambda body: dict(body, usage=dict(body["usage"], prompt_tokens=0)),
    "infer.prompt_tokens_constant": lambda body: dict(body, usage=dict(body["usage"], prompt_tokens=1)),
    "infer.timings_missing": lambda body: _without(body, "timings"),
    "infer.timings_negative": lambda body: dict(
        body, timings=dict(body["timings"], decode_ms=-body["timings"]["decode_ms"] - 1)
    ),
    "infer.timings_impossible": lambda body: dict(
        body, timings=dict(body["timings"], decode_ms=body["timings"]["decode_ms"] * 100 + 60000)
    ),
    "infer.finish_always_length": lambda body: dict(body, finish_reason="length"),
    "infer.finish_always_stop": lambda body: dict(body, finish_reason="stop"),
    "infer.finish_missing": lambda body: _without(body, "finish_reason"),
    "infer.finish_unknown": lambda body: dict(body, finish_reason="done"),
}


def answer(body):
    """What a plain answer says; at a stream's end the same without the text."""
    return chosen(ANSWER, lambda same: same)(body)


# Streams: generators over (name, data); data is a dict, or bytes where it is not JSON

END = {
    "stream.end_no_usage": lambda body: _without(body, "usage"),
    "stream.end_no_timings": lambda body: _without(body, "timings"),
    "stream.end_no_finish_reason": lambda body: _without(body, "finish_reason"),
    "stream.end_count_wrong": lambda body: dict(body, tokens=body["tokens"] + 1),
    "stream.end_reason_wrong": lambda body: dict(
        body, finish_reason="stop" if body["finish_reason"] == "length" else "length"
    ),
}

LATE_TOKEN = ("token", {"index": 9999, "text": "more"})
LATE_ERROR = ("error", {"error": {"code": "internal", "message": "after the end"}})
MIDWAY_ERROR = ("error", {"error": {"code": "internal", "message": "the engine gave up"}})


def events(source):
    """The events of one stream, as they are to be sent."""
    end, token, around = chosen(END), chosen(TOKENS), chosen(AROUND)
    if end:
        return ((name, end(data) if name == "end" else data) for name, data in source)
    if token:
        return _tokens(source, token)
    return around(source) if around else source


def _tokens(source, bend):
    for name, data in source:
        if name == "token":
            name, data = bend(name, data)
        yield name, data


# The token, by its index, that the faults of a single token befall.
VICTIM = 3


def _only_victim(change):
    return lambda name, data: (name, change(data) if data["index"] == VICTIM else data)


TOKENS = {
    "stream.index_gap": lambda name, data: (name, dict(data, index=data["index"] + (data["index"] >= VICTIM))),
    "stream.index_from_one": lambda name, data: (name, dict(data, index=data["index"] + 1)),
    "stream.index_repeats": lambda name, data: (name, dict(data, index=data["index"] - (data["index"] == VICTIM))),
    "stream.extra_space": lambda name, data: (name, dict(data, text=data["text"] + " ")),
    "stream.missing_text": _only_victim(lambda data: dict(data, text="")),
    "stream.differs_from_plain": _only_victim(lambda data: dict(data, text=data["text"].swapcase() + "~")),
    "stream.bad_json": _only_victim(lambda data: b"{'index': %d, 'text': 'x'}" % data["index"]),
    "stream.unnamed_events": lambda name, data: ("", data),
    "infer.zero_tokens": lambda name, data: ("", None),
    "infer.empty_text": lambda name, data: (name, dict(data, text="")),
}


def _truncated(source):
    return (event for event in source if event[0] == "token")


def _then(*more):
    def stream(source):
        for event in source:
            yield event
        for event in more:
            yield event

    return stream


def _double_end(source):
    for event in source:
        yield event
        if event[0] == "end":
            yield event


def _error_midway(source):
    for count, event in enumerate(source):
        if count == 5:
            yield MIDWAY_ERROR
            return
        yield event


def _buffered(source):
    return iter(list(source))


def _buffered_as_prefill(source):
    held = list(source)
    timings = held[-1][1]["timings"]
    timings["prefill_ms"] += timings["decode_ms"]
    timings["decode_ms"] = 0
    return iter(held)


def _batched(size):
    def stream(source):
        batch = []
        for event in source:
            batch.append(event)
            if len(batch) == size or event[0] != "token":
                yield from batch
                batch = []

    return stream


AROUND = {
    "stream.truncated": _truncated,
    "stream.double_end": _double_end,
    "stream.tokens_after_end": _then(LATE_TOKEN),
    "stream.error_after_end": _then(LATE_ERROR),
    "stream.error_midway": _error_midway,
    "stream.buffered": _buffered,
    "stream.buffered_as_prefill": _buffered_as_prefill,
    "stream.pairs": _batched(2),
    "stream.batched": _batched(8),
}


def raw_token(index, piece):
    """A token event with the bytes of the token as they are, whole characters or not."""
    return b'{"index":%d,"text":"%s"}' % (index, piece)


# Errors: fault -> (code that it befalls, status or code that is sent instead)

ERROR_STATUS = {
    "error.malformed_json_status": ("malformed_json", 500),
    "error.media_type_status": ("unsupported_media_type", 400),
    "error.invalid_field_status": ("invalid_field", 400),
    "error.not_found_status": ("not_found", 200),
    "error.method_status": ("method_not_allowed", 404),
    "error.oversize_status": ("body_too_large", 400),
    "error.context_status": ("context_length_exceeded", 500),
    "error.queue_status": ("queue_full", 503),
    "error.bad_framing_500": ("bad_request", 500),
    "error.unauthorized_status": ("unauthorized", 403),
    "start.inference_500_while_loading": ("not_ready", 500),
}
ERROR_CODE = {
    "error.malformed_json_code": ("malformed_json", "bad_request"),
    "error.media_type_code": ("unsupported_media_type", "bad_request"),
    "error.invalid_field_code": ("invalid_field", "bad_request"),
    "error.not_found_code": ("not_found", "unknown_route"),
    "error.method_code": ("method_not_allowed", "bad_request"),
    "error.oversize_code": ("body_too_large", "bad_request"),
    "error.context_code": ("context_length_exceeded", "invalid_field"),
    "error.queue_code": ("queue_full", "busy"),
    "error.unauthorized_code": ("unauthorized", "forbidden"),
}
ERROR_HEADER = {
    "error.method_no_allow": ("method_not_allowed", "Allow"),
    "error.queue_no_retry_after": ("queue_full", "Retry-After"),
    "start.not_ready_no_retry_after": ("not_ready", "Retry-After"),
}


def error(refusal):
    """The status, headers, content type and body of a refusal."""
    status, code, headers, kind = refusal.status, refusal.code, dict(refusal.headers), "application/json"
    of_status, of_header, of_code = (chosen(rows, ("", "")) for rows in (ERROR_STATUS, ERROR_HEADER, ERROR_CODE))
    if of_status[0] == code:
        status = of_status[1]
    if of_header[0] == code:
        del headers[of_header[1]]
    if of_code[0] == code:
        code = of_code[1]
    message, field = refusal.message, refusal.field
    if active("error.no_message"):
        message = ""
    if active("error.vague_message"):
        message = "invalid request"
    if active("error.allowed_unsaid"):
        message = message.partition("; allowed")[0]
    if active("error.wrong_field") and field:
        field = "seed" if field == "prompt" else "prompt"
    what = {"code": code, "message": message}
    if field and not active("error.no_field"):
        what["field"] = field
    body = to_json({"error": message if active("error.flat") else what})
    if active("error.plain_text"):
        kind, body = "text/plain; charset=utf-8", message.encode("utf-8", "replace")
    if active("error.html") or (active("error.not_found_html") and code == "not_found"):
        kind, body = "text/html", b"<html><body><h1>%d</h1></body></html>" % status
    if active("error.wrong_content_type"):
        kind = "text/html"
    return status, headers, kind, body


# Heartbeats

BEAT = {
    "beat.wrong_id": lambda beat: dict(beat, worker_id="somebody-else"),
    "beat.wrong_interval": lambda beat: dict(beat, interval_s=beat["interval_s"] + 7),
    "beat.wrong_port": lambda beat: dict(beat, port=beat["port"] ^ 1),
    "beat.wrong_backend": lambda beat: dict(beat, backend="cuda"),
    "beat.wrong_device": lambda beat: dict(beat, device=beat["device"] + 1),
    "beat.wrong_model_ref": lambda beat: dict(beat, model_ref="hf:somebody/else"),
    "beat.no_model_ref": lambda beat: _without(beat, "model_ref"),
    "beat.no_state": lambda beat: _without(beat, "state"),
    "beat.no_sequence": lambda beat: _without(beat, "sequence"),
    "beat.no_timestamp": lambda beat: _without(beat, "timestamp"),
    "beat.device_string": lambda beat: dict(beat, device=str(beat["device"])),
    "beat.timestamp_local": lambda beat: dict(beat, timestamp=beat["timestamp"].rstrip("Z")),
    "beat.timestamp_epoch": lambda beat: dict(beat, timestamp=time.time()),
    "beat.timestamp_old": lambda beat: dict(beat, timestamp=timestamp(time.time() - 3600)),
    "beat.sequence_stuck": lambda beat: dict(beat, sequence=1),
    "beat.sequence_gaps": lambda beat: dict(beat, sequence=beat["sequence"] * 2 - 1),
    "beat.sequence_from_zero": lambda beat: dict(beat, sequence=beat["sequence"] - 1),
    "beat.sequence_backwards": lambda beat: dict(beat, sequence=1001 - beat["sequence"]),
}
BEAT_STATE = {
    "beat.never_loading": ("Loading", "Ready"),
    "beat.never_ready": ("Ready", "Loading"),
    "beat.never_busy": ("Busy", "Ready"),
    "beat.unknown_state": ("Ready", "Idle"),
    "beat.lowercase_state": ("Ready", "ready"),
}


def beat(payload):
    """The JSON of one beat."""
    true, told = chosen(BEAT_STATE, ("", ""))
    if payload["state"] == true:
        return dict(payload, state=told)
    return chosen(BEAT, lambda same: same)(payload)


def timestamp(seconds):
    """Seconds since 1970 as RFC 3339 in UTC, with milliseconds."""
    whole = int(seconds)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    return variants.timestamp("%s.%03dZ" % (text, int((seconds - whole) * 1000)), seconds)
