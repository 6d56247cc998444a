"""The fine-tuning job on tiny models: it learns, it resumes to the bit and packs do not leak."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from makes import run_here, write_jsonl, write_recipe
from safetensors.torch import load_file
from small_models import save_gpt2, save_llama
from transformers import AutoModelForCausalLM

from jobs import sft_trainer
from jobs.isolation import packed_inputs
from jobs.packing import positions
from jobs.sft import finetune, main
from jobs.sft_config import SftConfig, build_config, load_config
from jobs.sft_data import IGNORED, Collator, EpochOrder, PackedRows, packed_rows
from jobs.sft_launch import launch
from jobs.sft_source import open_source, open_tokens, units, write_tokens
from jobs.sft_trace import TRACE, checkpoints
from pipelines.files import file_digest, read_json
from pipelines.formats.tokens import load_tokenizer
from schemas.errors import RecipeError, RunError

TEMPLATE = (
    "{% for m in messages %}<{{ m.role[0] }}>{{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<a>{% endif %}"
)
CONTEXT = 96


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_llama(tmp_path_factory.mktemp("llama"), TEMPLATE, CONTEXT)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twenty conversations of one to three exchanges, with one too long for the context."""
    rng = random.Random(0)
    folder = tmp_path_factory.mktemp("run")
    rows = [{"messages": _chat(rng, rng.randint(1, 3))} for _ in range(20)]
    rows.append({"messages": _chat(rng, 9)})
    write_jsonl(folder / "rows.jsonl", rows)
    run_here(write_recipe(folder), folder / "run", folder / "store")
    return folder / "run"


def _chat(rng: random.Random, exchanges: int) -> list[dict[str, str]]:
    turns = []
    for _ in range(exchanges):
        word = rng.choice(["red", "blue", "green"])
        turns.append({"role": "user", "content": f"say {word} {rng.randint(0, 99)}"})
        turns.append({"role": "assistant", "content": f"{word}!"})
    return turns


def job(model: Path, out: Path, **keys: Any) -> SftConfig:
    small = {"context": CONTEXT, "batch": 2, "accumulate": 2, "lr": 3e-3, "log_steps": 1, "save_steps": 2, "cpu": True}
    return build_config({"model": str(model), "out": str(out), **small, **keys})


def rows_of(run: Path, model: Path, folder: Path, **keys: Any) -> PackedRows:
    tokenizer, source = load_tokenizer(model), open_source(run)
    chosen = units(source, "train")
    write_tokens(chosen, folder, tokenizer, "error")
    told = {"context": CONTEXT, "overlong": "drop", "overlong_filter": True, "packing": True, **keys}
    return packed_rows(open_tokens(folder, len(chosen)), **told)


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (path,) = folder.glob("*.safetensors")
    return load_file(path)  # type: ignore[no-any-return]


def test_rows_labels_and_positions(run: Path, model: Path, tmp_path: Path) -> None:
    rows = rows_of(run, model, tmp_path / "tokens")
    tokenizer = load_tokenizer(model)
    said = summary = 0
    for at in range(len(rows)):
        row = rows[at]
        assert row["position_ids"].tolist() == positions(rows.pieces.lengths[rows.packs[at]]).tolist()
        assert set(row["labels"][row["position_ids"] == 0]) == {IGNORED}
        text = tokenizer.decode(row["input_ids"][row["labels"] != IGNORED])
        said += text.count("!</s>")
        summary += len(text.replace("red", "").replace("blue", "").replace("green", "").replace("!</s>", ""))
    told = rows.summary()
    assert (told["dropped"], told["sequences"], summary) == (1, 20, 0)
    assert said == sum(len(rows.sequences.starts(s)) + 1 for s in range(20))


def token_losses(model: Any, batch: dict[str, Any], method: str | None) -> torch.Tensor:
    """The loss of every labelled token, in order."""
    inputs = {key: batch[key] for key in ("input_ids", "position_ids", "attention_mask") if key in batch}
    if method:
        inputs = packed_inputs(inputs, method, model.dtype)  # type: ignore[arg-type]
    with torch.no_grad():
        logits = model(**inputs, use_cache=False).logits[:, :-1].flatten(0, 1)
    labels = batch["labels"][:, 1:].flatten()
    losses = torch.nn.functional.cross_entropy(logits.float(), labels, ignore_index=IGNORED, reduction="none")
    return losses[labels != IGNORED]


