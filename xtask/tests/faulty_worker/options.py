"""From the bytes of a request to validated options, or to the error that the contract names."""

import json
import os
import re

from .accepts import refuse_rejected, without_accepted
from .faults import active


class ApiError(Exception):
    """A refusal: one row of the contract's table of errors."""

    def __init__(self, status, code, message, field=None, headers=()):
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.field = field
        self.headers = dict(headers)


def malformed(message):
    """The body is not JSON."""
    return ApiError(400, "malformed_json", message)


def invalid(field, got, allowed):
    """A field is not as it should be."""
    shown = repr(got) if len(repr(got)) <= 80 else repr(got)[:77] + "..."
    return ApiError(422, "invalid_field", "%s is %s; allowed: %s" % (field, shown, allowed), field)


# A top_p below this leaves the likeliest token alone.
NEXT_TO_NOTHING = 0.001


class HugeNumber(float):
    """A number of too many digits to be worth reading; out of every range."""


def parse_json(body):
    """Strict JSON: no NaN, no equal keys, no lone surrogates, no invalid UTF-8."""
    errors = "replace" if active("error.invalid_utf8_taken") else "strict"
    try:
        text = body.decode("utf-8", errors)
    except UnicodeDecodeError as error:
        raise malformed("the body is not UTF-8: byte %d is not valid there" % error.start) from None
    if active("error.trailing_garbage_taken") and "}" in text:
        text = text[: text.rindex("}") + 1]
        text = _first_value(text)
    try:
        value = _value_of(_forgiven(text))
    except ValueError as error:
        raise malformed("the body is not JSON: %s" % error) from None
    lone = re.search(r"\\u[dD][89a-fA-F]", text) and _has_surrogate(value)
    if lone and active("error.surrogate_taken"):
        return _value_of(re.sub(r"\\u[dD][89a-fA-F]..", "?", text))
    if lone:
        if active("error.surrogate_500"):
            raise ApiError(500, "internal", "a string could not be encoded")
        raise malformed("the body has a lone surrogate, which is not text")
    return value


def _value_of(text):
    def read(text):
        return json.loads(
            text, object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, strict=True
        )

    try:
        return read(text)
    except RecursionError:
        if active("error.crashes_on_deep_nesting"):
            os.abort()
        if active("error.depth_limited"):
            raise malformed("the body is nested too deeply") from None
    return read(_flattened(text))


# Deeper than this nothing is kept: no field takes what is nested at all.
KEPT_DEPTH = 50


def _flattened(text):
    """The same with 0 for what is nested deeper, which has to be bracketed rightly all the same."""
    kept, expected, at = [], [], 0
    for match in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[\]{}]', text):
        mark = match.group()
        if mark in "[{":
            expected.append("]" if mark == "[" else "}")
            if len(expected) == KEPT_DEPTH:
                kept.append(text[at : match.start()] + "0")
        elif mark in "]}":
            if not expected or expected.pop() != mark:
                raise ValueError("a bracket too many")
            if len(expected) == KEPT_DEPTH - 1:
                at = match.end()
    if expected:
        raise ValueError("a bracket is missing")
    return "".join(kept) + text[at:]


def _forgiven(text):
    """The text without what a lenient reader reads over, under faults."""
    if active("error.comments_taken"):
        return re.sub(r"/\*.*?\*/|(//|#)[^\n]*", "", text)
    if active("error.trailing_commas_taken"):
        return re.sub(r",\s*([\]}])", r"\1", text)
    if active("error.bom_taken"):
        return text.lstrip("\ufeff")
    return text


def _first_value(text):
    try:
        return text[: json.JSONDecoder().raw_decode(text.lstrip())[1]]
    except ValueError:
        return text


def _object(pairs):
    found = {}
    for key, value in pairs:
        if key in found and not active("error.duplicate_keys_taken"):
            raise invalid(key, value, "each field once")
        found[key] = value
    return found


def _constant(name):
    if active("error.nan_taken"):
        return 0.5
    raise ValueError("%s is not JSON" % name)


def _integer(digits):
    if len(digits) <= 400:
        return int(digits)
    if active("error.crashes_on_huge_number"):
        os.abort()
    return HugeNumber("-inf" if digits.startswith("-") else "inf")


def _has_surrogate(value):
    if isinstance(value, str):
        return any("\ud800" <= character <= "\udfff" for character in value)
    if isinstance(value, dict):
        return any(_has_surrogate(key) or _has_surrogate(item) for key, item in value.items())
    return isinstance(value, list) and any(_has_surrogate(item) for item in value)


