"""`ifd`: ratios against arithmetic token by token, decisions, whole runs with a model and with the built-in student."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from makes import alpaca_rows, run_here, tree, write_jsonl, write_recipe
from pools import MemoryPool, records, run

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from small_models import TEMPLATE, save_llama  # noqa: E402

from pipelines.registry import stage_names  # noqa: E402
from schemas.errors import RecipeError  # noqa: E402
from stages.contract import Decisions  # noqa: E402
from stages.ifd.measure import COLUMNS, ifd, reverse_ifd, score_exchanges  # noqa: E402
from stages.ifd.stage import Ifd  # noqa: E402
from stages.student import training  # noqa: E402
from stages.student.builtin import Size  # noqa: E402
from stages.student.loss import token_ids  # noqa: E402
from stages.student.models import Student, load  # noqa: E402
from stages.student.turns import GUESS, Exchange, Turn  # noqa: E402

TINY = {"vocabulary": 400, "width": 32, "layers": 2, "heads": 2, "context": 128, "tokens": 4000}
needs_entry_point = pytest.mark.skipif("ifd" not in stage_names(), reason="the package is not installed with `ifd`")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=[None, TEMPLATE], ids=["plain", "template"])
def student(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Student:
    return load(str(save_llama(tmp_path_factory.mktemp("model"), request.param, context=512)), "cpu")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_llama(tmp_path_factory.mktemp("model"), context=512))


def mean_loss(student: Student, context: str, target: str) -> float:
    """Mean of -log p of the target's tokens, one forward pass each."""
    seen = token_ids(student.tokenizer, [context])[0] or [0]
    wanted, found = token_ids(student.tokenizer, [target])[0], []
    for token in wanted:
        with torch.no_grad():
            logits = student.model(input_ids=torch.tensor([seen])).logits[0, -1].double()
        found.append(float(torch.logsumexp(logits, 0) - logits[token]))
        seen = [*seen, token]
    return sum(found) / len(found)


def context_of(student: Student, text: str) -> str:
    """A user's turn as each kind of student sees it, spelt out."""
    if student.tokenizer.chat_template:
        return f"<|user|>{text}<|end|><|assistant|>"
    return f"### Instruction:\n{text}\n\n### Response:\n"


def test_ifd_is_the_ratio_of_losses_or_perplexities(student: Student) -> None:
    said = [Exchange((Turn("user", "What is it?"),), "A cat."), Exchange((Turn("user", "Say yes"),), "yes " * 12)]
    found = ifd(student, said, tokens_per_batch=64)
    for number, each in enumerate(said):
        prompted = mean_loss(student, context_of(student, each.before[0].text), each.response)
        alone = mean_loss(student, "", each.response)
        assert found.ratio("loss")[number] == pytest.approx(prompted / alone, rel=1e-5)
        assert found.ratio("perplexity")[number] == pytest.approx(math.exp(prompted) / math.exp(alone), rel=1e-5)


def test_reverse_ifd_guesses_the_instruction(student: Student) -> None:
    said = [Exchange((Turn("user", "What is it?"),), "A cat."), Exchange((Turn("user", "Say yes"),), "yes")]
    found = reverse_ifd(student, said).ratio("perplexity")
    for number, each in enumerate(said):
        guessed = mean_loss(student, context_of(student, GUESS.format(response=each.response)), each.instruction)
        alone = mean_loss(student, "", each.instruction)
        assert found[number] == pytest.approx(math.exp(guessed - alone), rel=1e-5)


def test_a_response_beyond_the_window_is_compared_over_the_same_tokens(student: Student) -> None:
    found = ifd(student, [Exchange((Turn("user", "q"),), "ab" * 400)])
    assert found.conditional.tokens.tolist() == found.alone.tokens.tolist() == [511]
    assert found.conditional.cut.tolist() == [True]


def test_score_columns_and_why_there_are_none(model: str) -> None:
    chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "q"}]
    rows: list[dict[str, Any]] = [
        {"kind": "sft", "prompt": "What is it?", "completion": "A cat."},
        {"kind": "sft", "prompt": "What is it?"},
        {"kind": "sft", "messages": [*chat, {"role": "assistant", "content": "yes"}]},
        {"kind": "sft", "prompt": "long " * 200, "completion": "A cat."},
    ]
    batch = records(rows).select(list(Ifd.reads)).to_batches()[0]
    found = score_exchanges(batch, load(model, "cpu"))
    assert found.schema == COLUMNS
    assert found["problem"].to_pylist() == [None, "no response", None, None]
    assert found["n_target_tokens"].to_pylist() == [6, None, 3, 6]
    assert found["truncated"].to_pylist() == [False, None, False, True]
    ratio = np.array(found["loss_conditional"].to_pylist()[:1]) / np.array(found["loss_alone"].to_pylist()[:1])
    assert found["ifd"][0].as_py() == pytest.approx(float(ratio[0]))
    empty = score_exchanges(batch.slice(0, 0), load(model, "cpu"))
    assert (empty.num_rows, empty.schema) == (0, COLUMNS)