@pytest.mark.parametrize(
    ("kind", "attention", "method"),
    [("llama", "sdpa", "positions"), ("llama", "eager", "mask"), ("gpt2", "sdpa", "mask")],
)
def test_packed_losses_equal_unpacked_ones(
    kind: str, attention: str, method: str, run: Path, model: Path, tmp_path: Path
) -> None:
    folder = model if kind == "llama" else save_gpt2(tmp_path / "gpt2", CONTEXT)
    loaded = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation=attention).eval()
    packed = rows_of(run, model, tmp_path / "tokens")
    alone = rows_of(run, model, tmp_path / "tokens", packing=False)
    assert len(packed) < len(alone)
    order = [int(piece) for at in range(len(packed)) for piece in packed.packs[at]]
    one = torch.cat([token_losses(loaded, Collator(0, False)([alone[piece]]), None) for piece in order])
    lines = [packed[at] for at in range(len(packed))]
    for at in range(0, len(lines), 2):  # packs of a batch differ in length: with padding behind the shorter one
        batch = Collator(0, True)(lines[at : at + 2])
        got = token_losses(loaded, batch, method)
        expected, one = one[: len(got)], one[len(got) :]
        assert torch.allclose(got, expected, atol=1e-5, rtol=0)
    assert not len(one)


def test_the_mask_of_a_truncated_example(run: Path, model: Path, tmp_path: Path) -> None:
    rows = rows_of(run, model, tmp_path / "tokens", overlong="keep", overlong_filter=False)
    masked = PackedRows(rows.sequences, rows.pieces, rows.packs, True, 0)
    (cut,) = np.flatnonzero(rows.pieces.truncated)
    at = next(at for at in range(len(rows)) if cut in rows.packs[at])
    assert len(rows[at]["labels"]) == CONTEXT
    assert (rows[at]["labels"] != IGNORED).any()
    assert (masked[at]["labels"] == IGNORED).all()


@pytest.mark.parametrize(
    ("overlong", "filtered", "pieces"), [("split", True, 23), ("keep", True, 20), ("keep", False, 21)]
)
def test_overlong_rows(overlong: str, filtered: bool, pieces: int, run: Path, model: Path, tmp_path: Path) -> None:
    rows = rows_of(run, model, tmp_path / "tokens", overlong=overlong, overlong_filter=filtered)
    assert len(rows.pieces.source) == pieces
    assert rows.without_loss == (1 if overlong == "keep" and filtered else 0)
    if overlong == "split":  # every piece begins with a user's turn
        tokenizer = load_tokenizer(model)
        firsts = [rows.sequences.read(20, int(start), int(start) + 3)[0] for start in rows.pieces.start[-3:]]
        assert [tokenizer.decode(first) for first in firsts] == ["<u>"] * 3


def test_it_learns_and_names_its_rows(run: Path, model: Path, tmp_path: Path) -> None:
    result = finetune(run, job(model, tmp_path / "out", max_steps=12, neftune_alpha=5))
    losses = [entry["loss"] for entry in result["loss"]]
    assert result["steps"] == len(losses) == 12
    assert sum(losses[-3:]) < 0.8 * sum(losses[:3])
    assert 0 <= result["speed"]["waiting_for_data"] < 0.5
    assert read_json(tmp_path / "out/training.json") == result
    manifest = read_json(run / "manifest.json")
    for folder in (tmp_path / "out/model", *checkpoints(tmp_path / "out")):
        trace = read_json(folder / TRACE)["run"]
        assert trace["run_fingerprint"] == manifest["run_fingerprint"]
        assert trace["manifest_digest"] == file_digest(run / "manifest.json")
    assert [path.name for path in checkpoints(tmp_path / "out")] == ["checkpoint-10", "checkpoint-12"]
    again = finetune(run, job(model, tmp_path / "out", max_steps=12, neftune_alpha=5))
    assert (again["steps"], again["loss"]) == (12, result["loss"])


