"""Values that a careless worker takes: a field of the request and a kind of value, generated, so that
there is a fault for each. Whoever takes such a value goes on as if the field had been left out.
"""

from .faults import ACCEPTED, active

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


def without_accepted(body):
    """The request's object without the field whose bad value a fault takes."""
    for field, kind in ACCEPTED:
        if field in body and active("accept.%s_%s" % (field, kind)):
            if KINDS[kind](body[field], HIGHEST.get(field)):
                body = dict(body)
                del body[field]
                body.setdefault("prompt", "Hello")
    return body
