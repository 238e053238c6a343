"""Checks values against type hints: JSON that is read, and arguments that are given."""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import math
import numbers
import os
import types
import typing
from typing import Any


class Mismatch(Exception):
    """`where` has another type than expected."""

    def __init__(self, where: str, expected: str, value: object) -> None:
        text = repr(value)
        if len(text) > 80:
            text = text[:77] + "..."
        super().__init__(f"{where}: expected {expected}, got {text} ({type(value).__name__})")


_hints = functools.cache(typing.get_type_hints)


def describe(hint: Any) -> str:
    """A type hint in words."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(describe(arg) for arg in args)
    if origin is typing.Literal:
        return "one of " + ", ".join(map(repr, args))
    if hint is types.NoneType:
        return "None"
    if origin is os.PathLike:
        return "path"
    if origin in (tuple, collections.abc.Sequence):
        return "list of " + describe(args[0])
    if origin is collections.abc.Mapping:
        return "dict"
    names = {float: "number", int: "integer", str: "text", bool: "True or False"}
    return names.get(hint, getattr(hint, "__name__", str(hint)))


def convert(value: Any, hint: Any, where: str) -> Any:
    """The value as the hint has it: lists become tuples, dicts become dataclasses."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin in (types.UnionType, typing.Union):
        for arg in args:
            try:
                return convert(value, arg, where)
            except Mismatch:
                continue
    elif origin is typing.Literal:
        if isinstance(value, str) and value in args:
            return value
    elif origin is os.PathLike:
        if isinstance(value, os.PathLike):
            return value
    elif origin in (tuple, collections.abc.Sequence):
        if isinstance(value, collections.abc.Sequence) and not isinstance(value, (str, bytes)):
            return tuple(convert(one, args[0], f"{where}[{i}]") for i, one in enumerate(value))
    elif origin is collections.abc.Mapping:
        if isinstance(value, collections.abc.Mapping):
            return {convert(key, args[0], f"{where}: key"): convert(one, args[1], f"{where}[{key!r}]")
                    for key, one in value.items()}
    elif dataclasses.is_dataclass(hint) and isinstance(hint, type):
        if isinstance(value, hint):
            return value
        if isinstance(value, collections.abc.Mapping):
            return build(hint, value, where)
    elif hint is float:
        if isinstance(value, numbers.Real) and not isinstance(value, bool):
            return float(value)
    elif hint is int:
        if isinstance(value, numbers.Integral) and not isinstance(value, bool):
            return int(value)
    elif isinstance(hint, type) and isinstance(value, hint):
        return value
    raise Mismatch(where, describe(hint), value)


def build(cls: type, values: collections.abc.Mapping[str, Any], where: str) -> Any:
    """A dataclass of a JSON object. What it has no field for is left out, so that programs
    may tell more than this package knows; a missing field without a default is an error."""
    fields = {}
    for field in dataclasses.fields(cls):
        place = f"{where}.{field.name}" if where else field.name
        hint = _hints(cls)[field.name]
        if field.name not in values:
            if (field.default is dataclasses.MISSING
                    and field.default_factory is dataclasses.MISSING):
                raise Mismatch(place, describe(hint), None)
        elif hint is float and values[field.name] is None:
            fields[field.name] = math.nan  # JSON has no word for what is not finite
        else:
            fields[field.name] = convert(values[field.name], hint, place)
    return cls(**fields)


def plain(value: Any) -> Any:
    """Of dataclasses what JSON can hold; fields that are None are left out."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: plain(one) for field in dataclasses.fields(value)
                if (one := getattr(value, field.name)) is not None}
    if isinstance(value, collections.abc.Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return value


def checked(function: Any, given: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call of `function`, each checked against its hint."""
    hints = _hints(function)
    try:
        return {name: convert(value, hints[name], name) for name, value in given.items()}
    except Mismatch as mismatch:
        raise TypeError(str(mismatch)) from None