@pytest.mark.parametrize("lora", [None, {"rank": 4, "dropout": 0.1}])
def test_a_resumed_run_equals_an_uninterrupted_one(
    lora: Any, run: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"epochs": 4, "neftune_alpha": 5, "lora": lora, "batch": 1}
    whole = finetune(run, job(model, tmp_path / "whole", **keys))
    told = sft_trainer.Lines.on_log

    def dying(self: Any, args: Any, state: Any, control: Any, **rest: Any) -> None:
        told(self, args, state, control, **rest)
        if state.global_step == died:
            raise KeyboardInterrupt

    steps = whole["steps"]
    for end in (3, steps - 2):  # within the first epoch, and in a later one
        died = end
        monkeypatch.setattr(sft_trainer.Lines, "on_log", dying)
        with pytest.raises(KeyboardInterrupt):
            finetune(run, job(model, tmp_path / "killed", **keys))
        monkeypatch.setattr(sft_trainer.Lines, "on_log", told)
        assert not (tmp_path / "killed/training.json").exists()
    resumed = finetune(run, job(model, tmp_path / "killed", **keys))
    assert resumed["loss"] == whole["loss"]
    one, other = weights(tmp_path / "whole/model"), weights(tmp_path / "killed/model")
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_an_unfinished_checkpoint_is_not_used(run: Path, model: Path, tmp_path: Path) -> None:
    finetune(run, job(model, tmp_path / "out", max_steps=2))
    (tmp_path / "out/checkpoint-99").mkdir()
    before = weights(tmp_path / "out/model")
    assert finetune(run, job(model, tmp_path / "out", max_steps=2))["steps"] == 2  # not one step more
    assert not (tmp_path / "out/checkpoint-99").exists()
    after = weights(tmp_path / "out/model")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    order = EpochOrder(50, 3)
    first = list(order)
    order.set_epoch(1)
    second = list(order)
    order.set_epoch(0)
    assert list(order) == first != second
    assert sorted(second) == list(range(50))
    assert list(EpochOrder(50, 4)) != first


def test_without_packing(run: Path, model: Path, tmp_path: Path) -> None:
    result = finetune(run, job(model, tmp_path / "out", max_steps=2, packing=False, bf16=True))
    assert result["data"]["packs"] == 20


def test_gradient_checkpointing_changes_nothing(run: Path, model: Path, tmp_path: Path) -> None:
    keys = {"max_steps": 3, "lora": {"rank": 4}, "neftune_alpha": 5}
    plain = finetune(run, job(model, tmp_path / "plain", **keys))
    saving = finetune(run, job(model, tmp_path / "saving", gradient_checkpointing=True, **keys))
    got, wanted = ([entry["loss"] for entry in result["loss"]] for result in (saving, plain))
    assert got == pytest.approx(wanted, rel=1e-5)


