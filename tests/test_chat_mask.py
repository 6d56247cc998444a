"""Assistant masks, token by token: templates of four families, tokenizers made here, spans written out by hand."""

from __future__ import annotations

import functools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers
import trl
from small_models import byte_tokenizer
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pipelines.formats.chat_mask import (
    Rendered,
    answer_end,
    chat_tokens,
    common_prefix,
    rendered,
    token_starts,
    tokenised,
)
from schemas.errors import BadRow, RecipeError

SHIPPED = Path(trl.__file__).parent / "chat_templates"
CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content + '<|im_end|>' }}{% endgeneration %}{{ '\n' }}{% else %}{{ m.content + '<|im_end|>\n' }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate') }}{% endif %}"
    "{% if m.role == 'user' %}{{ '[INST] ' + m.content + ' [/INST]' }}{% else %}{{ ' ' + m.content + eos_token }}"
    "{% endif %}{% endfor %}"
)
SPECIAL = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "[INST]", "[/INST]"]
CHAT = [
    {"role": "user", "content": "Two plus two?"},
    {"role": "assistant", "content": "  It is four. ⟨é⟩ \n"},
    {"role": "user", "content": "And <|im_end|> then?"},
    {"role": "assistant", "content": "Then\n\nnothing 🙂"},
]
WITH_SYSTEM = [{"role": "system", "content": "Be brief."}, *CHAT]
THINKING = [
    CHAT[0],
    {"role": "assistant", "content": "Four.", "reasoning_content": "Easy."},
    {"role": "user", "content": "Sure?"},
    {"role": "assistant", "content": "Yes."},
]
CALLS = [
    {"role": "user", "content": "Warm?"},
    {
        "role": "assistant",
        "content": "",
        "tool_calls": [{"type": "function", "function": {"name": "temp", "arguments": {"room": None}}}],
    },
    {"role": "tool", "content": "21"},
    {"role": "assistant", "content": "21 degrees."},
]


def template(name: str) -> str:
    """A chat template as its model has it."""
    own = {"chatml": CHATML, "marked": MARKED, "mistral": MISTRAL}
    return own[name] if name in own else (SHIPPED / f"{name}.jinja").read_text()


@functools.cache
def tokenizer(kind: str) -> Any:
    """A small tokenizer: one token per byte, byte-level merges, or pieces with leading blanks."""
    if kind == "bytes":
        made = byte_tokenizer()
    else:
        core = Tokenizer(models.BPE(byte_fallback=kind == "pieces", unk_token="<unk>" if kind == "pieces" else None))
        byte_level = kind == "merges"
        core.pre_tokenizer = (
            pre_tokenizers.ByteLevel(add_prefix_space=False)
            if byte_level
            else pre_tokenizers.Metaspace(prepend_scheme="never")
        )
        core.decoder = (
            decoders.ByteLevel() if byte_level else decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
        )
        alphabet = pre_tokenizers.ByteLevel.alphabet() if byte_level else []
        known = ["<unk>", "<s>", "</s>"]
        texts = [turn["content"] for turn in CHAT] * 4 + ["<|user|> assistant system four. nothing"] * 4
        core.train_from_iterator(
            texts,
            trainers.BpeTrainer(vocab_size=400, special_tokens=known, initial_alphabet=alphabet, show_progress=False),
        )
        made = transformers.PreTrainedTokenizerFast(
            tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
        )
    made.add_special_tokens({"additional_special_tokens": SPECIAL})
    return made


def with_template(kind: str, name: str) -> Any:
    made = tokenizer(kind)
    made.chat_template = template(name)
    return made


def written(marked: str) -> Rendered:
    """Text with the answers in double brackets."""
    text, spans, at = "", [], 0
    for match in re.finditer(r"⟦(.*?)⟧", marked, re.S):
        text += marked[at : match.start()]
        spans.append((len(text), len(text) + len(match[1])))
        text += match[1]
        at = match.end()
    return Rendered(text + marked[at:], tuple(spans))


