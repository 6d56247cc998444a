"""Writes a small, valid run directory with known numbers, for tests of what reads runs.

Ten records from two sources and one broken row; `length` drops b3, `dedup` drops a2 (exact twin of a1) and b1
(near twin of a1), and `reflect` rewrites a3. Seven are left; all of them are in the first of two shards.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.lineage import DATA, DECISION, DECISIONS_DIR, INGEST, QUARANTINE_DIR, REWRITE, REWRITES_DIR, SCORES_DIR
from schemas.record import QUARANTINE, RECORD

TEXTS = {
    "a1": "Write a function that adds two numbers and returns the sum of both.",
    "a2": "Write a function that adds two numbers and returns the sum of both.",
    "a3": "What is the capital of France? Answer in one word.",
    "a4": "List three primes.",
    "a5": "Translate 'good morning' to German.",
    "a6": "Explain recursion to a child.",
    "b1": "Write a function that adds two integers and returns the sum of both.",
    "b2": "Name the largest planet.",
    "b3": "Hi",
    "b4": "Sort a list of strings in place.",
}
REWRITTEN = "What is the capital of France? Answer in one single word, without a full stop."
DROPS = {  # id -> (stage, reason, score, related)
    "b3": ("length", "too_short", 2.0, None),
    "a2": ("dedup", "exact_duplicate", 1.0, "a1"),
    "b1": ("dedup", "near_duplicate", 0.84, "a1"),
}
STAGES = (("length", {"min_chars": 10, "max_chars": None}), ("dedup", {"threshold": 0.8}), ("reflect", {"model": "m"}))


def digest(text: str) -> str:
    """32 hex digits, as ids and content hashes have."""
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def source_of(key: str) -> str:
    """`a1` comes from alpha, `b1` from beta."""
    return {"a": "alpha", "b": "beta"}[key[0]]


def record_id(key: str) -> str:
    """The record id of a key like `a1`."""
    return digest(f"id {key}")


def write_run(root: Path, texts: dict[str, str] | None = None, threshold: float = 0.8, bare: bool = False) -> Path:
    """Write the run to `root` and return it. `bare`: no quarantine, rewrites or scores, not even their folders."""
    texts = texts or TEXTS
    drops = {
        key: drop for key, drop in DROPS.items() if key in texts and (drop[1] != "near_duplicate" or threshold <= 0.84)
    }
    kept = [key for key in texts if key not in drops]
    final = texts if bare else {**texts, "a3": REWRITTEN}
    _write(root / DATA / "train-00000-of-00002.parquet", [record(key, final[key]) for key in kept], RECORD)
    _write(root / DATA / "train-00001-of-00002.parquet", [], RECORD)
    _write(root / DECISIONS_DIR / "part-00000.parquet", list(decisions(texts, drops)), DECISION)
    if not bare:
        _write_extras(root, texts)
    (root / "manifest.json").write_bytes(orjson.dumps(manifest(texts, drops, threshold, bare)))
    return root


def record(key: str, text: str) -> dict[str, Any]:
    """A canonical record with one user message."""
    return {
        **dict.fromkeys(RECORD.names),
        "record_id": record_id(key),
        "content_hash": digest(text),
        "source": source_of(key),
        "source_id": key,
        "origin": f"{source_of(key)}.jsonl#{key[1:]}",
        "kind": "sft",
        "messages": [{"role": "user", "content": text}, {"role": "assistant", "content": f"Answer to {key}"}],
        "meta": "{}",
    }


def decisions(texts: dict[str, str], drops: dict[str, Any]) -> list[dict[str, Any]]:
    """Every record at every stage it reached."""
    rows = []
    for key, text in texts.items():
        for position, stage in enumerate([INGEST, *(name for name, _ in STAGES)]):
            dropped = key in drops and drops[key][0] == stage
            _, reason, score, related = drops[key] if dropped else ("", "kept", None, None)
            rows.append(
                {
                    "record_id": record_id(key),
                    "content_hash": digest(text),
                    "source": source_of(key),
                    "source_id": key,
                    "stage": stage,
                    "position": position,
                    "keep": not dropped,
                    "reason": reason,
                    "score": float(len(text)) if stage == "length" else score,
                    "related_id": record_id(related) if related else None,
                    "detail": '{"cluster":1}' if related else None,
                }
            )
            if dropped:
                break
    return rows


def manifest(texts: dict[str, str], drops: dict[str, Any], threshold: float, bare: bool) -> dict[str, Any]:
    """The manifest, with numbers counted here and not by the code under test."""
    alive = list(texts)
    stages = []
    for position, (name, params) in enumerate(STAGES, 1):
        gone = [key for key in alive if key in drops and drops[key][0] == name]
        stages.append(_stage(name, position, params, alive, gone, drops, threshold))
        alive = [key for key in alive if key not in gone]
    bad = 0 if bare else 1
    return {
        "name": "tiny",
        "seed": 7,
        "recipe": {"name": "tiny", "sources": [{"name": "alpha"}, {"name": "beta"}]},
        "run_fingerprint": digest(str(threshold)),
        "created_with": {"curatrix": "0.1.0", "python": "3.11.2", "libs": {"pyarrow": pa.__version__}},
        "sources": [_source("alpha", texts, bad), _source("beta", texts, 0)],
        "stages": stages,
        "splits": {"train": len(alive)},
        "files": [{"path": "data/train-00000-of-00002.parquet", "rows": len(alive), "bytes": 1, "digest": "d"}],
        "quarantine": {"rows": bad, "by_kind": {"invalid_json": bad} if bad else {}},
        "timings": {"seconds": 1.5},
    }


def _stage(
    name: str, position: int, params: Any, alive: list[str], gone: list[str], drops: dict[str, Any], threshold: float
) -> dict[str, Any]:
    def counts(source: str) -> dict[str, int]:
        rows = [key for key in alive if source in ("*", source_of(key))]
        dropped = sum(key in gone for key in rows)
        return {"rows_in": len(rows), "kept": len(rows) - dropped, "dropped": dropped, "quarantined": 0}

    reasons = [drops[key][1] for key in gone]
    return {
        "stage": name,
        "position": position,
        "params": {**params, "threshold": threshold} if name == "dedup" else params,
        **counts("*"),
        "reasons": {reason: reasons.count(reason) for reason in sorted(set(reasons))},
        "by_source": {source: counts(source) for source in ("alpha", "beta")},
        "warnings": ["source 'beta' loses 25% of its rows"] if name == "dedup" else [],
        "counters": {"scored": len(alive), "cached": 0},
        "seconds": 0.5,
    }


def _source(name: str, texts: dict[str, str], bad: int) -> dict[str, Any]:
    rows = sum(source_of(key) == name for key in texts)
    file = {"path": f"{name}.jsonl", "rows": rows, "quarantined": bad, "format": "jsonl", "adapter": "alpaca"}
    return {
        "name": name,
        "licence": "MIT" if name == "alpha" else None,
        "rows": rows,
        "files": [{**file, "bytes": 100, "digest": "d"}],
    }


def _write_extras(root: Path, texts: dict[str, str]) -> None:
    bad = {"source": "alpha", "file": "alpha.jsonl", "row": 6, "line": 7, "stage": INGEST, "kind": "invalid_json"}
    _write(root / QUARANTINE_DIR / "part-00000.parquet", [{**bad, "error": "not JSON", "raw": b'{"a": '}], QUARANTINE)
    change = {
        "record_id": record_id("a3"),
        "stage": "reflect",
        "status": "rewritten",
        "content_hash_before": digest(texts["a3"]),
        "content_hash_after": digest(REWRITTEN),
        "before": orjson.dumps({"prompt": texts["a3"]}).decode(),
        "after": orjson.dumps({"prompt": REWRITTEN}).decode(),
        "model": "m",
        "tokens_in": 100,
        "tokens_out": 20,
        "cost": 0.01,
    }
    _write(root / REWRITES_DIR / "part-00000.parquet", [change], REWRITE)
    scores = pa.schema([("record_id", pa.string()), ("jaccard", pa.float64()), ("shingles", pa.int32())])
    rows = [{"record_id": record_id(key), "jaccard": 0.84 if key == "b1" else 0.1, "shingles": 9} for key in texts]
    _write(root / SCORES_DIR / "dedup#2" / "part-00000.parquet", rows, scores)


def _write(path: Path, rows: list[dict[str, Any]], schema: pa.Schema) -> None:
    """A Parquet file; without rows it has a schema and not a single row group."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        if rows:
            full = [{**dict.fromkeys(schema.names), **row} for row in rows]
            writer.write_table(pa.Table.from_pylist(full, schema=schema))
