"""Local models: losses against token-by-token arithmetic, texts of records, the built-in student and its resumption."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import records

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from small_models import TEMPLATE, ScratchPool, save_gpt2, save_llama, sft_pool  # noqa: E402

from schemas.errors import BadRow, RecipeError  # noqa: E402
from stages.student import training  # noqa: E402
from stages.student.builtin import Size, draft, fit, from_state, to_state  # noqa: E402
from stages.student.cost import cost, peak_bytes, speed  # noqa: E402
from stages.student.loss import Pair, batched, losses, token_ids  # noqa: E402
from stages.student.models import Student, check_model, folders, load  # noqa: E402
from stages.student.turns import Exchange, Turn, asked, asked_backwards, exchanges  # noqa: E402

TINY = Size(vocabulary=400, width=32, layers=2, heads=2, context=64, tokens=4000)
SMALL = {"_TOKENS_PER_STEP": 128, "_PARTS": 1, "_STEPS_PER_CHECKPOINT": 5}
WORDS = ["red", "green", "blue", "cat", "dog", "bird", "runs", "sleeps", "eats", "fast"]


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        for name, value in SMALL.items():
            patch.setattr(training, name, value)
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(before)


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Student:
    return load(str(save_llama(tmp_path_factory.mktemp("llama"))), "cpu")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Student:
    return load(str(save_gpt2(tmp_path_factory.mktemp("gpt2"))), "cpu")


def by_hand(student: Student, context: str, target: str) -> float:
    """Summed loss, one forward pass per token: log of the softmax's entry, nothing batched, nothing padded."""
    seen, total = token_ids(student.tokenizer, [context])[0] or [student.start], 0.0
    for token in token_ids(student.tokenizer, [target])[0]:
        with torch.no_grad():
            logits = student.model(input_ids=torch.tensor([seen])).logits[0, -1].double()
        total -= math.log(float(torch.exp(logits[token] - torch.logsumexp(logits, 0))))
        seen = [*seen, token]
    return total


def pool(scratch: Path, count: int = 60) -> ScratchPool:
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 6)) for _ in range(2 * count)]
    return sft_pool(list(zip(texts[::2], texts[1::2], strict=True)), scratch)


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_losses_equal_token_by_token_arithmetic(name: str, request: pytest.FixtureRequest) -> None:
    student = request.getfixturevalue(name)
    pairs = [Pair("What is it?", "A cat."), Pair("", "Änderung 猫"), Pair("x", "y" * 30), Pair("say nothing", "")]
    found = losses(student, pairs)
    expected = [by_hand(student, *pair) for pair in pairs]
    assert np.allclose(found.nll, expected, rtol=1e-5, atol=1e-5)
    assert found.tokens.tolist() == [len(pair.target.encode()) for pair in pairs]
    assert found.context_tokens.tolist() == [11, 1, 1, 11]
    assert np.isnan(found.mean[3])
    assert not found.truncated.any()
    assert not found.cut.any()


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_neighbours_padding_and_order_change_nothing(llama: Student, data: st.DataObject) -> None:
    text = st.text("abc é", max_size=40)
    pairs = data.draw(st.lists(st.builds(Pair, text, text), min_size=1, max_size=8))
    order = data.draw(st.permutations(range(len(pairs))))
    alone = np.array([losses(llama, [pair]).nll[0] for pair in pairs])
    together = losses(llama, [pairs[row] for row in order], data.draw(st.sampled_from([1, 64, 200, 8192]))).nll
    assert np.allclose(together, alone[order], rtol=1e-5, atol=1e-5)


@given(lengths=st.lists(st.integers(1, 300), max_size=60), budget=st.integers(1, 1000))
def test_batches_hold_every_row_once_within_the_budget(lengths: list[int], budget: int) -> None:
    groups = batched(lengths, budget)
    assert sorted(row for group in groups for row in group) == list(range(len(lengths)))
    assert all(len(group) == 1 or len(group) * max(lengths[row] for row in group) <= budget for group in groups)


def test_a_long_context_loses_its_left(llama: Student) -> None:
    target = "t" * 20
    found = losses(llama, [Pair("abcdefgh" * 10, target)])
    kept = ("abcdefgh" * 10)[-(64 - 20) :]
    assert found.nll[0] == pytest.approx(by_hand(llama, kept, target), rel=1e-5)
    assert (found.truncated[0], found.cut[0], found.context_tokens[0]) == (True, False, 44)


def test_a_target_beyond_the_window_is_scored_over_its_beginning(llama: Student) -> None:
    found = losses(llama, [Pair("context", "xy" * 60), Pair("", "xy" * 60)])
    assert found.tokens.tolist() == [63, 63]
    assert found.cut.tolist() == [True, True]
    assert found.nll[0] == pytest.approx(by_hand(llama, "t", ("xy" * 60)[:63]), rel=1e-5)
    assert found.nll[1] == pytest.approx(by_hand(llama, "", ("xy" * 60)[:63]), rel=1e-5)


