"""One request and its answer: the routes, and an inference from its bytes to its last event."""

import hmac
import ipaddress
import os
import time

from . import distort, variants
from .engine import Generation, QueueFull
from .faults import active
from .options import ApiError, Options, malformed, parse_json
from .watch import RETRY_LATER, Cut, Watch, not_ready
from .wire import BODY_LIMIT, STALL_S, ClientGone, bad_request, to_json


class Exchange:
    """One request and its answer."""

    ROUTES = {"/v1/health": ("GET",), "/v1/ready": ("GET",), "/v1/inference": ("POST",)}

    def __init__(self, server, connection, head):
        self.server = server
        self.worker = server.worker
        self.config = server.worker.config
        self.connection = connection
        self.head = head
        # Where a fault reads the body before its time.
        self.body_read = None

    def run(self):
        """Answers, or raises the refusal."""
        self._check_host()
        self._check_token()
        methods = self.ROUTES.get(self.head.path)
        if methods is None and active("error.method_before_path") and self.head.method not in ("GET", "POST"):
            raise ApiError(405, "method_not_allowed", "no path has that method", headers={"Allow": "GET"})
        if methods is None:
            allowed = ", ".join(self.ROUTES)
            raise ApiError(404, "not_found", "no path %.80s; there are: %s" % (self.head.path, allowed))
        if self.head.method not in methods:
            if active("error.get_inference_taken") and self.head.method == "GET":
                self._answer(200, {})
                return
            if active("error.head_taken") and self.head.method == "HEAD":
                self._answer(200, {})
                return
            if active("error.options_taken") and self.head.method == "OPTIONS":
                self._answer(200, {}, {"Allow": ", ".join(methods)})
                return
            message = "%.20s is not a method of %s; allowed: %s"
            message %= (self.head.method, self.head.path, ", ".join(methods))
            raise ApiError(405, "method_not_allowed", message, headers={"Allow": ", ".join(methods)})
        {"/v1/health": self._health, "/v1/ready": self._ready, "/v1/inference": self._inference}[self.head.path]()

    def _check_host(self):
        """A name that somebody else can point here lets pages in a browser ask, where no token is needed."""
        open_path = active("error.foreign_host_health") and self.head.path == "/v1/health"
        if self.config.token or open_path or active("error.foreign_host_taken"):
            return
        host = self.head.headers.get("host", "localhost")
        if not names_this_machine(host):
            message = "host: got %.80s, allowed without a token are localhost and addresses" % host
            raise ApiError(403, "forbidden_host", message)

    def _check_token(self):
        token = self.config.token
        open_path = active("auth.health_open") and self.head.path == "/v1/health"
        open_path = open_path or (active("auth.open_beside_paths") and self.head.path not in self.ROUTES)
        open_here = active("auth.open_on_loopback") and self.config.host in ("127.0.0.1", "localhost")
        if not token or active("auth.token_not_asked") or open_path or open_here:
            return
        kind, _, given = self.head.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            if hmac.compare_digest(given.strip().encode("latin-1"), token.encode()) and not self.server.locked:
                return
            self.server.locked = active("auth.locked_after_wrong")
            if active("auth.wrong_token_taken"):
                return
            if active("auth.prefix_taken") and given and token.startswith(given):
                return
        message = "no valid token came; every request needs Authorization: Bearer TOKEN"
        raise ApiError(401, "unauthorized", message, headers={"WWW-Authenticate": "Bearer"})

    def _answer(self, status, body, headers=None, kind="application/json"):
        data = body if isinstance(body, bytes) else to_json(body)
        keep_alive = self.server.may_go_on(self.connection, self.head)
        if self.head.method == "HEAD":
            data = b""
        self.connection.answer(status, headers or {}, kind, data, keep_alive)

    def _health(self):
        busy = self.worker.places.running
        while active("load.health_blocked") and busy():
            time.sleep(0.01)
        if active("load.health_slow") and busy():
            time.sleep(0.4)
        if active("load.health_500") and busy():
            raise ApiError(500, "internal", "too busy")
        if active("start.health_500"):
            raise ApiError(500, "internal", "health is unknown")
        if active("start.health_plain_text"):
            self._answer(200, b"OK", kind="text/plain")
            return
        state = self.worker.state()
        status = {"Loading": "loading", "Draining": "draining"}.get(state, "healthy")
        body = {"status": status, "model_loaded": self.worker.loaded.is_set(), "worker_id": self.config.worker_id}
        self._answer(*distort.health(200, body))

    def _ready(self):
        while active("load.ready_blocked") and self.worker.places.running():
            time.sleep(0.01)
        reason = {"Loading": "loading", "Draining": "draining"}.get(self.worker.state())
        if not reason:
            self.worker.said_ready += 1
            if active("start.ready_flickers") and self.worker.said_ready == 2:
                reason = "loading"
        if active("load.ready_false") and self.worker.places.running():
            reason = "loading"
        if reason:
            self._answer(*distort.ready(503, {"ready": False, "reason": reason}, RETRY_LATER))
        else:
            self._answer(*distort.ready(200, {"ready": True}, {}))

    # One inference

    def _inference(self):
        options = self._options()
        self._check_ready()
        self._check_context(options)
        self._suffer()
        watch = Watch(self.server, self.connection, options.stream)
        arrived = time.monotonic()
        try:
            waited = self.worker.places.enter(watch.check_waiting)
        except QueueFull:
            message = "the queue is full: %d requests wait already" % self.config.max_queue
            raise ApiError(429, "queue_full", message, headers=RETRY_LATER) from None
        watch.has_place = True
        self.worker.refresh_state()
        try:
            self._check_place(waited, watch)
            generation = Generation(options, self.config, watch.pause, self.worker.knowledge, self._shift())
            generation.queue_ms = (time.monotonic() - arrived) * 1000
            as_stream = (options.stream or active("infer.streams_always")) and not active("infer.stream_ignored")
            (self._stream if as_stream else self._plain)(generation, watch)
        except ClientGone:
            watch.client_left()
            raise
        finally:
            watch.leave_place()
            self._after_inference()

    def _options(self):
        if active("error.json_before_type"):
            body = self.connection.read_body(self.head, self._body_limit())
            parse_json(body or b"{}")
            self.body_read = body
        if active("error.size_before_type"):
            self.body_read = self.connection.read_body(self.head, self._body_limit())
        kind = self.head.headers.get("content-type")
        allowed = kind is not None and kind.partition(";")[0].strip().lower() == "application/json"
        if active("error.utf8_refused") and kind is not None and kind.lower().endswith("charset=utf8"):
            allowed = False
        allowed = allowed or active("error.media_type_ignored")
        if not allowed and not (kind is None and active("error.no_media_type_taken")):
            message = "the content type is %.80s; allowed: application/json" % (kind or "missing")
            raise ApiError(415, "unsupported_media_type", message)
        if self.head.is_chunked() and active("error.chunked_refused"):
            raise bad_request("chunked bodies are not supported")
        body = self.body_read
        if body is None:
            body = self.connection.read_body(self.head, self._body_limit())
        if not body.strip():
            raise malformed("the body is empty; allowed: a JSON object")
        value = parse_json(body)
        if active("error.context_before_field") and isinstance(value, dict):
            most = value.get("max_tokens")
            if isinstance(most, int) and most > self.config.ctx_size:
                raise ApiError(422, "context_length_exceeded", "max_tokens is %d; allowed: less" % most, "max_tokens")
        return Options(value)

    def _body_limit(self):
        if active("error.oversize_taken") or (active("error.chunked_oversize_taken") and self.head.is_chunked()):
            return BODY_LIMIT * 16
        return BODY_LIMIT - 1 if active("error.one_mib_refused") else BODY_LIMIT

    def _check_ready(self):
        state = self.worker.state()
        if state == "Loading" and active("start.inference_waits_for_load"):
            self.worker.loaded.wait()
            return
        if state == "Draining" and active("stop.accepts_while_draining"):
            return
        if state in ("Loading", "Draining"):
            raise not_ready(state.lower())

    def _check_context(self, options):
        prompt_tokens, most = self.worker.knowledge.count(options.prompt), self.config.ctx_size
        if active("error.context_border_refused"):
            most -= 1
        if prompt_tokens + options.max_tokens <= most:
            return
        if active("error.prompt_truncated") and options.max_tokens <= most:
            return
        if active("error.context_truncated"):
            options.max_tokens = max(1, most - prompt_tokens)
            return
        message = "prompt (%d tokens) and max_tokens (%d) are %d; allowed: up to %d together"
        message %= (prompt_tokens, options.max_tokens, prompt_tokens + options.max_tokens, most)
        raise ApiError(422, "context_length_exceeded", message, "max_tokens")

    def _suffer(self):
        """What earlier requests and a silent hive do to this one, under faults."""
        if active("error.degraded_500") and "malformed_json" in self.server.degraded_by:
            raise ApiError(500, "internal", "the engine is in a bad state")
        if active("error.degraded_slow") and "invalid_field" in self.server.degraded_by:
            time.sleep(3)
        if active("hive.blocks_inference"):
            with self.worker.heartbeat.sending:
                pass

    def _check_place(self, waited, watch):
        if self._is_crowded() and active("infer.fails_beside_others"):
            raise ApiError(500, "internal", "two requests at once")
        if waited and active("load.queued_lost"):
            raise ApiError(500, "internal", "the request was lost")
        if waited and active("load.queued_forgotten"):
            watch.leave_place()
            watch.pause(600)
        if active("infer.hangs") or (active("infer.second_hangs") and self.worker.served == 1):
            watch.pause(600)
        if self.worker.served >= 3:
            if active("crash.engine_hangs"):
                watch.pause(600)
            if active("crash.engine_fails"):
                raise ApiError(500, "generation_failed", "the engine is gone")

    def _is_crowded(self):
        return self.worker.places.running() > 1 or bool(self.worker.places.line)

    def _shift(self):
        """How far the text is from what it should be; 0 in a good worker."""
        if active("infer.state_leaks"):
            return self.worker.served
        others = active("infer.differs_beside_others") or active("infer.crosstalk")
        degraded = active("error.degraded_text") and "malformed_json" in self.server.degraded_by
        return int((others and self._is_crowded()) or degraded)

    def _plain(self, generation, watch):
        try:
            text = "".join(text for _, text, _ in generation)
        except Cut:
            raise not_ready("draining") from None
        watch.leave_place()
        kind = "text/plain" if active("infer.wrong_content_type") else "application/json"
        self._answer(200, distort.answer(dict({"text": text}, **facts(generation))), kind=kind)

    def _stream(self, generation, watch):
        kind = "text/plain" if active("stream.wrong_content_type") else "text/event-stream"
        self.connection.start_stream(self.head, kind)
        try:
            for name, data in distort.events(events(generation, watch)):
                if data is not None:
                    watch.push(to_sse(name, data))
        except Cut:
            if active("stop.timeout_cuts_silently"):
                raise ClientGone("cut") from None
            error = {"code": "not_ready", "message": "the worker stops: the time for draining is over"}
            watch.push(to_sse("error", {"error": error}))
        watch.leave_place()
        if active("stream.body_stays_open"):
            watch.pause(60)
        self.connection.end_stream()
        if not self.connection.flush(STALL_S):
            raise ClientGone("stalled")
        if not self.connection.stream_is_chunked:
            raise ClientGone("done")

    def _after_inference(self):
        self.worker.served += 1
        if self.config.leak_bytes:
            self.worker.leaked.append(b"x" * self.config.leak_bytes)
        self.worker.leaked.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(self.config.leak_files))
        if active("crash.after_ten") and self.worker.served >= 10:
            os._exit(101)
        if active("crash.exits_zero_after_inference"):
            os._exit(0)
        if active("beat.stops_after_inference"):
            self.worker.heartbeat.muted = True


def names_this_machine(host):
    """Whether this is `localhost` or an address, with or without a port."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    if name.lower() == "localhost":
        return True
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def facts(generation):
    """What is known about a generation at its end."""
    usage = {"prompt_tokens": generation.prompt_tokens, "completion_tokens": generation.tokens}
    timings = {name: round(getattr(generation, name), 3) for name in ("queue_ms", "prefill_ms", "decode_ms")}
    return {"tokens": generation.tokens, "finish_reason": generation.finish_reason, "usage": usage, "timings": timings}


def events(generation, watch):
    """The events of a stream; the place is given back before the end is sent."""
    for index, text, piece in generation:
        if index == 5 and active("crash.exits_while_streaming"):
            os._exit(1)
        if index == 5 and active("stream.cut_off"):
            raise ClientGone("cut")
        data = {"index": index, "text": text}
        yield "token", distort.raw_token(index, piece) if active("stream.raw_bytes") else data
    watch.leave_place()
    yield "end", distort.answer(facts(generation))


def to_sse(name, data):
    """One event as bytes."""
    return variants.sse(name, data if isinstance(data, bytes) else to_json(data))
