"""The face that OpenAI's clients know: other paths, bodies, streams and errors around the same text.

The faults and variants of this face put it on; all others speak the contract of this repository.
"""

import json
import uuid

from .exchange import Exchange, facts
from .faults import ACTIVE, active
from .options import ApiError, Options, invalid, malformed, parse_json
from .watch import Cut
from .wire import STALL_S, ClientGone, to_json

COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
# What changes nothing, and what is told of elsewhere.
NEUTRAL = ("model", "user", "n", "stream_options")


def is_spoken():
    """Whether this process speaks it."""
    return any(fault_id.startswith(("openai.", "benign.openai_")) for fault_id in ACTIVE)


def error(refusal):
    """A refusal in OpenAI's form."""
    if active("openai.error_detail"):
        body = {"detail": refusal.message}
    else:
        kind = "server_error" if refusal.status >= 500 else "invalid_request_error"
        body = {"error": {"message": refusal.message, "type": kind, "param": refusal.field, "code": refusal.code}}
    status = 400 if refusal.status == 422 else refusal.status
    return status, dict(refusal.headers), "application/json", to_json(body)


class OpenAiExchange(Exchange):
    """One request and its answer, as OpenAI's clients know them."""

    ROUTES = {"/health": ("GET",), "/v1/models": ("GET",), COMPLETIONS: ("POST",), CHAT: ("POST",)}

    def run(self):
        if not active("benign.openai_open_state") or self.head.path in (COMPLETIONS, CHAT):
            self._check_token()
        methods = self.ROUTES.get(self.head.path)
        if methods is None or self.head.method not in methods:
            raise ApiError(404, "not_found", "no such path")
        if self.head.path == "/health":
            self._ready()
        elif self.head.path == "/v1/models":
            self._answer(200, {"object": "list", "data": [{"id": "m", "object": "model"}]})
        else:
            self._inference()

    def _options(self):
        body = parse_json(self.connection.read_body(self.head, self._body_limit()))
        if not isinstance(body, dict):
            raise malformed("the body is not an object")
        body = {name: value for name, value in body.items() if value is not None}
        asked = body.get("stream_options", {})
        self.include_usage = isinstance(asked, dict) and bool(asked.get("include_usage"))
        if self.head.path == CHAT:
            messages = body.pop("messages", None)
            if not isinstance(messages, list) or not messages or not isinstance(messages[-1], dict):
                raise invalid("messages", messages, "a list of messages")
            body["prompt"] = messages[-1].get("content")
        body = {name: value for name, value in body.items() if name not in NEUTRAL}
        return Options(body)

    def _usage(self, generation):
        usage = facts(generation)["usage"]
        if active("openai.usage_counts_one_more"):
            usage["completion_tokens"] += 1
        total = usage["prompt_tokens"] + usage["completion_tokens"]
        return dict(usage, total_tokens=0 if active("openai.total_is_zero") else total)

    def _choice(self, text, reason, stream):
        choice = {"index": 0, "logprobs": None, "finish_reason": reason}
        if self.head.path == COMPLETIONS:
            choice["text"] = text
        elif stream:
            choice["delta"] = {"content": text} if text else {}
        else:
            choice["message"] = {"role": "assistant", "content": text}
        return choice

    def _object(self, choices, stream):
        name = "text_completion"
        if self.head.path == CHAT:
            name = "chat.completion.chunk" if stream else "chat.completion"
        return {"id": self.id, "object": name, "created": 1, "model": "m", "choices": choices}

    def _plain(self, generation, watch):
        self.id = "cmpl-" + uuid.uuid4().hex
        try:
            text = "".join(text for _, text, _ in generation)
        except Cut:
            raise ApiError(503, "not_ready", "the worker stops") from None
        watch.leave_place()
        if self.head.path == CHAT and active("openai.chat_is_empty"):
            text = ""
        choice = self._choice(text, generation.finish_reason, False)
        self._answer(200, dict(self._object([choice], False), usage=self._usage(generation)))

    def _stream(self, generation, watch):
        self.id = "cmpl-" + uuid.uuid4().hex
        kind = "text/plain" if active("openai.stream_content_type") else "text/event-stream"
        self.connection.start_stream(self.head, kind)
        if self.head.path == CHAT:
            role = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
            self._chunk(watch, [role])
        held = ""
        try:
            for index, text, _ in generation:
                held += text
                # Several tokens a chunk are as good as one.
                if active("benign.openai_bundled") and index % 3 != 2:
                    continue
                self._text(watch, held)
                held = ""
            self._text(watch, held)
        except Cut:
            watch.push(b"data: " + to_json({"error": {"message": "the worker stops", "type": "server_error"}}) + b"\n\n")
            self._finish(watch)
            return
        self._end(generation, watch)
        watch.leave_place()
        self._finish(watch)

    def _text(self, watch, text):
        if self.head.path == CHAT and active("openai.chat_stream_differs"):
            text = text.upper()
        if active("openai.ids_change"):
            self.id = "cmpl-" + uuid.uuid4().hex
        if text or active("benign.openai_empty_chunks"):
            self._chunk(watch, [self._choice(text, None, True)])

    def _end(self, generation, watch):
        reason = None if active("openai.no_finish_reason") else generation.finish_reason
        last = [self._choice("", reason, True)]
        usage = self._usage(generation)
        if active("openai.no_stream_usage") or not self.include_usage:
            self._chunk(watch, last)
        elif active("benign.openai_usage_with_the_end"):
            self._chunk(watch, last, usage)
        else:
            self._chunk(watch, last)
            self._chunk(watch, [], usage)
        if active("openai.text_after_the_end"):
            self._chunk(watch, [self._choice("more", None, True)])
        if not active("openai.no_done"):
            watch.push(b"data: [DONE]\n\n")

    def _chunk(self, watch, choices, usage=None):
        chunk = self._object(choices, True)
        if usage:
            chunk["usage"] = usage
        watch.push(b"data: " + json.dumps(chunk).encode() + b"\n\n")

    def _finish(self, watch):
        self.connection.end_stream()
        if not self.connection.flush(STALL_S):
            raise ClientGone("stalled")
        if not self.connection.stream_is_chunked:
            raise ClientGone("done")