_SYSTEM = "<|im_start|>system\nBe brief.<|im_end|>\n"
_EXCHANGES = (
    "<|im_start|>user\nTwo plus two?<|im_end|>\n"
    "<|im_start|>assistant\n⟦  It is four. ⟨é⟩ \n<|im_end|>⟧\n"
    "<|im_start|>user\nAnd <|im_end|> then?<|im_end|>\n"
    "<|im_start|>assistant\n⟦Then\n\nnothing 🙂<|im_end|>⟧\n"
)
EXPECTED = {
    "chatml": _SYSTEM + _EXCHANGES,
    "qwen2_5": _SYSTEM + _EXCHANGES,
    "llama3": "<s><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
    "<|start_header_id|>user<|end_header_id|>\n\nTwo plus two?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n⟦It is four. ⟨é⟩<|eot_id|>⟧"
    "<|start_header_id|>user<|end_header_id|>\n\nAnd <|im_end|> then?<|eot_id|>"
    "<|start_header_id|>assistant<|end_header_id|>\n\n⟦Then\n\nnothing 🙂<|eot_id|>⟧",
    "mistral": "<s>[INST] Two plus two? [/INST]⟦   It is four. ⟨é⟩ \n</s>⟧"
    "[INST] And <|im_end|> then? [/INST]⟦ Then\n\nnothing 🙂</s>⟧",
}
EXPECTED["marked"] = EXPECTED["chatml"]


