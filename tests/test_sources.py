"""The files of a source: paths, globs, folders, URLs; and what is said where there is nothing."""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
import xxhash
from makes import run_here, write_recipe

from pipelines.readers import RawRow, decode, read_chunks, sniff
from pipelines.readers.hf import dataset_digest
from pipelines.readers.streams import public
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


def jsonl(path: Path, number: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'{{"instruction": "Q {number}", "output": "A {number}"}}\n')
    return path


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    jsonl(tmp_path / "in/z/one.jsonl", 1)
    jsonl(tmp_path / "elsewhere/two.jsonl", 2)
    (tmp_path / "in/a-link").symlink_to("../elsewhere")
    (tmp_path / "in/again").symlink_to("../elsewhere")
    (tmp_path / "in/b-link-within").symlink_to("z")
    (tmp_path / "elsewhere/loop").symlink_to("../in")
    assert [name for name, _ in names("in", tmp_path)] == ["a-link/two.jsonl", "z/one.jsonl"]


def test_links_to_files_are_followed_and_dangling_ones_told(tmp_path: Path) -> None:
    jsonl(tmp_path / "elsewhere/two.jsonl", 2)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/x.jsonl").symlink_to("../elsewhere/two.jsonl")
    (tmp_path / "in/.#lock").symlink_to("nowhere")
    assert [name for name, _ in names("in", tmp_path)] == ["x.jsonl"]
    (tmp_path / "in/y.jsonl").symlink_to("nowhere")
    for source in ("in", "in/*.jsonl", "in/y.jsonl"):
        with pytest.raises(RecipeError, match=r"in/y\.jsonl is a link to nowhere, which does not exist"):
            list_files(source, tmp_path)


@contextmanager
def as_anybody() -> Iterator[None]:
    """Without the rights of root, which may read everything."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("inside", ["locked", "prob/data"])
def test_a_folder_that_cannot_be_read_is_told(inside: str) -> None:
    with as_anybody(), tempfile.TemporaryDirectory(dir="/tmp") as own:  # tmp_path belongs to root alone
        folder = Path(own)
        jsonl(folder / "in/x.jsonl", 1)
        jsonl(folder / "in" / inside / "secret/y.jsonl", 2)
        jsonl(folder / "in/prob/problem.yaml", 3)
        locked = folder / "in" / inside
        locked.chmod(0)
        try:
            with pytest.raises(RecipeError, match=rf"cannot read .*{inside}.*: Permission denied"):
                list_files("in", folder)
        finally:
            locked.chmod(0o700)


def ids_and_origins(folder: Path, source: object) -> list[dict[str, str]]:
    recipe = write_recipe(folder, sources=[{"name": "s", "path": source}])
    run_here(recipe, folder / "out", folder / "store")
    columns = ["record_id", "origin", "prompt"]
    rows: list[dict[str, str]] = pq.read_table(folder / "out/data", columns=columns).sort_by("origin").to_pylist()
    return rows


def test_files_of_one_name_in_two_folders_have_ids_of_their_own(tmp_path: Path) -> None:
    for number, name in enumerate(("a/x.jsonl", "b/x.jsonl", "a/0/x.jsonl")):
        jsonl(tmp_path / name, number)
    rows = ids_and_origins(tmp_path, ["a", "b"])
    assert len({row["record_id"] for row in rows}) == len({row["origin"] for row in rows}) == 3


def test_the_number_of_the_folder_tells_files_of_one_name_apart(tmp_path: Path) -> None:
    for number, name in enumerate(("a/x.jsonl", "b/x.jsonl", "a/0/y.jsonl")):
        jsonl(tmp_path / name, number)
    origins = [row["origin"] for row in ids_and_origins(tmp_path, ["a", "b"])]
    assert origins == ["0/x.jsonl#0", "0/y.jsonl#0", "1/x.jsonl#0"]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("~nobodyhere/x", "cannot read ~nobodyhere/x"),
        ("a" * 300, "File name too long"),
        (f"{'a' * 300}/*.jsonl", "no file matches|File name too long"),
    ],
)
def test_paths_that_cannot_be(tmp_path: Path, source: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words) as raised:
        list_files(source, tmp_path)
    assert "\n" not in str(raised.value)
    if not source.endswith("*.jsonl"):
        with pytest.raises(RecipeError):
            dataset_digest(source, None, "train", tmp_path)


def test_a_name_that_is_not_utf8_is_told(tmp_path: Path) -> None:
    jsonl(tmp_path / "in/caf\udce9.jsonl", 1)
    with pytest.raises(RecipeError, match=r"in/caf\\xe9\.jsonl is not valid UTF-8"):
        list_files("in", tmp_path)


class Web(BaseHTTPRequestHandler):
    """Files behind a signed URL; without the signature there is nothing."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self.wfile.write(self._answer())

    def _answer(self) -> bytes:
        path, _, query = self.path.partition("?")
        body = b"# A note about it\n" if path.endswith(".md") else b'{"instruction": "Q", "output": "A"}\n'
        self.send_response(200 if query.startswith("sig=hush") else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return body

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def web() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Web)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def files_with(folder: Path, word: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and word in path.read_bytes()]


@pytest.mark.parametrize("name", ["d.jsonl", "about.md"])
def test_what_signs_a_url_is_not_recorded(tmp_path: Path, web: str, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    source = f"http://{web}/in/{name}?sig=${{SIGNATURE}}#part"
    found = []
    for number, secret in enumerate(("hush-one*[1]", "hush-two")):
        monkeypatch.setenv("SIGNATURE", secret)
        (tmp_path / str(number)).mkdir()
        found.append(ids_and_origins(tmp_path / str(number), source))
        assert files_with(tmp_path, secret.encode()) == []
    assert [row["origin"] for row in found[0]] == [f"{name}#0"]
    assert found[0] == found[1]


def test_two_queries_are_two_files(tmp_path: Path, web: str) -> None:
    rows = ids_and_origins(tmp_path, [f"http://{web}/get.jsonl?sig=hush&n={n}" for n in (1, 2)])
    assert [row["origin"] for row in rows] == ["0/get.jsonl#0", "1/get.jsonl#0"]


def test_messages_leave_out_what_signs_a_url(web: str) -> None:
    with pytest.raises(RecipeError, match=f"http://{web}/d.jsonl") as raised:
        list_files(f"http://{web}/d.jsonl?sig=wrong", Path("/"))
    assert "wrong" not in str(raised.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:pass@host/a/b.jsonl?x=1#y", "https://host/a/b.jsonl"),
        ("https://host?x=1", "https://host"),
        ("simplecache::https://host/b.jsonl?x=a/b", "simplecache::https://host/b.jsonl"),
        ("ftp://me:pass@host/b?.jsonl", "ftp://host/b?.jsonl"),
        ("abfs://box@account.dfs.core.windows.net/b.jsonl", "abfs://box@account.dfs.core.windows.net/b.jsonl"),
        ("s3://bucket/a?[0-9].jsonl", "s3://bucket/a?[0-9].jsonl"),
        ("local/what?.jsonl", "local/what?.jsonl"),
    ],
)
def test_what_of_a_url_is_shown(url: str, shown: str) -> None:
    assert public(url) == shown
