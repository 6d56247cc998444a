"""Raw text, JSONL and token shards: written from a run, read back exactly."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from formats_rows import ALPACA, CHATS, MATHS, TEXT, TOOLS, make_run, table
from small_models import byte_tokenizer

from pipelines.exporting import export_run
from pipelines.files import read_json
from pipelines.formats.tokens import COLUMNS, TOKENS, load_tokenizer, tokens_of
from pipelines.formats.tokens_files import LAYOUTS, Layout, megatron_index, read_shard, shard_writer
from schemas.errors import RecipeError

CHATML = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function | tojson }}"
    "{% endfor %}<|end|>\n{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokenizer")
    made = byte_tokenizer(CHATML)
    made.add_special_tokens({"additional_special_tokens": ["<|end|>"]})
    made.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_run(tmp_path_factory.mktemp("made"), [*CHATS.values(), MATHS, TEXT])


def test_documents_and_conversations_as_tokens(tokenizer: Path) -> None:
    loaded = load_tokenizer(tokenizer)
    done = tokens_of(table([TEXT, ALPACA]).select(["record_id", *COLUMNS]), loaded)
    assert (done.table.schema, done.untold) == (TOKENS, [])
    text, chat = done.table.to_pylist()
    assert loaded.decode(text["ids"]) == TEXT["text"] + "</s>"
    assert set(text["mask"]) == {1}
    assert loaded.decode(chat["ids"]) == "<|user|>Say hi.<|end|>\n<|assistant|>Hi!<|end|>\n"
    said = [token for token, counts in zip(chat["ids"], chat["mask"], strict=True) if counts]
    assert loaded.decode(said) == "Hi!<|end|>"


def test_tool_calls_are_told_without_nulls(tokenizer: Path) -> None:
    loaded = load_tokenizer(tokenizer)
    (row,) = tokens_of(table([TOOLS]).select(["record_id", *COLUMNS]), loaded).table.to_pylist()
    said = loaded.decode([token for token, counts in zip(row["ids"], row["mask"], strict=True) if counts])
    assert said == '{"name": "light", "arguments": {"on": true, "room": null}}<|end|>Done.\u2028<|end|>'


@pytest.mark.parametrize("layout", LAYOUTS)
def test_export_and_read_back(layout: Layout, run: Path, tokenizer: Path, tmp_path: Path) -> None:
    report = export_run(run, layout, tmp_path / "out", tokenizer=tokenizer)
    got = list(read_shard(layout, tmp_path / "out/data/train"))
    records = pq.read_table(sorted((run / "data").glob("*.parquet")), columns=["record_id", *COLUMNS])
    wanted = tokens_of(records, load_tokenizer(tokenizer)).table.to_pylist()
    assert [ids.tolist() for ids, _ in got] == [row["ids"] for row in wanted]
    assert [mask.tolist() for _, mask in got] == [row["mask"] for row in wanted]
    total = {"tokens": sum(len(ids) for ids, _ in got), "loss_tokens": sum(int(mask.sum()) for _, mask in got)}
    assert report["tokens"] == {"train": total}
    assert report == read_json(tmp_path / "out/export.json")
    documents = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert documents["record_id"] == [row["record_id"] for row in wanted]
    assert documents["n_tokens"] == [len(ids) for ids, _ in got]
    assert documents["n_loss_tokens"] == [int(mask.sum()) for _, mask in got]


@pytest.mark.parametrize(("vocabulary", "small", "large"), [(65_499, 2, 2), (65_500, 4, 2), (65_537, 4, 4)])
def test_the_width_of_ids(vocabulary: int, small: int, large: int, tmp_path: Path) -> None:
    top = vocabulary - 1
    rows = [{"record_id": "a", "ids": [0, top], "mask": [0, 1], "starts": []},
            {"record_id": "b", "ids": [top, 1, 2], "mask": [1, 1, 0], "starts": []}]  # fmt: skip
    for layout, width, name in (("tokens", small, "x.bin"), ("nanoset", large, "x.ds")):
        with shard_writer(layout, tmp_path / "x", vocabulary, "made") as sink:  # type: ignore[arg-type]
            sink.write(pa.Table.from_pylist(rows, TOKENS))
        assert (tmp_path / name).stat().st_size == 5 * width
        got = [(ids.tolist(), mask.tolist()) for ids, mask in read_shard(layout, tmp_path / "x")]  # type: ignore[arg-type]
        assert got == [(row["ids"], row["mask"]) for row in rows]
    assert (tmp_path / "x.ds.index").read_bytes() == struct.pack("<2Q", 2, 5)
    assert (tmp_path / "x.ds.metadata").read_text().startswith(f"made|{large}\n5\n")


def test_the_bytes_of_a_megatron_index() -> None:
    wanted = b"MMIDIDX\x00\x00" + struct.pack("<QBQQ", 1, 8, 2, 3)
    wanted += struct.pack("<2i", 3, 5) + struct.pack("<2q", 0, 6) + struct.pack("<3q", 0, 1, 2)
    assert megatron_index([3, 5], np.dtype(np.uint16)) == wanted


def test_megatron_reads_our_shards(run: Path, tokenizer: Path, tmp_path: Path) -> None:
    megatron = pytest.importorskip("megatron.core.datasets.indexed_dataset")
    export_run(run, "tokens", tmp_path / "out", tokenizer=tokenizer)
    ids = megatron.IndexedDataset(str(tmp_path / "out/data/train"))
    masks = megatron.IndexedDataset(str(tmp_path / "out/data/train-mask"))
    for at, (wanted, mask) in enumerate(read_shard("tokens", tmp_path / "out/data/train")):
        assert (ids[at].tolist(), masks[at].tolist()) == (wanted.tolist(), mask.tolist())


def test_datatrove_reads_our_shards(run: Path, tokenizer: Path, tmp_path: Path) -> None:
    datatrove = pytest.importorskip("datatrove.utils.dataset")
    export_run(run, "nanoset", tmp_path / "out", tokenizer=tokenizer)
    flat = np.concatenate([ids for ids, _ in read_shard("nanoset", tmp_path / "out/data/train")])
    found = datatrove.DatatroveFileDataset(str(tmp_path / "out/data/train.ds"), 15, 2)
    assert len(found) == len(flat) // 16
    assert [found[at]["input_ids"].tolist() for at in range(3)] == flat[:48].reshape(3, 16).tolist()


def test_raw_text(run: Path, tmp_path: Path) -> None:
    report = export_run(run, "text", tmp_path / "out", lines=True)
    assert (report["rows"], report["untold"]["no_text"]["rows"]) == (1, len(CHATS) + 1)
    (path,) = (tmp_path / "out/data").iterdir()
    assert path.name == "train-00000-of-00001.jsonl"
    assert [json.loads(line)["text"] for line in path.read_text().splitlines()] == [TEXT["text"]]
    found = load_dataset(str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache"))
    assert found["text"] == [TEXT["text"]]


def test_conversations_as_lines_have_no_nulls(run: Path, tmp_path: Path) -> None:
    export_run(run, "messages", tmp_path / "out", lines=True)
    lines = (tmp_path / "out/data/train-00000-of-00001.jsonl").read_bytes().split(b"\n")[:-1]
    rows = [json.loads(line) for line in lines]
    assert [{key: row[key] for key in TOOLS} for row in rows if "tools" in row] == [TOOLS]
    assert all(value is not None for row in rows for turn in row["messages"] for value in turn.values())


def test_refusals(run: Path, tokenizer: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="give --tokenizer"):
        export_run(run, "tokens", tmp_path / "out")
    with pytest.raises(RecipeError, match="no JSONL"):
        export_run(run, "tokens", tmp_path / "out", tokenizer=tokenizer, lines=True)
    with pytest.raises(RecipeError, match="is for token shards"):
        export_run(run, "messages", tmp_path / "out", tokenizer=tokenizer)
    with pytest.raises(RecipeError, match="no such folder"):
        export_run(run, "tokens", tmp_path / "out", tokenizer=tmp_path / "absent")
    with pytest.raises(RecipeError, match="did you mean 'tokens'"):
        export_run(run, "token", tmp_path / "out")
    byte_tokenizer(None).save_pretrained(tmp_path / "bare")
    with pytest.raises(RecipeError, match="has no chat template"):
        export_run(run, "tokens", tmp_path / "out", tokenizer=tmp_path / "bare")
    assert not (tmp_path / "out").exists()
