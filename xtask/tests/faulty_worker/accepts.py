"""Values that a careless worker takes, and values at the edge that it refuses: a field of the request and
a kind of value, generated, so that there is a fault for each. Whoever takes a wrong value goes on as if
the field had been left out.
"""

from .faults import ACCEPTED, REJECTED, active

HIGHEST = {"temperature": 2, "top_p": 1, "seed": 2**64 - 1}


def _is_number(value):
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _has_item(value, matches):
    return isinstance(value, list) and any(matches(item) for item in value)


KINDS = {
    "null": lambda value, highest: value is None,
    "boolean": lambda value, highest: isinstance(value, bool),
    "number": lambda value, highest: _is_number(value),
    "string": lambda value, highest: isinstance(value, str),
    "array": lambda value, highest: isinstance(value, list),
    "object": lambda value, highest: isinstance(value, dict),
    "zero": lambda value, highest: _is_number(value) and value == 0,
    "negative": lambda value, highest: _is_number(value) and value < 0,
    "fraction": lambda value, highest: isinstance(value, float) and not value.is_integer(),
    "above": lambda value, highest: _is_number(value) and value > highest,
    "empty": lambda value, highest: value == "",
    "empty_item": lambda value, highest: _has_item(value, lambda item: item == ""),
    "number_item": lambda value, highest: _has_item(value, _is_number),
    "null_item": lambda value, highest: _has_item(value, lambda item: item is None),
    "seventeen": lambda value, highest: isinstance(value, list) and len(value) == 17,
}


AT_THE_EDGE = {
    "space": lambda value: value == " ",
    "nul": lambda value: value == "\0",
    "emoji": lambda value: value == "\U0001f41d",
    "zero": lambda value: value == 0,
    "one": lambda value: value == 1 or (isinstance(value, list) and len(value) == 1),
    "two": lambda value: value == 2,
    "tiny": lambda value: 0 < value < 1e-6,
    "beyond_32_bits": lambda value: 2**32 <= value < 2**53,
    "beyond_53_bits": lambda value: 2**53 < value < 2**64 - 1,
    "largest": lambda value: value == 2**64 - 1,
    "none": lambda value: value == [],
    "string": lambda value: isinstance(value, str),
    "sixteen": lambda value: len(value) == 16,
    "false": lambda value: value is False,
}


def refuse_rejected(body, refusal):
    """Raises the refusal of a right value that a fault refuses."""
    for field, kind, _ in REJECTED:
        if field in body and active("reject.%s_%s" % (field, kind)) and AT_THE_EDGE[kind](body[field]):
            raise refusal(field, body[field], "another one")


def without_accepted(body):
    """The request's object without the field whose bad value a fault takes."""
    for field, kind in ACCEPTED:
        if field in body and active("accept.%s_%s" % (field, kind)):
            if KINDS[kind](body[field], HIGHEST.get(field)):
                body = dict(body)
                del body[field]
                body.setdefault("prompt", "Hello")
    return body
