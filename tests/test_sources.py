"""The files of a source: paths, globs, folders, URLs; and what is said where there is nothing."""

from __future__ import annotations

from pathlib import Path

import fsspec
import pytest
import xxhash

from pipelines.readers import RawRow, decode, read_chunks, sniff
from pipelines.sources import file_digest, list_files
from schemas.errors import RecipeError


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "data/b.jsonl": '{"a":1}\n',
        "data/a.jsonl": '{"a":2}\n{"a":3}\n',
        "data/deep/er/c.csv": "x,y\n1,2\n",
        "data/README.md": "about",
        "data/.cache/x": "no",
        "data/prob/problem.yaml": "name: x",
        "data/prob/data/secret/1.in": "1",
        "data/prob/data/secret/1.ans": "2",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def names(source: str, base: Path) -> list[tuple[str, int]]:
    return [(file.path, file.size) for file in list_files(source, base)]


def test_files_globs_and_folders(tree: Path) -> None:
    assert names("data/a.jsonl", tree) == [("a.jsonl", 16)]
    assert names(str(tree / "data/*.jsonl"), Path("/")) == [("a.jsonl", 16), ("b.jsonl", 8)]
    assert names("data/**/*.csv", tree) == [("deep/er/c.csv", 8)]
    assert names("data", tree) == [("a.jsonl", 16), ("b.jsonl", 8), ("deep/er/c.csv", 8), ("prob", 9)]
    assert names("data/prob", tree) == [("prob", 9)]
    assert names("data/pro*", tree) == [("prob", 9)]
    assert names("data/dee*", tree) == [("deep/er/c.csv", 8)]
    assert names("data/README.md", tree) == [("README.md", 5)]


def test_every_listed_file_can_be_read(tree: Path) -> None:
    files = list_files("data", tree)
    rows = [row for file in files for chunk in read_chunks(file.url, sniff(file.url)) for row in decode(chunk)]
    assert all(isinstance(row, RawRow) for row in rows)
    assert len(rows) == 5


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("data/a.jsnl", "did you mean 'a.jsonl'"),
        ("data/*.parquet", r"no file matches .*\*.parquet"),
        ("dta/a.jsonl", "did you mean 'data'"),
        ("nosuchprotocol://x/y", "Protocol not known"),
        ("memory://nothing/here.jsonl", "no file at memory://nothing/here.jsonl"),
    ],
)
def test_what_is_missing(tree: Path, source: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        list_files(source, tree)


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="holds no files"):
        list_files(".", tmp_path)


def test_urls() -> None:
    system = fsspec.filesystem("memory")
    system.pipe("/bucket/x/a.jsonl", b'{"a":1}\n{"a":2}\n')
    system.pipe("/bucket/x/deep/b.jsonl", b'{"a":3}\n')
    system.pipe("/bucket/x/README.md", b"about")
    base = Path("/")
    assert names("memory://bucket/x/a.jsonl", base) == [("a.jsonl", 16)]
    assert names("memory://bucket/x/*.jsonl", base) == [("a.jsonl", 16)]
    assert names("memory://bucket/x", base) == [("a.jsonl", 16), ("deep/b.jsonl", 8)]
    (file,) = list_files("memory://bucket/x/*.jsonl", base)
    rows = [row for chunk in read_chunks(file.url, sniff(file.url)) for row in decode(chunk)]
    assert [row.raw for row in rows] == [b'{"a":1}', b'{"a":2}']
    assert file_digest(file) == xxhash.xxh3_128_digest(b'{"a":1}\n{"a":2}\n')
    with pytest.raises(RecipeError, match=r"did you mean 'a\.jsonl'"):
        list_files("memory://bucket/x/a.json", base)


def test_digests_follow_the_bytes(tree: Path) -> None:
    before = {file.path: file_digest(file) for file in list_files("data", tree)}
    assert before["a.jsonl"] == xxhash.xxh3_128_digest((tree / "data/a.jsonl").read_bytes())
    (tree / "data/prob/data/secret/1.ans").write_text("3")
    after = {file.path: file_digest(file) for file in list_files("data", tree)}
    assert {name for name in before if before[name] != after[name]} == {"prob"}