def test_a_template_that_refuses_a_row_refuses_only_that_row(tmp_path: Path) -> None:
    strict = load(str(save_llama(tmp_path, TEMPLATE)), "cpu")
    answer = {"role": "assistant", "content": "yes"}
    rows: list[dict[str, Any]] = [
        {"kind": "sft", "messages": [{"role": role, "content": "q"}, answer]} for role in ("system", "user")
    ]
    found = score_exchanges(records(rows).to_batches()[0], strict)
    assert found["problem"].to_pylist() == ["refused by the chat template", None]
    assert found["ifd"].is_valid().to_pylist() == [False, True]


def scored(rows: list[tuple[float | None, float | None, int]], **problems: str) -> MemoryPool:
    """A pool with losses (conditional, alone) and response tokens as given; `r3="..."` is row 3's problem."""
    columns = {
        "loss_conditional": pa.array([c for c, _, _ in rows], pa.float64()),
        "loss_alone": pa.array([a for _, a, _ in rows], pa.float64()),
        "n_target_tokens": pa.array([n for _, _, n in rows], pa.int32()),
        "n_context_tokens": pa.array([10] * len(rows), pa.int32()),
        "truncated": pa.array([False] * len(rows)),
        "cut": pa.array([False] * len(rows)),
        "problem": pa.array([problems.get(f"r{number}") for number in range(len(rows))], pa.string()),
    }
    table = records([{"text": str(number)} for number in range(len(rows))])
    return MemoryPool(table, pa.table(columns))


def decided(pool: MemoryPool, **parameters: Any) -> tuple[list[int], list[str], Decisions]:
    decisions = Ifd(**parameters).decide(pool)
    return np.flatnonzero(decisions.keep).tolist(), pa.array(decisions.reason).to_pylist(), decisions


def test_the_hardest_rows_below_the_limit_stay() -> None:
    pool = scored(
        [(1.0, 2.0, 20), (1.8, 2.0, 20), (2.2, 2.0, 20), (None, None, 0), (0.0, 0.0, 5), (1.9, 2.0, 2), (1.2, 2.0, 20)],
        r3="no response",
    )
    kept, reasons, decisions = decided(pool, keep=2, min_tokens=3)
    assert kept == [1, 6]
    assert reasons == [
        "ifd below the cut",
        "kept: ifd within the quota",
        "ifd over 1: the prompt is no help; 1.1",
        "no response",
        "ifd is not a number",
        "response too short: under 3 tokens; 2",
        "kept: ifd within the quota",
    ]
    assert decisions.score is not None
    assert decisions.score[:3].tolist() == [0.5, 0.9, 1.1]
    assert np.isnan(decisions.score[3:5]).all()
    assert decided(pool, keep=2, max_ifd=None)[0] == [2, 5]
    assert decided(pool, keep={"tokens": 60.0}, min_tokens=3)[0] == [1, 6]
    assert decided(pool, keep=7, min_tokens=3)[2].warnings == ("keep asks for 7 rows, but only 3 can be kept",)


def test_the_two_ratios_order_rows_differently() -> None:
    pool = scored([(0.5, 1.0, 9), (3.0, 4.0, 9)])
    assert decided(pool, keep=1)[0] == [1]  # 0.5 and 0.75
    assert decided(pool, keep=1, ratio="perplexity")[0] == [0]  # exp(-0.5) and exp(-1)


def test_ties_go_by_content_and_an_empty_pool_is_no_error() -> None:
    pool = scored([(1.0, 2.0, 9)] * 8)
    kept = decided(pool, keep=3)[0]
    hashes = pool.records["content_hash"].to_pylist()
    assert sorted(hashes[row] for row in kept) == sorted(hashes)[:3]
    assert decided(scored([]), keep=0.5)[0] == []


