"""JSON from a stranger -> our frozen dataclasses, every value of its declared type.

A text may hold only what `text.clean` lets through: we wrote the file, or it is refused. Raises
ValueError or TypeError for anything else; callers make one sentence of that.
"""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any, Union, get_args, get_origin, get_type_hints

from ragdemo.text import HIDDEN

LONGEST = 400_000  # characters of one text, where the caller names no other limit
# what `text.clean` takes out, as one search; "\r" is among it
_UNCLEAN = re.compile(rf"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff{''.join(HIDDEN)}]")


def loads(data: bytes | str) -> Any:
    """JSON without NaN and infinities."""
    return json.loads(data, parse_constant=_refuse)


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is no number here")


def value(
    kind: Any,
    raw: Any,
    *,
    longest: int = LONGEST,
    later: Mapping[type, Collection[str]] = {},
) -> Any:
    """`raw` from JSON as the type `kind`. `later` names fields that an older file may lack."""

    def read(kind: Any, raw: Any) -> Any:
        origin = get_origin(kind)
        if origin in (Union, types.UnionType):
            if raw is None:
                return None
            return read(next(k for k in get_args(kind) if k is not type(None)), raw)
        if origin is tuple:
            if not isinstance(raw, list):
                raise TypeError("a list was expected")
            return tuple(read(get_args(kind)[0], v) for v in raw)
        if origin is Mapping:
            inner = get_args(kind)[1]
            return {text(k): read(inner, v) for k, v in _object(raw).items()}
        if is_dataclass(kind):
            hints, names = _hints(kind), {f.name for f in fields(kind)}
            if not names - set(later.get(kind, ())) <= set(_object(raw)) <= names:
                raise ValueError(f"the fields of {kind.__name__} were expected")
            return kind(**{name: read(hints[name], inner) for name, inner in raw.items()})
        if kind is float:
            return _number(raw)
        if kind is str:
            return text(raw)
        if kind is object:
            return plain(raw)
        if type(raw) is kind:
            return raw
        raise TypeError(f"{kind} was expected")

    def text(raw: Any) -> str:
        if not isinstance(raw, str) or len(raw) > longest:
            raise TypeError("a text was expected")
        if _UNCLEAN.search(raw):  # not written by us, and offsets would move
            raise ValueError("the text holds characters that ragdemo never writes")
        return raw

    def plain(raw: Any) -> Any:
        """A setting: a plain value, or a flat object of them."""
        if isinstance(raw, dict):
            return {text(k): plain(v) for k, v in raw.items()}
        if isinstance(raw, str):
            return text(raw)
        if raw is None or type(raw) in (bool, int):
            return raw
        if type(raw) is float:
            return _number(raw)
        raise TypeError("a plain value was expected")

    return read(kind, raw)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _number(raw: Any) -> float:
    """1e999 is good JSON and infinite here."""
    if type(raw) not in (int, float):
        raise TypeError("a number was expected")
    if not abs(raw) <= sys.float_info.max:  # so that NaN is refused too
        raise ValueError("the number is too large")
    return float(raw)


def _object(raw: Any) -> dict:
    if not isinstance(raw, dict):
        raise TypeError("an object was expected")
    return raw
