"""Hashes and fingerprints: 128-bit xxh3 over canonical JSON that refuses what it cannot name."""

from __future__ import annotations

from typing import Any

import orjson
import xxhash

_CANONICAL = orjson.OPT_SORT_KEYS


def canonical_json(value: Any) -> bytes:
    """Canonical JSON of plain values (dict with string keys, list, tuple, str, int, float, bool, None).

    Raises TypeError for anything else, so that nothing unnamed slips into a fingerprint.
    """
    return orjson.dumps(value, option=_CANONICAL | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS)


def digest(data: bytes) -> bytes:
    """The 16-byte xxh3-128 of `data`."""
    return xxhash.xxh3_128_digest(data)


def fingerprint(value: Any) -> str:
    """32 hex digits naming a plain value; equal values give equal fingerprints on every platform."""
    return digest(canonical_json(value)).hex()
