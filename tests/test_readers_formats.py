"""CSV, Parquet, Arrow, YAML, text and archives, on files made here."""

from __future__ import annotations

import csv
import datetime
import decimal
import gzip
import io
import re
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from reading import rows_of, values_of, write

from pipelines.readers import RawRow, Unreadable, decode, read_chunks, sniff
from schemas.errors import RecipeError

SETTINGS = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=8) | st.sampled_from(
    ["a\nb", '"', '","', "", "1", "x\u2028y", "\x00"]
)


class Yaml12(yaml.SafeDumper):
    """Quotes texts that are numbers in YAML 1.2, which we read, and not in 1.1, which PyYAML writes: `0E0`, `0o7`."""


Yaml12.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^0o[0-7]+$"),
    list("-+.0123456789"),
)

YAML_CELLS = CELLS.filter(lambda text: not set(text) & set("\x85\u2028\u2029"))  # PyYAML folds these line ends


@SETTINGS
@given(st.lists(st.tuples(CELLS, CELLS), max_size=8), st.sampled_from(",;\t|"), st.booleans(), st.integers(1, 100))
def test_csv_round_trips(tmp_path: Path, cells: list[tuple[str, str]], delimiter: str, crlf: bool, size: int) -> None:
    out = io.StringIO()
    writer = csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\r\n" if crlf else "\n")
    writer.writerows([("name", "some text"), *cells])
    path = write(tmp_path, out.getvalue().encode(), "x.csv")
    sniffed = sniff(str(path))
    if cells:
        assert sniffed.delimiter == delimiter or len(cells) < 2
    rows = [row for chunk in read_chunks(str(path), sniffed, chunk_bytes=size) for row in decode(chunk)]
    if sniffed.delimiter == delimiter:
        assert values_of(rows) == [{"name": a, "some text": b} for a, b in cells]


def test_csv_bad_rows_cost_no_neighbour(tmp_path: Path) -> None:
    text = b'a,b\n1,2\n3\n4,5,6\n"x"y,1\n\xff,1\n7,"8\n9"\n\n10,"never closed\n11,12\n'
    rows = rows_of(write(tmp_path, text, "x.csv"))
    good = [row.value for row in rows if isinstance(row, RawRow)]
    assert good == [{"a": "1", "b": "2"}, {"a": "7", "b": "8\n9"}, {"a": "11", "b": "12"}]
    bad = [(row.kind, row.line) for row in rows if isinstance(row, Unreadable)]
    assert bad == [
        ("wrong_columns", 3),
        ("wrong_columns", 4),
        ("invalid_csv", 5),
        ("invalid_utf8", 6),
        ("invalid_csv", 10),
    ]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("id,text\n1,a\n2,b\n", ("id", "text")),
        ("1,a\n2,b\n3,c\n", ("column0", "column1")),
        ("What is it?,A thing.\nWho?,Me.\nWhy?,So.\n", ("column0", "column1")),
        (",a,b\n1,2,3\n", ("column0", "a", "b")),
    ],
)
def test_csv_columns(tmp_path: Path, text: str, columns: tuple[str, ...]) -> None:
    rows = values_of(rows_of(write(tmp_path, text.encode(), "x.csv")))
    assert tuple(rows[0]) == columns


def test_csv_without_a_suffix_and_with_a_bom(tmp_path: Path) -> None:
    path = write(tmp_path, b"\xef\xbb\xbfid\ttext\n1\ta, b\n2\tc\n", "x")
    assert sniff(str(path)).format == "csv"
    assert values_of(rows_of(path)) == [{"id": "1", "text": "a, b"}, {"id": "2", "text": "c"}]


def nested_table(rows: int) -> pa.Table:
    return pa.table(
        {
            "text": [f"row {n}" for n in range(rows)],
            "turns": [[{"role": "user", "n": n}] * 2 for n in range(rows)],
            "big": [n << 40 for n in range(rows)],
            "nothing": pa.nulls(rows),
        }
    )


@pytest.mark.parametrize("kind", ["parquet", "file", "stream", "gzip"])
@pytest.mark.parametrize("chunk_bytes", [1, 5000, 1 << 20])
def test_columnar_files(tmp_path: Path, kind: str, chunk_bytes: int) -> None:
    table, path = nested_table(3000), tmp_path / "data.bin"
    if kind in ("parquet", "gzip"):
        pq.write_table(table, path, row_group_size=700)
        if kind == "gzip":
            path.write_bytes(gzip.compress(path.read_bytes()))
    else:
        new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
        with new(str(path), table.schema) as writer:
            writer.write_table(table, max_chunksize=900)
    table = table.slice(0, 60) if chunk_bytes == 1 else table
    found = values_of(rows_of(path, chunk_bytes=max(chunk_bytes, 40)))
    assert found[: len(table)] == table.to_pylist()