def test_the_start_token_stands_where_the_tokenizer_puts_it(llama: Student) -> None:
    from tokenizers.processors import TemplateProcessing

    tokenizer = type(llama.tokenizer)(tokenizer_object=llama.tokenizer.backend_tokenizer, bos_token="<s>")
    adding = Student(llama.model, tokenizer, llama.context, "cpu", "")
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    assert losses(adding, [Pair("ab", "c"), Pair("<s>ab", "c")]).context_tokens.tolist() == [3, 3]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing("$A", special_tokens=[])
    assert losses(adding, [Pair("ab", "c")]).context_tokens.tolist() == [2]


def test_models_load_once_and_say_what_they_are_made_of(tmp_path: Path, llama: Student) -> None:
    first, again = save_llama(tmp_path / "a"), save_llama(tmp_path / "b")
    one = load(str(first), "cpu")
    assert load(str(first), "cpu") is one
    assert one.fingerprint == load(str(again), "cpu").fingerprint
    assert (one.context, one.device, one.model.training) == (64, "cpu", False)
    assert one.fingerprint != load(str(save_llama(tmp_path / "c", TEMPLATE)), "cpu").fingerprint
    assert load(str(first), "cpu", "bfloat16").model.dtype == torch.bfloat16


def test_what_is_no_model_is_refused_in_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"is not a folder; .* nothing is downloaded"):
        load("org/model-on-a-hub")
    with pytest.raises(RecipeError, match=r"no config\.json"):
        load(str(tmp_path))
    folder = save_llama(tmp_path / "model")
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(RecipeError, match="has no tokenizer"):
        check_model(str(folder))
    encoder = save_llama(tmp_path / "encoder")
    (encoder / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(RecipeError, match="cannot be loaded as a causal language model"):
        load(str(encoder))


def test_missing_libraries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("stages.student.models.find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"torch and transformers: pip install 'curatrix\[models\]'"):
        load(str(tmp_path))


def test_a_lora_adapter_is_its_base_with_a_change(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    base = save_llama(tmp_path / "base")
    plain = load(str(base), "cpu")
    model = peft.get_peft_model(
        type(plain.model).from_pretrained(base),
        peft.LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False),
    )
    model.peft_config["default"].base_model_name_or_path = "../base"
    model.save_pretrained(tmp_path / "adapter")
    adapted = load(str(tmp_path / "adapter"), "cpu")
    pairs = [Pair("What is it?", "A cat."), Pair("", "dog")]
    merged = Student(model.merge_and_unload().eval(), plain.tokenizer, 64, "cpu", "")
    assert np.allclose(losses(adapted, pairs).nll, losses(merged, pairs).nll, rtol=1e-5)
    assert not np.allclose(losses(adapted, pairs).nll, losses(plain, pairs).nll, rtol=1e-3)
    assert len(folders(str(tmp_path / "adapter"))) == 2
    assert adapted.fingerprint != plain.fingerprint
    (tmp_path / "base").rename(tmp_path / "elsewhere")
    with pytest.raises(RecipeError, match="not a local folder: copy it there"):
        folders(str(tmp_path / "adapter"))


def test_every_shape_of_record_has_its_exchange() -> None:
    chat = [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "1+1?"},
        {"role": "assistant", "content": "2"},
        {"role": "user", "content": "2+2?"},
        {"role": "assistant", "reasoning": "easy", "content": "4"},
    ]
    call = [
        {"role": "user", "content": "sum"},
        {"role": "assistant", "tool_calls": [{"name": "add", "arguments": "[1]"}]},
    ]
    rows: list[dict[str, Any]] = [
        {"kind": "sft", "messages": chat},
        {"kind": "sft", "messages": call},
        {"kind": "sft", "prompt": "p", "completion": "c"},
        {"kind": "preference", "messages": chat[:2], "completion": "two", "rejected": "three"},
        {"kind": "code", "prompt": "p", "solutions": [{"code": "x = 1", "language": "python", "verdict": "accepted"}]},
        {"kind": "sft", "prompt": "p", "answer": "42"},
        {"kind": "sft", "prompt": "p"},
        {"kind": "sft", "prompt": "p", "completion": " \n"},
        {"kind": "sft", "prompt": " ", "completion": "c"},
        {"kind": "text", "text": "words"},
        {"kind": "sft", "messages": chat[:2]},
    ]
    found = exchanges(records(rows).to_batches()[0])
    said = [(len(each.before), each.response) if isinstance(each, Exchange) else each for each in found]
    assert said == [
        (4, "<think>\neasy\n</think>\n\n4"),
        (1, '{"name": "add", "arguments": [1]}'),
        (1, "c"),
        (2, "two"),
        (1, "```python\nx = 1\n```"),
        (1, "42"),
        "no response",
        "empty response",
        "no prompt",
        "no response",
        "no response",
    ]
    assert isinstance(found[0], Exchange)
    assert found[0].instruction == "2+2?"


def test_turns_are_shown_by_the_template_or_plainly(tmp_path: Path, llama: Student) -> None:
    before = (Turn("user", "1+1?"), Turn("assistant", "2"), Turn("user", "2+2?"))
    plainly = "### Instruction:\n1+1?\n\n### Response:\n2\n\n### Instruction:\n2+2?\n\n### Response:\n"
    assert asked(llama, Exchange(before, "4")) == plainly
    assert asked(llama, Exchange((Turn("system", "Be kind."), *before), "4")) == f"Be kind.\n\n{plainly}"
    chat = load(str(save_llama(tmp_path / "chat", TEMPLATE)), "cpu")
    shown = "<|user|>1+1?<|end|><|assistant|>2<|end|><|user|>2+2?<|end|><|assistant|>"
    assert asked(chat, Exchange(before, "4")) == shown
    guess = asked_backwards(chat, "4")
    assert guess.startswith("<|user|>Below is the response to an instruction")
    assert "\n4\nGenerate the instruction" in guess
    with pytest.raises(BadRow, match="refuses the turns: no system turns here"):
        asked(chat, Exchange((Turn("system", "x"),), "4"))


def test_the_built_in_student_learns_and_survives_storage(tmp_path: Path) -> None:
    taught = pool(tmp_path / "s")
    state = fit(taught, TINY)
    student = from_state(state, "cpu")
    assert [done for _, done, _ in taught.told] == list(range(1, taught.told[0][2] + 1))
    first, last = (float(doing.rpartition(" ")[2]) for doing, _, _ in (taught.told[0], taught.told[-1]))
    assert last < first - 1
    assert taught.told[0][0] == f"training the built-in model, loss {first:.2f}"
    again = to_state(student)
    assert {name: value.tobytes() for name, value in again.items()} == {n: v.tobytes() for n, v in state.items()}
    assert from_state(again, "cpu").fingerprint == student.fingerprint
    text = "red cat runs 猫 \n\u2028"
    assert student.tokenizer.decode(token_ids(student.tokenizer, [text])[0]) == text
    known, unknown = losses(student, [Pair("", "red cat runs fast"), Pair("", "quantum tax invoice")]).mean
    assert known < unknown


def test_the_same_pool_in_another_order_gives_the_same_student(tmp_path: Path) -> None:
    first = pool(tmp_path / "a", 30)
    backwards = ScratchPool(first.records.take(list(range(29, -1, -1))), tmp_path / "b")
    one, two = fit(first, TINY), fit(backwards, TINY)
    assert {name: value.tobytes() for name, value in one.items()} == {n: v.tobytes() for n, v in two.items()}
    other = fit(pool(tmp_path / "c", 30), TINY.model_copy(update={"seed": 1}))
    assert one["weights.model.norm.weight"].tobytes() != other["weights.model.norm.weight"].tobytes()


def test_a_kill_loses_no_finished_step_and_changes_no_bit(tmp_path: Path) -> None:
    whole = fit(pool(tmp_path / "whole"), TINY)
    code = f"""
import os, signal, sys
sys.path[:0] = {[str(Path(__file__).parent), str(Path(__file__).parents[1])]!r}
from pathlib import Path
from stages.student import training
import test_student as t
vars(training).update(t.SMALL)
def told(doing, done, total):
    if done == 13:
        os.kill(os.getpid(), signal.SIGKILL)
pool = t.pool(Path({str(tmp_path / "killed")!r}))
pool.progress = told
t.fit(pool, t.TINY)
"""
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)
    assert killed.returncode == -signal.SIGKILL
    left = pool(tmp_path / "killed")
    resumed = fit(left, TINY)
    assert left.told[0][1] == 11
    assert {name: value.tobytes() for name, value in resumed.items()} == {n: v.tobytes() for n, v in whole.items()}
    finished = pool(tmp_path / "killed")
    assert fit(finished, TINY).keys() == whole.keys()
    assert not finished.told


def test_a_pool_without_texts_has_nothing_to_teach(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="nothing to learn from"):
        fit(sft_pool([(None, None)], tmp_path), TINY)
    with pytest.raises(ValueError, match="not a multiple of 2 x heads"):
        Size(width=30, heads=4)


def test_costs_count_weights(llama: Student, tmp_path: Path) -> None:
    width, inner, layers, words = 32, 48, 2, len(llama.tokenizer)
    block = 2 * width * width + 2 * width * 16 + 3 * width * inner + 2 * width
    table = words * width
    found = cost(llama)
    assert found.parameters == layers * block + 2 * table + width
    assert found.bytes == 4 * found.parameters
    assert found.forward_flops == 2 * (found.parameters - table)
    tied = draft([Exchange((Turn("user", "a b"),), "c d")], TINY)
    assert cost(tied).forward_flops == 2 * cost(tied).parameters
    assert speed(llama, 64) > 0
    assert peak_bytes(llama, 1000, gradients=True) > peak_bytes(llama, 1000) > 1000 * 4 * words
