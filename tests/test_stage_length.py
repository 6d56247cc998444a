"""Lengths in characters, words and tokens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st
from pools import records, run, score
from pydantic import ValidationError
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from schemas.errors import RecipeError
from stages.length import Length


def measured(stage: Length, text: str | None) -> dict[str, Any]:
    pool = score(stage, records([{"text": text}]))
    (row,) = pool.table(["n_chars", "n_words", "n_tokens", "truncated"]).to_pylist()
    assert isinstance(row, dict)
    return row


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    made = Tokenizer(WordLevel({"[UNK]": 0, "a": 1, "b": 2}, unk_token="[UNK]"))
    made.pre_tokenizer = Whitespace()
    made.enable_truncation(2)
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path


@pytest.mark.parametrize(
    ("text", "chars", "words"),
    [
        ("", 0, 0),
        ("It's naïve_x 12!", 16, 4),
        ("漢字 and ไทย", 10, 6),
        ("e\u0301 \U0001f600", 4, 1),
        (None, None, None),
    ],
)
def test_characters_and_words(text: str | None, chars: int | None, words: int | None) -> None:
    row = measured(Length(), text)
    assert (row["n_chars"], row["n_words"], row["n_tokens"]) == (chars, words, None)


@given(st.text(st.sampled_from("abÉß жи 漢字かカไทย๓\u0301_9²नमस्ते한국+-.\t😀"), max_size=30))
@settings(max_examples=200, deadline=None)
def test_words_follow_their_definition(text: str) -> None:
    unspaced = r"\p{Han}\p{Hiragana}\p{Katakana}\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
    pattern = rf"(?V1)[{unspaced}]|[[\p{{L}}\p{{N}}\p{{M}}_]--[{unspaced}]]+"
    assert measured(Length(), text)["n_words"] == len(regex.findall(pattern, text))


@pytest.mark.parametrize("folder", [True, False])
def test_tokens_of_a_real_tokenizer_without_its_truncation(tokenizer: Path, folder: bool) -> None:
    path = tokenizer if folder else tokenizer / "tokenizer.json"
    stage = Length(tokenizer=str(path))
    stage.check()
    assert stage.inputs() == (str(tokenizer / "tokenizer.json"),)
    assert measured(stage, "a b a zzz")["n_tokens"] == 4
    assert measured(stage, None)["n_tokens"] is None


@pytest.mark.parametrize("content", [None, "{}", "not json"])
def test_missing_or_broken_tokenizer_fails_early(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(RecipeError, match="tokenizer"):
        Length(tokenizer=str(tmp_path)).check()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("```python\nx = 1\n```", False),
        ("look:\n```python\nx = 1", True),
        ("inline ``` is no fence", False),
        ("<think>a</think> b", False),
        ("<think>and then", True),
        ("done.", False),
        ("Install it:\n```pip install x```\nand you are done.", False),
        ("Install it:\n```pip install x```\nThen run\n```python\nx = 1", True),
        ("````md\n```py\nx\n````\n", False),
        ("````md\n```py\nx\n```\n", True),
        ("```\r\nx = 1\r\n```\r\n", False),
        ("1. a\n    ```\n    x", True),
    ],
)
def test_truncated(text: str, expected: bool) -> None:
    assert measured(Length(), text)["truncated"] is expected
    decisions = run(Length(truncated="drop"), records([{"text": text}]))
    assert decisions.keep.tolist() == [not expected]


def test_limits_and_reasons() -> None:
    table = records([{"text": "a"}, {"text": "a b c"}, {"text": "a b c d e f"}, {}])
    decisions = run(Length(min_words=2, max_words=5), table, batch_size=3)
    assert list(zip(decisions.keep.tolist(), decisions.reason.to_pylist(), strict=True)) == [  # type: ignore[union-attr]
        (False, "too short: under 2 words; 1"),
        (True, "kept: within limits"),
        (False, "too long: over 5 words; 6"),
        (True, "kept: no text to measure"),
    ]
    assert decisions.score is not None
    assert decisions.score[:3].tolist() == [1, 3, 6]


def test_a_flag_drops_nothing_and_hides_no_drop() -> None:
    table = records([{"text": "a b c d"}, {"text": "abcdefghij"}, {"text": "abc"}])
    decisions = run(Length(max_chars=5, min_words=2, overlong="flag"), table)
    assert list(zip(decisions.keep.tolist(), decisions.reason.to_pylist(), strict=True)) == [  # type: ignore[union-attr]
        (True, "flagged: too long: over 5 chars; 7"),
        (False, "too short: under 2 words; 1"),
        (False, "too short: under 2 words; 1"),
    ]


def test_limits_rescore_nothing_and_must_make_sense() -> None:
    assert Length(max_chars=5, overlong="flag", truncated="drop").scoring() == Length().scoring()
    assert len(run(Length(max_chars=5), records([])).keep) == 0
    for bad in ({"min_words": 3, "max_words": 2}, {"max_tokens": 5}, {"max_chars": 0}, {"overlong": "cut"}):
        with pytest.raises(ValidationError):
            Length.model_validate(bad)
