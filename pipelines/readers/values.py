"""Values of Arrow columns as JSON has them, and rows whose values Python cannot hold."""

from __future__ import annotations

import base64
import datetime
import decimal
from collections.abc import Iterator
from typing import Any, Final

import orjson
import pyarrow as pa

from pipelines.readers.rows import RawRow, Row, Unreadable, too_large

PLAIN_BATCH: Final = 1024  # rows per read; batches are then cut or joined to a chunk's size in bytes


def batch_rows(batch: pa.RecordBatch, first_row: int, max_row_bytes: int) -> Iterator[Row]:
    """The rows of a batch; one with a value that cannot be read is bad, its neighbours are not."""
    twice = _twice(batch.schema.names)
    if twice is not None:
        yield from (_refused(row, one, twice, max_row_bytes) for row, one in _one_by_one(batch, first_row))
        return
    try:
        values = _values(batch)
    except Exception:  # codecs, dates and time zones raise many kinds: each row is tried by itself
        yield from (_single(row, one, max_row_bytes) for row, one in _one_by_one(batch, first_row))
        return
    for row, value in enumerate(values, first_row):
        yield columnar_row(row, value, max_row_bytes)


def _one_by_one(batch: pa.RecordBatch, first_row: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    return ((first_row + number, batch.slice(number, 1)) for number in range(batch.num_rows))


def _twice(names: list[str]) -> str | None:
    """The first name that occurs again."""
    return None if len(set(names)) == len(names) else next(name for name in names if names.count(name) > 1)


def _refused(row: int, one: pa.RecordBatch, twice: str, max_row_bytes: int) -> Row:
    error = f"the column '{twice}' occurs more than once"
    return Unreadable(row, None, _raw(one)[:max_row_bytes], "duplicate_key", error, twice)


def _single(row: int, one: pa.RecordBatch, max_row_bytes: int) -> Row:
    """The row of a batch of one."""
    for name, column in zip(one.schema.names, one.columns, strict=True):
        try:
            _values(pa.record_batch([column], [name]))
        except Exception as error:
            kind, problem = _problem(error)
            problem = f"column '{name}' ({column.type}): {problem}"
            return Unreadable(row, None, _raw(one)[:max_row_bytes], kind, problem, name)
    (value,) = _values(one)
    return columnar_row(row, value, max_row_bytes)


def _problem(error: Exception) -> tuple[str, str]:
    if isinstance(error, UnicodeDecodeError):
        byte = error.object[error.start]
        return "invalid_utf8", f"byte 0x{byte:02x} at offset {error.start} is not valid UTF-8"
    return "unreadable_value", f"{type(error).__name__}: {error}"


def _raw(one: pa.RecordBatch) -> bytes:
    """A row as JSON, every column in it, also those of the same name."""
    pairs = zip(one.schema.names, one.columns, strict=True)
    return b"{" + b",".join(orjson.dumps(name) + b":" + _json(column) for name, column in pairs) + b"}"


def _json(column: pa.Array) -> bytes:
    """The one value of a column; where it cannot be read, the number or the bytes that it is stored as."""
    for kind in (column.type, _stored(column.type)):
        try:
            (value,) = column.cast(kind).to_pylist()
            return orjson.dumps(to_plain(value), default=str)
        except Exception:  # the same many kinds as above
            continue
    return b"null"


def _stored(kind: pa.DataType) -> pa.DataType:
    """The type with bytes in place of text, and numbers in place of times."""
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_stored(field.type)) for field in kind])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.list_(_stored(kind.value_type))
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pa.large_binary()
    if pa.types.is_temporal(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    return kind


def _values(batch: pa.RecordBatch) -> list[Any]:
    values = _to_pylist(batch)
    return values if all(_is_plain(field.type) for field in batch.schema) else [to_plain(value) for value in values]


def columnar_row(row: int, value: Any, max_row_bytes: int) -> Row:
    """A row that has no bytes of its own: they are its value as JSON."""
    raw = orjson.dumps(value, default=str)
    if len(raw) > max_row_bytes:
        return Unreadable(row, None, raw[:max_row_bytes], "too_large", too_large(len(raw), max_row_bytes))
    return RawRow(row, None, raw, value)


def _to_pylist(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Rows as dicts; maps too, unless one has a key twice: then maps are lists of pairs."""
    try:
        rows: list[dict[str, Any]] = batch.to_pylist(maps_as_pydicts="strict")
    except KeyError:
        rows = batch.to_pylist()
    return rows


def _is_plain(kind: pa.DataType) -> bool:
    """Whether values of a type come out of Arrow as JSON has them."""
    if pa.types.is_struct(kind):
        return all(_is_plain(field.type) for field in kind)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_plain(kind.value_type)
    text = pa.types.is_string(kind) or pa.types.is_large_string(kind)
    return bool(text or pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind))


def to_plain(value: Any) -> Any:
    """The same value with only dict, list, str, int, float, bool and None in it.

    Dates become ISO 8601, decimals text, bytes text where they are UTF-8 and else `{"base64": ...}`.
    """
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if isinstance(value, dict):
        return {key if isinstance(key, str) else str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [to_plain(item) for item in value]
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if isinstance(value, bytes):
        return _text_or_base64(value)
    return str(value) if isinstance(value, (decimal.Decimal, datetime.timedelta)) else repr(value)


def _text_or_base64(value: bytes) -> Any:
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode("ascii")}
