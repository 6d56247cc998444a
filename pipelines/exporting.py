"""`curate export`: a finished run's data in the shape that a trainer reads, in a directory of its own."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from pipelines.files import TableWriter, file_digest, read_json, table_writer, write_bytes, write_json
from pipelines.formats import Format, Untold, format_named
from pipelines.formats.chat_mask import Unstable
from pipelines.formats.text_lines import LinesWriter, lines_writer
from pipelines.formats.tokens_export import TokenExport
from pipelines.formats.tokens_files import LAYOUTS
from pipelines.publish import finished_manifest
from schemas.errors import GateError, RecipeError, RunError
from schemas.lineage import DATA

EXPORTED: Final = "export.json"
_ROWS_PER_FILE: Final = 100_000
_SHARD: Final = re.compile(r"^(?P<split>\w+)-\d+-of-\d+\.parquet$")


@dataclass
class _Tally:
    """What became of the rows so far."""

    rows: dict[str, int] = field(default_factory=dict)
    rows_in: int = 0
    untold: dict[str, dict[str, Any]] = field(default_factory=dict)

    def lost(self, untold: list[Untold]) -> None:
        for one in untold:
            entry = self.untold.setdefault(one.kind, {"rows": 0, "why": one.why, "example": one.record_id})
            entry["rows"] += 1


Shape = Format | TokenExport


def export_run(
    directory: Path,
    to: str,
    out: Path,
    strict: bool = False,
    *,
    lines: bool = False,
    tokenizer: Path | None = None,
    when_unstable: Unstable = "error",
) -> dict[str, Any]:
    """Write the data of the run in `directory` to `out` in the format `to`, and say what became of its rows.

    `lines` writes JSONL in place of Parquet. Token shards need the folder of a `tokenizer`; `when_unstable` is what
    happens to conversations that its chat template tells differently turn by turn (see pipelines/formats/chat_mask.py).

    `out` appears whole or not at all, and may only replace an earlier export. Returns what `export.json` holds:
    `format`, `options`, `source` (name and fingerprint of the run), `rows_in`, `rows`, `splits`, `files`, and in
    `untold`, by kind of reason, the number of rows that cannot be told in this shape, the reason in words and one
    record_id.
    Raises RecipeError for what is no run, no format, or no place to write, and where not a single row can be told;
    with `strict`, GateError where any row cannot.
    """
    shape = _shape(to, tokenizer, when_unstable, lines)
    manifest = finished_manifest(directory)
    out = out.absolute()
    _check_free(out)
    work = out.with_name(f".{out.name}.export")
    shutil.rmtree(work, ignore_errors=True)
    try:
        tally = _write_splits(directory, shape, work, lines)
        _check(tally, shape, directory, strict)
        report = _report(manifest, shape, tally, work) | {"options": options(lines, tokenizer, when_unstable)}
        write_bytes(work / "README.md", readme(report, shape).encode())
        write_json(work / EXPORTED, report)
        _place(work, out)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return report


def options(lines: bool, tokenizer: Path | None, when_unstable: Unstable) -> dict[str, Any]:
    """What was asked of an export, as `export.json` says it."""
    return {"lines": lines, "tokenizer": None if tokenizer is None else str(tokenizer), "when_unstable": when_unstable}


def _shape(to: str, tokenizer: Path | None, when_unstable: Unstable, lines: bool) -> Shape:
    layout = next((known for known in LAYOUTS if known == to), None)
    if layout is None:
        shape = format_named(to)
        if tokenizer is not None:
            raise RecipeError(f"--tokenizer is for token shards ({', '.join(LAYOUTS)}); '{to}' holds text")
        return shape
    if tokenizer is None or lines:
        raise RecipeError(f"'{to}' writes binary shards: " + ("no JSONL" if lines else "give --tokenizer FOLDER"))
    return TokenExport.open(layout, tokenizer, when_unstable)


def explained(report: Mapping[str, Any]) -> list[str]:
    """One line for every kind of reason why rows are not in an export, the most frequent first."""
    kinds = sorted(report["untold"].items(), key=lambda item: (-item[1]["rows"], item[0]))
    return [f"{entry['rows']:,} not told: {kind} ({entry['why']}), e.g. {entry['example']}" for kind, entry in kinds]


def _check_free(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise RecipeError(f"{out} is a file; --out must be a directory")
    names = {path.name for path in out.iterdir()} if out.is_dir() else set()
    if names and not _is_export(out / EXPORTED):
        raise RecipeError(f"{out} is not empty and not an export; choose another --out")
    if others := sorted(names - {DATA, EXPORTED, "README.md"}):  # an export is replaced as a whole
        raise RecipeError(f"{out} holds '{others[0]}' beside an export; move it away, or choose another --out")


def _is_export(path: Path) -> bool:
    """Whether a file is what we say about an export; other programs have an `export.json`, too."""
    try:
        source = read_json(path)["source"]
        return isinstance(source["run_fingerprint"], str)
    except (OSError, ValueError, TypeError, LookupError):
        return False


def _shards(directory: Path) -> dict[str, list[Path]]:
    """The data files of a run by split, in order."""
    found: dict[str, list[Path]] = {}
    for path in sorted((directory / DATA).glob("*.parquet")):
        if match := _SHARD.match(path.name):
            found.setdefault(match["split"], []).append(path)
    return found


def _write_splits(directory: Path, shape: Shape, work: Path, lines: bool) -> _Tally:
    tally = _Tally()
    for split, paths in _shards(directory).items():
        told = _told(paths, shape, split, tally)
        if isinstance(shape, TokenExport):
            with shape.shard(work / DATA / split) as sink:
                _write_split(shape.documents(told, sink, split), shape.schema, work / DATA, split, tally, lines)
        else:
            _write_split(told, shape.schema, work / DATA, split, tally, lines)
    return tally


def _told(paths: list[Path], shape: Shape, split: str, tally: _Tally) -> Iterator[pa.Table]:
    """The rows of a split in the new shape, a row group at a time."""
    start = 0
    for path in paths:
        with pq.ParquetFile(path) as file:
            _check_columns(file.schema_arrow, shape, path)
            for group in range(file.num_row_groups):
                records = file.read_row_group(group, columns=["record_id", *shape.columns])
                shaped = shape(records, split, start)
                start += records.num_rows
                tally.rows_in += records.num_rows
                tally.lost(shaped.untold)
                yield shaped.table


def _check_columns(schema: pa.Schema, shape: Shape, path: Path) -> None:
    missing = [name for name in shape.columns if name not in schema.names]
    if missing:
        raise RunError(f"{path} has no column '{missing[0]}'; it was written by another version of curatrix")


def _write_split(
    tables: Iterator[pa.Table], schema: pa.Schema, folder: Path, split: str, tally: _Tally, lines: bool
) -> None:
    """Files of a fixed number of rows, none without rows; they get their names when their number is known."""
    parts: list[Path] = []
    with ExitStack() as stack:
        writer: TableWriter | LinesWriter | None = None
        for table in tables:
            while table.num_rows:
                if writer is None or writer.rows >= _ROWS_PER_FILE:
                    stack.close()
                    parts.append(folder / f"{split}-{len(parts):05d}.part")
                    writer = stack.enter_context(_opened(parts[-1], schema, lines))
                head = table.slice(0, _ROWS_PER_FILE - writer.rows)
                writer.write(head)
                table = table.slice(head.num_rows)
                tally.rows[split] = tally.rows.get(split, 0) + head.num_rows
    ending = "jsonl" if lines else "parquet"
    for number, part in enumerate(parts):
        os.replace(part, folder / f"{split}-{number:05d}-of-{len(parts):05d}.{ending}")


def _opened(path: Path, schema: pa.Schema, lines: bool) -> AbstractContextManager[TableWriter | LinesWriter]:
    return lines_writer(path, schema) if lines else table_writer(path, schema)


def _check(tally: _Tally, shape: Shape, directory: Path, strict: bool) -> None:
    reasons = "; ".join(explained({"untold": tally.untold}))
    if not tally.rows:
        raise RecipeError(
            f"not one of the {tally.rows_in:,} rows of {directory} can be told as '{shape.name}'. {reasons}"
        )
    if strict and tally.untold:
        raise GateError(f"--strict, and not every row can be told as '{shape.name}'. {reasons}")


def _report(manifest: Mapping[str, Any], shape: Shape, tally: _Tally, work: Path) -> dict[str, Any]:
    files = [
        {
            "path": str(path.relative_to(work)),
            **({"rows": pq.read_metadata(path).num_rows} if path.suffix == ".parquet" else {}),
            "bytes": path.stat().st_size,
            "digest": file_digest(path),
        }
        for path in sorted((work / DATA).iterdir())
    ]
    return {
        "format": shape.name,
        "source": {"name": manifest.get("name", ""), "run_fingerprint": manifest.get("run_fingerprint", "")},
        "rows_in": tally.rows_in,
        "rows": sum(tally.rows.values()),
        "splits": tally.rows,
        "untold": tally.untold,
        "files": files,
        **(shape.told() if isinstance(shape, TokenExport) else {}),
    }


def readme(report: Mapping[str, Any], shape: Shape) -> str:
    """The dataset card of an export: its files for `datasets`, its shape, its source, what is not in it."""
    ending = "jsonl" if any(file["path"].endswith(".jsonl") for file in report["files"]) else "parquet"
    files = [{"split": split, "path": f"{DATA}/{split}-*.{ending}"} for split in report["splits"]]
    header = {"tags": ["curatrix", shape.name], "configs": [{"config_name": "default", "data_files": files}]}
    source = report["source"]
    columns = "\n".join(f"| `{column.name}` | `{column.type}` |" for column in shape.schema)
    splits = ", ".join(f"{split} {rows:,}" for split, rows in report["splits"].items())
    untold = "\n".join(f"- {line}" for line in explained(report)) or "- nothing: every row is here"
    return (
        f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n\n# {source['name']} as `{shape.name}`\n\n"
        f"{shape.describe}.\n\nMade by `curate export` from the run `{source['run_fingerprint']}`: "
        f"{report['rows']:,} of {report['rows_in']:,} rows ({splits}). `record_id` is the one of that run, whose "
        f"lineage says for every record why it is in.\n\n| column | type |\n|---|---|\n{columns}\n\n"
        f"What is not in it:\n\n{untold}\n"
    )


def _place(work: Path, out: Path) -> None:
    """Put a finished folder where it belongs, in place of an earlier export."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        os.replace(out, old)
    os.replace(work, out)
    shutil.rmtree(old, ignore_errors=True)
