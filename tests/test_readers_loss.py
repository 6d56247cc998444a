"""Damage costs what it hit: the rest is read, what is lost is counted or stops the run; an odd value is a bad row."""

from __future__ import annotations

import datetime
import errno
import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from makes import alpaca_rows, run_here, write_recipe
from reading import rows_of, values_of, write

from pipelines.readers import RawRow, Unreadable
from pipelines.readers.columnar import read_parquet
from schemas.errors import GateError

MEMBERS = [[{"instruction": f"Q {m} {n}", "output": f"A {m} {n}"} for n in range(30)] for m in range(5)]


def jsonl(rows: list[dict[str, str]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def split(rows: list[RawRow | Unreadable]) -> tuple[list[Any], list[Unreadable]]:
    return [row.value for row in rows if isinstance(row, RawRow)], [row for row in rows if isinstance(row, Unreadable)]


def zipped(path: Path, how: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", how) as archive:
        for number, rows in enumerate(MEMBERS):
            archive.writestr(f"m{number}.jsonl", jsonl(rows))
    return path


def flipped(path: Path, at: int, length: int = 1) -> Path:
    data = bytearray(path.read_bytes())
    data[at : at + length] = bytes(byte ^ 0xFF for byte in data[at : at + length])
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_of_a_zip_costs_no_other(tmp_path: Path, how: int) -> None:
    path = zipped(tmp_path / "x.zip", how)
    with zipfile.ZipFile(path) as archive:
        hit = archive.getinfo("m1.jsonl")
    good, bad = split(rows_of(flipped(path, hit.header_offset + 30 + len("m1.jsonl") + hit.compress_size // 2, 4)))
    assert good == [row for number, rows in enumerate(MEMBERS) if number != 1 for row in rows]
    assert [row.kind for row in bad] == ["truncated_file"]
    assert "'m1.jsonl'" in bad[0].error


def test_what_can_be_read_of_a_damaged_member_is_kept(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip")
    before = path.read_bytes().index(b"Q 1 20")
    _, bad = split(rows_of(flipped(path, before)))
    assert bad[0].raw[:200] == jsonl(MEMBERS[1])[:200]


def test_a_damaged_package_in_a_zip_is_one_lost_row(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for name in ("a", "b"):
            archive.writestr(f"{name}/problem.yaml", f"name: {name}\n")
            archive.writestr(f"{name}/data/secret/1.in", f"input of {name}")
            archive.writestr(f"{name}/data/secret/1.ans", "1")
    path = flipped(tmp_path / "x.zip", (tmp_path / "x.zip").read_bytes().index(b"input of a"))
    good, bad = split(rows_of(path))
    assert [row["package"] for row in good] == ["b"]
    assert [(row.kind, "data/secret/1.in" in row.error) for row in bad] == [("damaged_data", True)]


def tarred(path: Path) -> Path:
    with tarfile.open(path, "w") as archive:
        for number, rows in enumerate(MEMBERS):
            info = tarfile.TarInfo(f"m{number}.jsonl")
            info.size = len(jsonl(rows))
            archive.addfile(info, io.BytesIO(jsonl(rows)))
    return path


@pytest.mark.parametrize("how", ["header", "cut", "cut at a border"])
def test_a_tar_does_not_end_in_silence(tmp_path: Path, how: str) -> None:
    path = tarred(tmp_path / "x.tar")
    header = path.read_bytes().index(b"m2.jsonl")
    if how == "header":
        flipped(path, header + 150)
    else:
        path.write_bytes(path.read_bytes()[: header + (0 if how == "cut at a border" else 100)])
    good, bad = split(rows_of(path))
    assert good == MEMBERS[0] + MEMBERS[1]
    assert [row.kind for row in bad] == ["truncated_file"]
    assert "behind 'm1.jsonl'" in bad[0].error


def plain_parquet(path: Path, rows: int, group: int) -> pa.Table:
    table = pa.table({"instruction": [f"Q {n}" for n in range(rows)], "output": [f"A {n}" for n in range(rows)]})
    pq.write_table(table, path, row_group_size=group, compression="none", use_dictionary=False)
    return table


def bad_page(path: Path, group: int) -> Path:
    return flipped(path, pq.ParquetFile(path).metadata.row_group(group).column(0).data_page_offset, 8)


@pytest.mark.parametrize("chunk_bytes", [2000, 8 << 20])
def test_a_damaged_row_group_costs_its_rows_and_counts_them(tmp_path: Path, chunk_bytes: int) -> None:
    table = plain_parquet(tmp_path / "x.parquet", 30_000, 3000)
    rows = rows_of(bad_page(tmp_path / "x.parquet", 1), chunk_bytes=chunk_bytes)
    good, bad = split(rows)
    assert good == table.slice(0, 3000).to_pylist() + table.slice(6000).to_pylist()
    assert [row.row for row in bad] == list(range(3000, 6000))
    assert {row.kind for row in bad} == {"damaged_data"}
    assert "row group 1 of 10" in bad[0].error
    assert "\n" not in bad[0].error


def test_rows_of_a_group_before_the_damage_are_kept(tmp_path: Path) -> None:
    table = pa.table({"text": [f"row {n * 2654435761 % 2**32:08x}" for n in range(20_000)]})
    pq.write_table(table, tmp_path / "x.parquet", compression="zstd", use_dictionary=False, data_page_size=4096)
    pages = zstd_frames(tmp_path / "x.parquet")
    assert len(pages) > 8
    good, bad = split(rows_of(flipped(tmp_path / "x.parquet", pages[-2], 4)))
    assert len(good) + len(bad) == 20_000
    assert len(good) >= 10_000
    assert good == table.to_pylist()[: len(good)]


def zstd_frames(path: Path) -> list[int]:
    raw = path.read_bytes()
    return [at for at in range(len(raw)) if raw.startswith(b"\x28\xb5\x2f\xfd", at)]


def test_a_damaged_batch_of_an_arrow_file_costs_no_other(tmp_path: Path) -> None:
    table = pa.table({"text": [f"row {n:05d}" for n in range(1000)]})
    with pa.ipc.new_file(
        str(tmp_path / "x.arrow"), table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
    ) as w:
        w.write_table(table, max_chunksize=100)
    frames = zstd_frames(tmp_path / "x.arrow")
    good, bad = split(rows_of(flipped(tmp_path / "x.arrow", frames[6], 4)))  # two buffers a batch: that of batch 3
    assert good == table.slice(0, 300).to_pylist() + table.slice(400).to_pylist()
    assert [(row.kind, "record batch 3 of 10" in row.error) for row in bad] == [("truncated_file", True)]


def test_a_parquet_file_without_a_footer_is_told(tmp_path: Path) -> None:
    plain_parquet(tmp_path / "x.parquet", 10, 10)
    size = (tmp_path / "x.parquet").stat().st_size
    (row,) = rows_of(flipped(tmp_path / "x.parquet", size - 300, 200))
    assert isinstance(row, Unreadable)
    assert row.kind == "truncated_file"


class Failing(io.BytesIO):
    """A disk that fails while the rows are read."""

    def read(self, size: int | None = -1) -> bytes:
        if self.tell() < 1000:
            raise OSError(errno.EIO, "Input/output error")
        return super().read(size)


def test_a_failing_disk_is_no_damage(tmp_path: Path) -> None:
    plain_parquet(tmp_path / "x.parquet", 30_000, 10_000)
    with pytest.raises(OSError, match="Input/output error"):
        list(read_parquet(Failing((tmp_path / "x.parquet").read_bytes()), 1 << 20))


def run_file(folder: Path, name: str, **keys: Any) -> dict[str, Any]:
    recipe = write_recipe(folder, sources=[{"name": "rows", "path": name}], **keys)
    return run_here(recipe, folder / "out", folder / "store")


def test_a_run_does_not_pass_over_a_damaged_zip(tmp_path: Path) -> None:
    path = zipped(tmp_path / "x.zip")
    flipped(path, path.read_bytes().index(b"Q 3 9"))
    with pytest.raises(GateError, match=r"(?s)1 of 1 files.*unknown.*rows: x\.zip.*'m3\.jsonl'.*max_quarantine: 1"):
        run_file(tmp_path, "x.zip", max_quarantine=0.99)
    assert not (tmp_path / "out/manifest.json").exists()
    manifest = run_file(tmp_path, "x.zip", max_quarantine=1)
    assert manifest["splits"] == {"train": 120}
    assert manifest["quarantine"] == {"rows": 1, "by_kind": {"truncated_file": 1}}


def test_a_run_does_not_pass_over_the_end_of_a_cut_stream(tmp_path: Path) -> None:
    rows = alpaca_rows(2000)
    packed = gzip.compress(jsonl(rows))
    write(tmp_path, packed[: len(packed) // 2], "x.jsonl.gz")
    with pytest.raises(GateError, match=r"rows: x\.jsonl\.gz, line \d+: the gzip stream breaks off"):
        run_file(tmp_path, "x.jsonl.gz")


def test_the_gate_and_the_manifest_count_every_lost_row(tmp_path: Path) -> None:
    plain_parquet(tmp_path / "x.parquet", 1000, 100)
    bad_page(tmp_path / "x.parquet", 4)
    with pytest.raises(GateError, match=r"100 of 1,000 rows \(10\.0%\).*damaged_data 100"):
        run_file(tmp_path, "x.parquet", max_quarantine=0.09)
    manifest = run_file(tmp_path, "x.parquet", max_quarantine=0.1)
    (source,) = manifest["sources"]
    assert (source["rows_read"], source["rows"], source["quarantined"]) == (1000, 900, 100)
    assert manifest["quarantine"] == {"rows": 100, "by_kind": {"damaged_data": 100}}
    held = pq.read_table(tmp_path / "out/quarantine").to_pylist()
    assert [row["row"] for row in held] == list(range(400, 500))


def not_utf8(*values: bytes) -> pa.Array:
    return pa.array(values, pa.binary()).view(pa.string())


ODD = {
    "text": (not_utf8(b"fine", b"caf\xe9", b"good"), "invalid_utf8", {"base64": "Y2Fm6Q=="}),
    "in a list": (
        pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), not_utf8(b"fine", b"caf\xe9", b"good")),
        "invalid_utf8",
        [{"base64": "Y2Fm6Q=="}],
    ),
    "timestamp": (pa.array([0, 2**62, 1], pa.timestamp("us")), "unreadable_value", 2**62),
    "date": (pa.array([0, 2**30, 1], pa.date32()), "unreadable_value", 2**30),
    "duration": (pa.array([0, 2**62, 1], pa.duration("s")), "unreadable_value", 2**62),
    "time zone": (pa.array([None, 5, None], pa.timestamp("us", tz="Foo/Bar")), "unreadable_value", 5),
}


@pytest.mark.parametrize("name", ODD)
def test_one_odd_value_is_one_bad_row(tmp_path: Path, name: str) -> None:
    column, kind, stored = ODD[name]
    pq.write_table(pa.table({"n": [0, 1, 2], "odd": column}), tmp_path / "x.parquet")
    first, bad, last = rows_of(tmp_path / "x.parquet")
    assert [row.value["n"] for row in (first, last) if isinstance(row, RawRow)] == [0, 2]
    assert isinstance(bad, Unreadable)
    assert (bad.kind, bad.field) == (kind, "odd")
    assert "column 'odd'" in bad.error
    assert orjson.loads(bad.raw) == {"n": 1, "odd": stored}


def test_dates_that_python_has_are_read(tmp_path: Path) -> None:
    table = pa.table({"day": pa.array([datetime.date(1, 1, 1), datetime.date(9999, 12, 31)])})
    pq.write_table(table, tmp_path / "x.parquet")
    assert values_of(rows_of(tmp_path / "x.parquet")) == [{"day": "0001-01-01"}, {"day": "9999-12-31"}]


def test_two_columns_of_one_name_are_refused_row_by_row(tmp_path: Path) -> None:
    table = pa.table([pa.array(["q", "r"]), pa.array(["a", "b"]), pa.array(["c", "d"])], names=["in", "out", "out"])
    pq.write_table(table, tmp_path / "x.parquet")
    good, bad = split(rows_of(tmp_path / "x.parquet"))
    assert good == []
    assert [(row.kind, row.field) for row in bad] == [("duplicate_key", "out")] * 2
    assert "'out' occurs more than once" in bad[0].error
    assert bad[1].raw == b'{"in":"r","out":"b","out":"d"}'


@pytest.mark.parametrize(
    ("value", "tag"),
    [
        ("!!bool maybe", "bool"),
        ("!!timestamp soon", "timestamp"),
        ("!!timestamp 2020-99-01", "timestamp"),
        ("!!float ''", "float"),
        ("!!int x", "int"),
    ],
)
def test_a_yaml_value_that_is_not_what_its_tag_says(tmp_path: Path, value: str, tag: str) -> None:
    text = f"- {{a: 1}}\n- {{a: {value}}}\n- {{a: 2}}\n"
    good, bad = split(rows_of(write(tmp_path, text.encode(), "x.yaml")))
    assert good == [{"a": 1}, {"a": 2}]
    assert [(row.kind, row.line) for row in bad] == [("invalid_yaml", 2)]
    assert f"is not of type {tag}" in bad[0].error


def test_names_in_a_tar_that_are_not_utf8(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        info = tarfile.TarInfo("caf\udce9.md")
        info.size = 5
        archive.addfile(info, io.BytesIO(b"hello"))
    (row,) = values_of(rows_of(tmp_path / "x.tar"))
    assert row == {"text": "hello", "path": "caf\\xe9.md"}
