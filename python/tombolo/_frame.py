"""Data frames, where pandas is present."""

from __future__ import annotations

import collections.abc
import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas


def frame(rows: collections.abc.Iterable[Any]) -> "pandas.DataFrame":
    """A pandas data frame of results: `frame(run.steps)`, `frame(plan.stages)`.

    A row for each dataclass, a column for each field; what a field holds by name has a
    column for each name, `memory_bytes.parameters`.
    """
    try:
        import pandas
    except ImportError:
        raise ImportError("tombolo.frame needs pandas; install python3-pandas, or "
                          "pip install pandas") from None
    table = []
    for row in rows:
        if not dataclasses.is_dataclass(row) or isinstance(row, type):
            raise TypeError(f"rows: expected results like run.steps, got {row!r}")
        table.append(dict(_cells("", row)))
    return pandas.DataFrame(table)


def _cells(prefix: str, value: Any) -> collections.abc.Iterator[tuple[str, Any]]:
    named: collections.abc.Mapping[str, Any]
    if dataclasses.is_dataclass(value):
        named = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif isinstance(value, collections.abc.Mapping):
        named = value
    else:
        yield prefix, value
        return
    for name, one in named.items():
        yield from _cells(f"{prefix}.{name}" if prefix else str(name), one)