def test_many_truncated_rows_are_told() -> None:
    pool = scored([(1.0, 2.0, 9)] * 4)
    assert pool._scores is not None
    pool._scores = pool._scores.set_column(4, "truncated", pa.array([True, False, False, False]))
    assert decided(pool, keep=2)[2].warnings == (
        "1 of 4 rows did not fit the model's window whole (columns `truncated` and `cut`)",
    )


def test_only_what_scores_depend_on_rescores(model: str) -> None:
    base = Ifd(keep=5, model=model)
    same = Ifd(keep=0.5, model=model, ratio="perplexity", max_ifd=None, min_tokens=9, tokens_per_batch=9, device="cpu")
    assert base.scoring() == same.scoring()
    assert base.scoring() != Ifd(keep=5, model=model, dtype="bfloat16").scoring()
    assert (base.fits_on(), Ifd(keep=5).fits_on()) == ("nothing", "pool")
    assert Ifd(keep=5, student=Size(seed=1)).scoring() != Ifd(keep=5).scoring()
    assert base.inputs() == (model,)


def test_a_model_that_is_not_there_is_refused_before_the_run(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="is not a folder"):
        Ifd(keep=1, model=str(tmp_path / "none")).check()
    Ifd(keep=1).check()


def test_estimates_count_tokens_and_time(model: str) -> None:
    sample = records([{"kind": "sft", "prompt": "ab", "completion": "cd"}] * 3).select(list(Ifd.reads))
    found = Ifd(keep=1, model=model, device="cpu").estimate(sample, 300)
    plain = len("### Instruction:\nab\n\n### Response:\n") + 2 + 3  # response alone: a start token and two bytes
    assert found["scoring"].startswith(f"{300 * plain:,} tokens, about ")
    trained = Ifd(keep=1, student=Size(**TINY)).estimate(sample, 300)
    assert set(trained) == {"model", "training", "scoring"}
    assert Ifd(keep=1).estimate(sample.slice(0, 0), 300) == {}


def test_the_built_in_student_knows_which_prompts_help(monkeypatch: pytest.MonkeyPatch) -> None:
    """Words that a prompt determines have a lower IFD than words drawn at random whatever the prompt."""
    for name, value in (("_TOKENS_PER_STEP", 256), ("_PARTS", 1)):
        monkeypatch.setattr(training, name, value)
    rng = np.random.default_rng(0)
    german = {"red": "rot", "green": "gruen", "blue": "blau", "white": "weiss"}
    rows = []
    for number in range(400):
        english, drawn = rng.choice(list(german), 2)
        asked_for = f"Translate {english}" if number % 2 else "Any word"
        rows.append({"kind": "sft", "prompt": asked_for, "completion": german[english if number % 2 else drawn]})
    size = Size(vocabulary=400, width=64, layers=2, heads=2, context=64, tokens=25_000, epochs=40)
    decisions = run(Ifd(keep=0.5, student=size, max_ifd=None, device="cpu"), records(rows))
    assert decisions.score is not None
    assert np.mean(np.argsort(decisions.score)[:200] % 2) > 0.9
    assert decisions.keep.sum() == 200


@needs_entry_point
def test_a_run_with_a_model_scores_once(tmp_path: Path, model: str) -> None:
    write_jsonl(tmp_path / "rows.jsonl", [*alpaca_rows(40), {"instruction": "silent", "input": "", "output": ""}])
    recipe = write_recipe(tmp_path, stages=[{"ifd": {"keep": 10, "model": model, "device": "cpu"}}])
    manifest = run_here(recipe, tmp_path / "out", tmp_path / "store")
    assert manifest["splits"] == {"train": 10}
    scores = pq.read_table(tmp_path / "out/lineage/scores/ifd")
    assert set(COLUMNS.names) <= set(scores.column_names)
    again = run_here(
        recipe, tmp_path / "more", tmp_path / "store", ["stages.0.ifd.keep=20", "stages.0.ifd.max_ifd=null"]
    )
    assert again["splits"] == {"train": 20}
    assert again["stages"][0]["counters"] == {"scored": 0, "cached": 41, "decided": True}


@needs_entry_point
def test_a_run_with_the_built_in_student_repeats_to_the_byte(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", alpaca_rows(40))
    recipe = write_recipe(tmp_path, stages=[{"ifd": {"keep": 0.25, "student": TINY, "device": "cpu", "max_ifd": None}}])
    assert run_here(recipe, tmp_path / "one", tmp_path / "store")["splits"] == {"train": 10}
    run_here(recipe, tmp_path / "two", tmp_path / "other")
    assert tree(tmp_path / "one/data") == tree(tmp_path / "two/data")