def test_columnar_values_become_plain(tmp_path: Path) -> None:
    table = pa.table(
        {
            "day": [datetime.date(2020, 1, 2)],
            "price": [decimal.Decimal("1.50")],
            "blob": [b"\xff\x00"],
            "bytes": ["é".encode()],
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    (row,) = rows_of(tmp_path / "x.parquet")
    assert isinstance(row, RawRow)
    assert row.value == {
        "day": "2020-01-02",
        "price": "1.50",
        "blob": {"base64": "/wA="},
        "bytes": "é",
        "map": {"k": 1},
    }
    assert orjson.loads(row.raw) == row.value


@pytest.mark.parametrize("keep", [0.5, 0.99])
def test_cut_columnar_files_are_told(tmp_path: Path, keep: float) -> None:
    pq.write_table(nested_table(2000), tmp_path / "x.parquet")
    with pa.ipc.new_stream(str(tmp_path / "x.arrow"), nested_table(1).schema) as writer:
        writer.write_table(nested_table(2000), max_chunksize=100)
    for name, least in (("x.parquet", 0), ("x.arrow", 900)):
        data = (tmp_path / name).read_bytes()
        rows = rows_of(write(tmp_path, data[: int(len(data) * keep)], "cut" + name))
        assert isinstance(rows[-1], Unreadable)
        assert rows[-1].kind == "truncated_file"
        assert len(rows) > least
        assert values_of(rows[:-1]) == nested_table(2000).to_pylist()[: len(rows) - 1]


@example([{"a": ""}, {"a": "0E0", "b": "08", "c": "0o7"}, {"a": 7, "b": ["1e3", "-.5E1"]}], 1)
@SETTINGS
@given(
    st.lists(
        st.dictionaries(
            st.text("abc", min_size=1, max_size=3),
            YAML_CELLS | st.integers() | st.lists(YAML_CELLS, max_size=2),
            min_size=1,
            max_size=3,
        ),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 200),
)
def test_yaml_round_trips(tmp_path: Path, values: list[Any], chunk_bytes: int) -> None:
    path = write(tmp_path, yaml.dump(values, Dumper=Yaml12, allow_unicode=True).encode(), "x.yaml")
    assert values_of(rows_of(path, chunk_bytes=chunk_bytes)) == values


def test_yaml_scalars_keep_their_text(tmp_path: Path) -> None:
    text = b"- {a: No, b: 12:30, c: 2020-01-01, d: true, e: 0x10, f: 1e3, g: ~, h: yes, i: 010}\n"
    (row,) = values_of(rows_of(write(tmp_path, text, "x.yaml")))
    assert row == {
        "a": "No", "b": "12:30", "c": "2020-01-01", "d": True, "e": 16, "f": 1000.0, "g": None, "h": "yes", "i": 10,
    }  # fmt: skip


def test_yaml_bad_items_cost_no_neighbour(tmp_path: Path) -> None:
    bomb = b"- [&a [x,x,x,x,x,x,x,x,x,x]" + b"".join(
        b", &%c [%s]" % (98 + n, b",".join([b"*%c" % (97 + n)] * 10)) for n in range(8)
    )
    text = (
        b"# list\n---\n- a: 1\n- {a: 1, a: 2}\n- a: [1\n- a: 'x\n"
        + bomb
        + b"]\n- !!python/object:os.system {}\n- \xff\n- a: 2\n"
    )
    rows = rows_of(write(tmp_path, text, "x.yaml"))
    assert [row.value for row in rows if isinstance(row, RawRow)] == [{"a": 1}, {"a": 2}]
    kinds = [row.kind for row in rows if isinstance(row, Unreadable)]
    assert kinds == ["duplicate_key", "invalid_yaml", "invalid_yaml", "too_large", "invalid_yaml", "invalid_utf8"]
    assert rows[1].raw == b"- {a: 1, a: 2}\n"


def test_yaml_documents(tmp_path: Path) -> None:
    text = b"a: 1\nb:\n- x\n- y\n---\na: 2\n...\n"
    assert values_of(rows_of(write(tmp_path, text, "x.yml"))) == [{"a": 1, "b": ["x", "y"]}, {"a": 2}]


def test_text_files(tmp_path: Path) -> None:
    ids = write(tmp_path, b"t120 The first.\nt8 The second.\n\nt9  Third\n", "x.train")
    assert values_of(rows_of(ids)) == [
        {"id": "t120", "text": "The first."},
        {"id": "t8", "text": "The second."},
        {"id": "t9", "text": "Third"},
    ]
    code = write(tmp_path, b"[1, 2]\nx = {}\n", "y.py")
    assert values_of(rows_of(code)) == [{"text": "[1, 2]\nx = {}\n", "path": "y.py"}]
    prose = write(tmp_path, b"One, two.\nThree, four.\nFive, six.\n", "z.txt")
    assert sniff(str(prose)).format == "text"
    assert values_of(rows_of(prose, "lines"))[1] == {"text": "Three, four."}
    assert rows_of(write(tmp_path, b" \n", "e.txt")) == []
    (bad,) = rows_of(write(tmp_path, b"caf\xe9", "b.md"))
    assert isinstance(bad, Unreadable)
    assert bad.kind == "invalid_utf8"


def test_what_is_no_format(tmp_path: Path) -> None:
    path = write(tmp_path, bytes(range(256)) * 20, "x.bin")
    with pytest.raises(RecipeError, match="binary data"):
        sniff(str(path))
    with pytest.raises(RecipeError, match="did you mean 'jsonl'"):
        sniff(str(path), "jsonl1")
    with pytest.raises(RecipeError, match="cannot read"):
        sniff(str(tmp_path / "missing"))
    with pytest.raises(RecipeError, match=r"problem\.yaml"):
        sniff(str(tmp_path))


PACKAGE = {
    "problem.yaml": "name: X\n",
    "data/secret/01.in": "1\n",
    "data/secret/01.ans": "2\n",
    "data/sample/1.in": "3\n",
    "data/sample/1.ans": "4\n",
    "data/sample/2.in": "5\n",
    "submissions/accepted/a.py": "print(1)",
    "submissions/wrong_answer/b.cc": "int main;",
    "output_validators/v.h": "// v",
    "problem_statement/problem.en.tex": "\\problemname{X}",
    ".timelimit": "3\n",
    "picture.jpg": "\xff",
}


def package_row(name: str) -> dict[str, Any]:
    return {
        "package": name,
        "problem_yaml": "name: X\n",
        "meta_files": {".timelimit": "3\n", "data/sample/2.in": "5\n"},
        "statement": {"problem_statement/problem.en.tex": "\\problemname{X}"},
        "tests": [
            {"path": "data/sample/1", "group": "sample", "input": "3\n", "answer": "4\n"},
            {"path": "data/secret/01", "group": "secret", "input": "1\n", "answer": "2\n"},
        ],
        "tests_omitted_large_or_missing": 1,
        "submissions": [
            {"path": "submissions/accepted/a.py", "expected": "accepted", "language": "python", "code": "print(1)"},
            {
                "path": "submissions/wrong_answer/b.cc",
                "expected": "wrong_answer",
                "language": "cpp",
                "code": "int main;",
            },
        ],
        "validators": {"output_validators/v.h": "// v"},
        "files_omitted": ["picture.jpg"],
    }


def test_a_problem_package(tmp_path: Path) -> None:
    for name, text in PACKAGE.items():
        path = tmp_path / "xprob" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode("latin-1"))
    assert values_of(rows_of(tmp_path / "xprob")) == [package_row("xprob")]
    tar = tmp_path / "x.tar.gz"
    with tarfile.open(tar, "w:gz") as archive:
        archive.add(tmp_path / "xprob", "all/xprob")
        archive.add(tmp_path / "xprob", "all/other")
        archive.add(tmp_path / "xprob" / ".timelimit", "all/README")
    found = values_of(rows_of(tar))
    assert sorted(row["package"] for row in found) == ["all/other", "all/xprob"]
    assert {**found[0], "package": ""} == package_row("")


@pytest.mark.parametrize("kind", ["tar", "tar.xz", "zip"])
def test_archives(tmp_path: Path, kind: str) -> None:
    inner = {
        "b/one.jsonl.gz": gzip.compress(b'{"a":1}\n{bad\n'),
        "b/two.csv": b"x,y\n1,2\n",
        "readme.md": b"# about",
        ".hidden": b"no",
        "three.json": b'{"data":[{"a":3}],"v":1}',
        "bin": bytes(range(256)),
    }
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in inner.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, "w:xz" if kind == "tar.xz" else "w") as tar:
            for name, data in inner.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    rows = rows_of(path)
    good = [row.value for row in rows if isinstance(row, RawRow)]
    assert good == [{"a": 1}, {"x": "1", "y": "2"}, {"a": 3, "_envelope": {"v": 1}}]
    assert [row.kind for row in rows if isinstance(row, Unreadable)] == ["invalid_json", "unknown_format"]
    members = {chunk.member for chunk in read_chunks(str(path), sniff(str(path)))}
    assert members == {"b/one.jsonl.gz", "b/two.csv", "three.json", "bin"}


def test_a_cut_archive_keeps_what_comes_before(tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        for name in ("a.jsonl", "b.jsonl"):
            info = tarfile.TarInfo(name)
            info.size = 8000
            tar.addfile(info, io.BytesIO(b'{"a":1}\n' * 1000))
    path.write_bytes(path.read_bytes()[:12_000])
    rows = rows_of(path)
    assert len(values_of(rows[:1000])) == 1000
    assert isinstance(rows[-1], Unreadable)
    assert rows[-1].kind == "truncated_file"