class Options:
    """What a client wants generated; every value is validated."""

    FIELDS = ("prompt", "max_tokens", "temperature", "top_p", "top_k", "seed", "stop", "stream")

    def __init__(self, body):
        if not isinstance(body, dict):
            if active("error.other_json_malformed"):
                raise malformed("the body is not a JSON object")
            raise invalid("prompt", body, "a JSON object with a prompt in it")
        refuse_rejected(body, invalid)
        body = without_accepted(body)
        self._refuse_unknown(body)
        self.prompt = self._prompt(body)
        self.max_tokens = self._max_tokens(body)
        if active("error.max_tokens_capped") and self.max_tokens > 65536:
            raise invalid("max_tokens", self.max_tokens, "an integer from 1 to 65536")
        usual = 0 if active("infer.default_is_greedy") else 0.7
        self.temperature = self._number(body, "temperature", usual, self._temperature_ok, "a number from 0 to 2")
        self.top_p = self._number(
            body, "top_p", 1.0, lambda value: 0 < value <= 1, "a number above 0, up to 1"
        )
        self.top_k = self._integer(body, "top_k", None, 1, 2**32 - 1)
        self.seed = self._integer(body, "seed", 0 if active("infer.seed_fixed") else None, 0, 2**64 - 1)
        self.stop = self._stop(body)
        self.stream = body.get("stream", False)
        if not isinstance(self.stream, bool):
            if not active("error.type_coerced"):
                raise invalid("stream", self.stream, "true or false")
            self.stream = bool(self.stream)

    def is_greedy(self):
        """Whether the likeliest token is always taken."""
        is_narrow = (self.top_k == 1 and not active("infer.top_k_ignored")) or (
            self.top_p < NEXT_TO_NOTHING and not active("infer.top_p_ignored")
        )
        is_cold = self.temperature == 0 or (self.temperature == 2 and active("infer.hot_is_cold"))
        return is_cold or is_narrow or active("infer.sampling_is_greedy")

    def random_seed(self):
        """What the sampled text depends on; `None` where the client named no seed."""
        if self.seed is None or (self.seed == 0 and active("error.seed_zero_drawn")):
            return None
        return "%r %r %r %r %r" % (self.seed, self.prompt, self.temperature, self.top_p, self.top_k)

    def _refuse_unknown(self, body):
        for name in body:
            if name not in self.FIELDS and not active("error.unknown_field_taken"):
                raise ApiError(
                    422, "invalid_field", "%.80s is not a field; allowed: %s" % (name, ", ".join(self.FIELDS)), name
                )

    @staticmethod
    def _prompt(body):
        if "prompt" not in body:
            if active("error.missing_prompt_taken"):
                return " "
            raise ApiError(422, "invalid_field", "prompt is missing; allowed: a string that is not empty", "prompt")
        prompt = body["prompt"]
        if prompt is None and active("error.null_prompt_500"):
            raise ApiError(500, "internal", "the prompt could not be read")
        if not isinstance(prompt, str):
            if not active("error.type_coerced") or prompt is None:
                raise invalid("prompt", prompt, "a string that is not empty")
            prompt = str(prompt)
        if not prompt:
            raise invalid("prompt", prompt, "a string that is not empty")
        return prompt

    def _max_tokens(self, body):
        default = 16 if active("infer.default_is_16") else 128
        return self._integer(body, "max_tokens", default, 1, 2**32 - 1)

    @staticmethod
    def _temperature_ok(value):
        return 0 <= value <= 2

    @staticmethod
    def _number(body, name, default, is_allowed, allowed):
        value = _coerced(body.get(name, default), float)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not is_allowed(value):
            raise invalid(name, value, allowed)
        return value

    @staticmethod
    def _integer(body, name, default, lowest, highest):
        if name not in body:
            return default
        value = _whole(_coerced(body[name], int))
        if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
            raise invalid(name, value, "an integer from %d to %d" % (lowest, highest))
        return value

    @staticmethod
    def _stop(body):
        stop = body.get("stop", [])
        stops = [stop] if isinstance(stop, str) else stop
        allowed = "a string or up to 16 of them, none empty"
        if not isinstance(stops, list) or len(stops) > 16:
            raise invalid("stop", stop, allowed)
        if not all(isinstance(each, str) and each for each in stops):
            raise invalid("stop", stop, allowed)
        return stops


def _whole(value):
    """An integer, however it was spelled: as in JSON Schema, 5.0 and 5e0 are 5."""
    if active("error.huge_integer_rounded") and isinstance(value, int) and value > 2**53:
        return min(int(float(value)), 2**64 - 1)
    is_whole = isinstance(value, float) and value.is_integer()
    if not is_whole or active("error.whole_float_refused"):
        return value
    if active("error.exponent_cut"):
        return int(str(int(value)).rstrip("0") or "0")
    return int(value)


def _coerced(value, kind):
    """`value`, or under a fault what a careless reader makes of it."""
    if active("error.boolean_coerced") and isinstance(value, bool):
        return int(value)
    if active("error.type_coerced") and isinstance(value, (str, float)) and not isinstance(value, HugeNumber):
        try:
            return kind(float(value))
        except (ValueError, OverflowError):
            return value
    return value
