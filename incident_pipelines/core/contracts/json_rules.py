"""What JSON may not contain if a database is to keep it: the whole message is looked at, unknown fields too."""

import json
import math
import re
from collections.abc import Iterator
from typing import Any, cast

MAX_DEPTH = 64
"""Levels of nesting; far under what makes a JSON parser or PostgreSQL run out of stack."""

_UNWRITABLE = re.compile(r"[eE][+-]?[0-9]{4}|[0-9]{500}")
# Looks into texts as well, where it means nothing: a hint that is cheap.
_MAYBE_UNWRITABLE = re.compile(rb"[0-9][eE][+-]?[0-9]{4}|[0-9]{500}")

Problem = tuple[str, str]
"""(reason code, path in the message)"""


class _Pairs(list[tuple[str, Any]]):
    """An object's members as written, repeated keys included."""


class _NotFinite:
    """NaN, Infinity or -Infinity, which JSON has no words for."""


def find_problem(value: bytes) -> Problem | None:
    """Return the first reason for which a message cannot be kept as JSON, or None.

    Args:
        value: the message's bytes.

    Returns:
        A reason code and a path: ``$.a[3].b``, or ``byte N`` where the text itself is broken.
    """
    if not value.strip():
        return "empty_value", "$"
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError as error:
        return "invalid_utf8", f"byte {error.start}"
    if "\x00" in text:
        return "nul_character", f"byte {value.index(0)}"
    try:
        parsed = json.loads(text, object_pairs_hook=_Pairs, parse_constant=lambda _: _NotFinite())
    except json.JSONDecodeError as error:
        return "invalid_json", f"byte {len(text[: error.pos].encode())}"
    except RecursionError:
        return "too_deep", "$"
    except ValueError:  # an integer of more digits than Python converts
        return "number_out_of_range", "$"
    return next(_problems(parsed), None)


def has_unwritable_number(value: bytes) -> bool:
    """Return whether a number is written with so large an exponent, or so many digits, that a database refuses it.

    PostgreSQL's numeric ends at 131,072 digits before and 16,383 after the point; what is said here is far stricter.

    Args:
        value: the message's bytes, known to be JSON.
    """
    if not _MAYBE_UNWRITABLE.search(value):
        return False
    found: list[str] = []

    def note(number: str) -> float:
        if _UNWRITABLE.search(number):
            found.append(number)
        return 0.0

    json.loads(value, parse_float=note)
    return bool(found)


def _problems(root: object) -> Iterator[Problem]:
    pending: list[tuple[object, str, int]] = [(root, "$", 1)]
    while pending:
        node, path, depth = pending.pop()
        if depth > MAX_DEPTH:
            yield "too_deep", path[:200]
            return
        match node:
            case _Pairs():
                seen: set[str] = set()
                for key, _ in node:
                    yield from _text_problems(key, path)
                    if key in seen:
                        yield "repeated_key", f"{path}.{key}"
                    seen.add(key)
                pending.extend((child, f"{path}.{key}", depth + 1) for key, child in reversed(node))
            case list():
                items = list(enumerate(cast(list[object], node)))
                pending.extend((child, f"{path}[{i}]", depth + 1) for i, child in reversed(items))
            case str():
                yield from _text_problems(node, path)
            case _NotFinite():
                yield "not_finite", path
            case float() if math.isinf(node):
                yield "number_out_of_range", path
            case _:
                pass


def _text_problems(text: str, path: str) -> Iterator[Problem]:
    if "\x00" in text:
        yield "nul_character", path
    if any("\ud800" <= character <= "\udfff" for character in text):
        yield "lone_surrogate", path