@pytest.mark.parametrize("kind", ["bytes", "merges", "pieces"])
@pytest.mark.parametrize("name", EXPECTED)
def test_token_by_token(name: str, kind: str) -> None:
    made = with_template(kind, name)
    turns = CHAT if name == "mistral" else WITH_SYSTEM
    wanted = written(EXPECTED[name])
    assert rendered(made, turns) == [wanted]
    (got,) = chat_tokens(made, turns)
    offsets = made(wanted.text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
    assert got.ids.tolist() == made(wanted.text, add_special_tokens=False)["input_ids"]
    inside = [any(start <= first < end for start, end in wanted.answers) for first, _ in offsets]
    assert got.mask.tolist() == [int(here) for here in inside]
    said = made.decode(got.ids[got.mask == 1], clean_up_tokenization_spaces=False)
    assert said.replace(" ", "") == "".join(wanted.text[start:end] for start, end in wanted.answers).replace(" ", "")
    # the second exchange begins at the first special token behind the first answer
    (start,) = got.starts.tolist()
    assert made.convert_ids_to_tokens(int(got.ids[start])) in SPECIAL
    assert got.mask[:start].any()
    assert not got.mask[start]


def test_qwen3_tells_an_answer_with_its_thinking() -> None:
    made = with_template("merges", "qwen3")
    (got,) = rendered(made, THINKING[:2])
    assert got == written(
        "<|im_start|>user\nTwo plus two?<|im_end|>\n<|im_start|>assistant\n"
        "⟦<think>\nEasy.\n</think>\n\nFour.<|im_end|>⟧\n"
    )


def test_qwen3_is_not_prefix_stable() -> None:
    made = with_template("merges", "qwen3")
    with pytest.raises(BadRow, match=r"not prefix-stable: turn 1 .* `when_unstable: unroll`") as caught:
        chat_tokens(made, THINKING)
    assert caught.value.kind == "unstable_template"
    whole = written(
        "<|im_start|>user\nTwo plus two?<|im_end|>\n<|im_start|>assistant\nFour.<|im_end|>\n<|im_start|>user\nSure?"
        "<|im_end|>\n<|im_start|>assistant\n⟦<think>\n\n</think>\n\nYes.<|im_end|>⟧\n"
    )
    assert rendered(made, THINKING, when_unstable="last") == [whole]
    assert rendered(made, THINKING, when_unstable="unroll") == [*rendered(made, THINKING[:2]), whole]
    assert [each.mask.sum() > 0 for each in chat_tokens(made, THINKING, when_unstable="unroll")] == [True, True]


def test_qwen3_calls_of_tools() -> None:
    with pytest.raises(BadRow, match="not prefix-stable: turn 1"):  # an empty thought, which later turns take away
        rendered(with_template("merges", "qwen3"), CALLS)
    thought = [CALLS[0], {**CALLS[1], "reasoning_content": "Look."}, *CALLS[2:]]
    (got,) = rendered(with_template("merges", "qwen3"), thought)
    assert [got.text[start:end] for start, end in got.answers] == [
        "<think>\nLook.\n</think>\n\n"
        '<tool_call>\n{"name": "temp", "arguments": {"room": null}}\n</tool_call><|im_end|>',
        "<think>\n\n</think>\n\n21 degrees.<|im_end|>",
    ]


def test_a_prompt_that_opens_the_thinking() -> None:
    """The generation prompt may say more than the template tells of the answer: a fallback starts where they part."""
    made = with_template("merges", "chatml")
    made.chat_template = CHATML.replace("assistant\n' }}{% endif", "assistant\n<think>' }}{% endif")
    with pytest.raises(BadRow, match="generation prompt is no prefix"):
        rendered(made, CHAT)
    (first, second) = rendered(made, CHAT, when_unstable="unroll")
    assert first.text[slice(*first.answers[0])] == CHAT[1]["content"] + "<|im_end|>"
    assert second.text[slice(*second.answers[0])] == CHAT[3]["content"] + "<|im_end|>"


def test_a_template_that_closes_the_conversation() -> None:
    made = with_template("merges", "chatml")
    made.chat_template = CHATML + "{% if not add_generation_prompt %}{{ eos_token }}{% endif %}"
    (got,) = rendered(made, CHAT)
    wanted = written(_EXCHANGES)
    assert got.answers[0] == wanted.answers[0]
    assert got.text[slice(*got.answers[1])] == CHAT[3]["content"] + "<|im_end|>\n</s>"


STABLE = ["cohere", "llama3", "qwen2_5", "qwen3_instruct_2507"]


@pytest.mark.parametrize("name", STABLE)
def test_the_same_answers_as_templates_with_marks(name: str) -> None:
    """Prefixes of a model's own template find what its marked version says, end-of-turn tokens and all."""
    if not (SHIPPED / f"{name}_training.jinja").exists():
        pytest.skip("this version of trl has no marked template for it")
    turns = [{**turn, "content": turn["content"].strip()} for turn in CHAT]
    plain, marked = (
        rendered(with_template("bytes", name), turns),
        rendered(with_template("bytes", f"{name}_training"), turns),
    )
    assert plain[0].text == marked[0].text
    for (start, end), (first, last) in zip(plain[0].answers, marked[0].answers, strict=True):
        assert plain[0].text[start:end] == plain[0].text[first:last].strip()  # marks may take a line break with them
        assert first <= start < end <= last


def test_weights_and_openings() -> None:
    silent = [CHAT[0], {**CHAT[1], "weight": 0.0}, *CHAT[2:]]
    for name in ("chatml", "marked"):
        (got,) = rendered(with_template("merges", name), silent)
        assert len(got.answers) == 1
        assert got.text[slice(*got.answers[0])] == CHAT[3]["content"] + "<|im_end|>"
    made = with_template("merges", "chatml")
    (opened,) = rendered(made, [CHAT[1], *CHAT[2:]])
    assert [opened.text[start:end] for start, end in opened.answers] == [CHAT[3]["content"] + "<|im_end|>"]


def test_what_templates_refuse() -> None:
    with pytest.raises(BadRow, match="roles must alternate") as caught:
        chat_tokens(with_template("merges", "mistral"), WITH_SYSTEM)
    assert caught.value.kind == "template_error"
    bare = byte_tokenizer()
    with pytest.raises(RecipeError, match="has no chat template"):
        chat_tokens(bare, CHAT)


def test_small_parts() -> None:
    assert answer_end("ab<e>\n\n", 0, ["<e>"]) == 5
    assert answer_end("ab \n", 0, ["<e>"]) == 4
    assert answer_end("<e>  ", 3, ["<e>"]) == 5
    assert [common_prefix(a, b) for a, b in [("", "x"), ("abc", "abd"), ("ab", "abc"), ("x", "y")]] == [0, 2, 2, 0]
    assert token_starts([(0, 2), (5, 5), (5, 7), (7, 8), (7, 8)]).tolist() == [0, 2, 5, 7, 7]
    assert tokenised(byte_tokenizer(), []) == []
    (empty,) = tokenised(byte_tokenizer(), [Rendered("", ())])
    assert (len(empty.ids), empty.starts.dtype) == (0, np.int32)