def test_rows_that_make_no_tokens_are_told(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!", "weight": 0}]
    write_jsonl(tmp_path / "rows.jsonl", [{"messages": chat} for chat in (_chat(random.Random(1), 1), silent)])
    run_here(write_recipe(tmp_path), tmp_path / "run", tmp_path / "store")
    result = finetune(tmp_path / "run", job(model, tmp_path / "out", max_steps=1))
    assert result["data"]["untold"]["no_answer"]["rows"] == 1
    assert "1 rows left out: no_answer" in capsys.readouterr().err


def test_token_files_do_not_depend_on_the_number_of_ranks(run: Path, model: Path, tmp_path: Path) -> None:
    source, tokenizer = open_source(run), load_tokenizer(model)
    chosen = units(source, "train") * 3
    write_tokens(chosen, tmp_path / "one", tokenizer, "error")
    for rank in (1, 0):
        write_tokens(chosen, tmp_path / "two", tokenizer, "error", rank, 2)
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [f"{n:06d}.arrow" for n in range(3)]
    for path in (tmp_path / "one").iterdir():
        assert path.read_bytes() == (tmp_path / "two" / path.name).read_bytes()


def test_settings_are_checked(run: Path, model: Path, tmp_path: Path) -> None:
    path = tmp_path / "job.yaml"
    path.write_text(yaml.safe_dump({"model": str(model), "out": "out", "lora": {"rank": 4}}))
    config = load_config(path, ["lora.alpha=8", "context=64"])
    assert (config.out, config.context, config.lora.alpha) == (tmp_path / "out", 64, 8.0)  # type: ignore[union-attr]
    for wrong, said in [
        ("contxt=3", "unknown key 'contxt'; did you mean 'context'"),
        ("lora.rnk=3", "unknown key 'lora.rnk'; did you mean 'rank'"),
        ("batch=0", "batch: input should be greater than 0"),
        ("context.x=1", "unknown key 'context'|plain value|context"),
        ("nonsense", "write path.to.key=value"),
    ]:
        with pytest.raises(RecipeError, match=said):
            load_config(path, [wrong])
    path.write_text("out: x")
    with pytest.raises(RecipeError, match="'model' is missing"):
        load_config(path)
    assert main([str(path)]) == 2


def test_refusals(run: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="not a finished run"):
        finetune(tmp_path, job(model, tmp_path / "out"))
    with pytest.raises(RecipeError, match="no run to learn from"):
        finetune(None, job(model, tmp_path / "out"))
    with pytest.raises(RecipeError, match="no split 'test'"):
        finetune(run, job(model, tmp_path / "split", split="test"))
    with pytest.raises(RecipeError, match="nothing to train on"):
        finetune(run, job(model, tmp_path / "short", context=4))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes.txt").write_text("keep")
    with pytest.raises(RecipeError, match="not a fine-tuning job"):
        finetune(run, job(model, tmp_path / "mine"))
    finetune(run, job(model, tmp_path / "out", max_steps=1))
    with pytest.raises(RecipeError, match=r"another lr \(0.003, now 0.1\)"):
        finetune(run, job(model, tmp_path / "out", max_steps=1, lr=0.1))
    shard = next((run / "data").glob("*.parquet"))
    kept = shard.read_bytes()
    try:
        shard.write_bytes(kept + b"x")
        with pytest.raises(RunError, match="is not the file that"):
            finetune(run, job(model, tmp_path / "new"))
    finally:
        shard.write_bytes(kept)


def _command(path: Path, *words: str) -> list[str]:
    return [*words, "-m", "jobs.sft", str(path)]


def _environment() -> dict[str, str]:
    root = Path(__file__).resolve().parents[1]
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}


def _job_file(folder: Path, run: Path, model: Path, out: str, **keys: Any) -> Path:
    small = {"context": CONTEXT, "batch": 1, "accumulate": 2, "lr": 3e-3, "log_steps": 1, "save_steps": 2, "cpu": True}
    path = folder / f"{out}.yaml"
    path.write_text(yaml.safe_dump({"model": str(model), "data": str(run), "out": out, **small, **keys}))
    return path


@pytest.mark.slow
def test_killed_for_real(run: Path, model: Path, tmp_path: Path) -> None:
    keys = {"epochs": 8, "neftune_alpha": 5}
    killed = _job_file(tmp_path, run, model, "killed", **keys)
    job_process = subprocess.Popen(_command(killed, sys.executable), env=_environment(), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (tmp_path / "killed/checkpoint-4" / TRACE).exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    job_process.send_signal(signal.SIGKILL)
    assert job_process.wait() == -signal.SIGKILL
    assert not (tmp_path / "killed/training.json").exists()
    torch.set_num_threads(1)
    resumed = finetune(None, load_config(killed))
    whole = finetune(None, load_config(_job_file(tmp_path, run, model, "whole", **keys)))
    assert resumed["loss"] == whole["loss"]
    one, other = weights(tmp_path / "whole/model"), weights(tmp_path / "killed/model")
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
def test_two_ranks(run: Path, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same optimizer steps from one process with twice the accumulation: equal up to the order of sums."""
    two = _job_file(tmp_path, run, model, "two", max_steps=4)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parents[1]))
    both = launch(None, two, ["accumulate=1"], processes=2)
    one = finetune(None, load_config(_job_file(tmp_path, run, model, "one", max_steps=4, accumulate=2)))
    assert both == read_json(tmp_path / "two/training.json")
    assert both["trace"]["ranks"] == 2
    assert [entry["loss"] for entry in both["loss"]] == pytest.approx(
        [entry["loss"] for entry in one["loss"]], rel=1e-3
    )
