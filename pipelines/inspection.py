"""Looking at one file or one stage without running anything: the facts behind `curate inspect` and `curate stages`."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from pipelines.ingest import Reading, drafts_of
from pipelines.readers import decode, read_chunks, sniff
from pipelines.readers.rows import RawRow, Unreadable
from pipelines.sources import SourceFile, list_files
from schemas.adapters import UNKNOWN, adapter, detect, field_map
from schemas.batch import Placed, check
from schemas.errors import BadRow
from schemas.record import Draft
from stages.contract import DECIDES, Stage

_EXAMPLES = 3


def inspect(path: str, rows: int, format: str = "auto", adapter_name: str = "auto") -> dict[str, Any]:
    """What the files at `path` are and why, with their first records and problems, as plain values.

    Raises:
        RecipeError: if there is no such file, or its format cannot be told.
    """
    files = list_files(path, Path.cwd())
    return {"path": path, "files": [_file(file, rows, format, adapter_name) for file in files]}


def _file(file: SourceFile, rows: int, format: str, adapter_name: str) -> dict[str, Any]:
    sniffed = sniff(file.url, format)
    seen = list(islice((row for chunk in read_chunks(file.url, sniffed) for row in decode(chunk)), rows))
    values = [row.value for row in seen if isinstance(row, RawRow)]
    found = detect(values)
    name = found.adapter if adapter_name == "auto" else adapter(adapter_name).name
    drafts, problems = _adapt(seen, Reading(file.path, file.path, name, {}, 0))
    mapped = field_map(adapter(name), values[0]) if values and name != UNKNOWN else {}
    return {
        "file": file.path, "bytes": file.size, "format": sniffed.format, "compression": sniffed.compression,
        "why_format": list(sniffed.why), "adapter": name, "why_adapter": found.why, "share": found.share,
        "others": found.others, "rows_seen": len(seen), "records": len(drafts), "fields": mapped,
        "problems": problems, "samples": [_plain(draft) for draft in drafts[:_EXAMPLES]],
    }  # fmt: skip


def _adapt(rows: list[RawRow | Unreadable], reading: Reading) -> tuple[list[Draft], list[dict[str, Any]]]:
    drafts: list[Draft] = []
    problems: dict[str, dict[str, Any]] = {}
    for row in rows:
        error = BadRow(row.kind, row.error, row.field) if isinstance(row, Unreadable) else None
        if isinstance(row, RawRow):
            found, error = _drafts(row, reading)
            drafts.extend(found)
        if error is not None:
            entry = problems.setdefault(error.kind, {"kind": error.kind, "rows": 0, "examples": []})
            entry["rows"] += 1
            if len(entry["examples"]) < _EXAMPLES:
                entry["examples"].append({"row": row.row, "line": row.line, "error": str(error)})
    return drafts, sorted(problems.values(), key=lambda entry: -entry["rows"])


def _drafts(row: RawRow, reading: Reading) -> tuple[list[Draft], BadRow | None]:
    try:
        found = drafts_of(row.value, reading)
    except BadRow as error:
        return [], error
    errors = [check(Placed(str(row.row), draft), reading.source, reading.file) for draft in found]
    return [draft for draft, error in zip(found, errors, strict=True) if error is None], next(
        filter(None, errors), None
    )


def _plain(draft: Draft) -> dict[str, Any]:
    return {key: value for key, value in draft.items() if value not in (None, [], {})}


def describe_stage(stage: type[Stage]) -> dict[str, Any]:
    """A stage's name, purpose and parameters, with defaults and what changing each one costs."""
    return {
        "name": stage.name, "summary": (stage.__doc__ or "").strip().split("\n")[0],
        "about": (stage.__doc__ or "").strip(), "rewrites": stage.rewrites,
        "parameters": [
            {
                "name": name, "type": _type(field.annotation),
                "default": None if field.is_required() else field.get_default(call_default_factory=True),
                "required": field.is_required(), "description": field.description or "",
                "rescoring": field.json_schema_extra != DECIDES,
            }
            for name, field in stage.model_fields.items()
        ],
    }  # fmt: skip


def _type(annotation: Any) -> str:
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
