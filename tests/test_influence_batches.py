"""Rows of tokens, what of them counts, and batches of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from schemas.errors import RecipeError
from stages.influence import encode, tokenize

ROWS = st.lists(st.lists(st.integers(0, 50), max_size=12), max_size=20)


@given(ROWS, st.integers(1, 40))
def test_every_row_is_in_one_batch_whole(rows: list[list[int]], tokens: int) -> None:
    batches = encode(rows, context=10, tokens=tokens)
    seen = {}
    for batch in batches:
        assert batch.ids.size <= tokens or len(batch.rows) == 1
        for place, row in enumerate(batch.rows):
            seen[int(row)] = batch.ids[place][batch.real[place]].tolist()
            assert not batch.counted[place][~batch.real[place]].any()
            assert not batch.counted[place, 0]
    assert seen == {place: row[:10] for place, row in enumerate(rows) if len(row) > 1}
    assert batches.empty.tolist() == [len(row) < 2 for row in rows]
    assert batches.truncated.tolist() == [len(row) > 10 for row in rows]
    assert batches.lost.sum() == sum(len(row) for row in rows) - batches.lengths.sum()


def test_a_row_is_empty_where_what_counts_lies_beyond_the_context() -> None:
    batches = encode([[1, 2, 3, 4]], [[False, False, False, True]], context=3)
    assert batches.empty.tolist() == [True]
    assert batches.truncated.tolist() == [True]
    assert list(batches) == []


def test_padding_repeats_the_rows_own_last_token() -> None:
    (batch,) = encode([[7, 8, 9], [5, 6]], context=8)
    assert batch.ids.tolist() == [[7, 8, 9], [5, 6, 6]]
    assert batch.real.tolist() == [[True] * 3, [True, True, False]]


@given(ROWS.filter(lambda rows: len(rows) > 1), st.randoms())
def test_a_sample_depends_on_content_alone(rows: list[list[int]], random: object) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = (encode(one, context=20).sample(3, 0) for one in (rows, shuffled))
    assert sorted(one.tolist() for one in first.ids) == sorted(one.tolist() for one in second.ids)
    assert not first.empty.any()


def test_equal_rows_have_keys_of_their_own() -> None:
    keys = encode([[1, 2], [1, 2], [1, 3]], context=4).keys("x")
    assert len(set(keys)) == 3
    assert encode([[1, 3], [1, 2], [1, 2]], context=4).keys("x") == [keys[2], keys[0], keys[1]]


def words() -> PreTrainedTokenizerFast:
    """One token per word with the blanks before it; `<s>` before and `</s>` after every text."""
    vocabulary = {"<s>": 0, "</s>": 1, "a": 2, " b": 3, " c": 4, " d": 5, "<unk>": 6, "bc": 7}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Split(Regex(" ?[a-z]+"), "isolated")
    tokenizer.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)


def test_pieces_say_which_tokens_count() -> None:
    rows = [[("a b", False), (" c d", True)], [("a b", True), (" c d", False)], []]
    batches = tokenize(words(), rows, context=10)
    assert batches.ids[0].tolist() == [0, 2, 3, 4, 5, 1]
    assert batches.counted[0].tolist() == [False, False, False, True, True, True]
    assert batches.counted[1].tolist() == [False, True, True, False, False, False]
    assert batches.empty.tolist() == [False, False, True]


def test_a_token_across_pieces_counts_as_the_one_where_it_ends() -> None:
    batches = tokenize(words(), [[("a b", False), ("", True), ("x", True)]], context=10)
    assert batches.ids[0].tolist() == [0, 2, 6, 1]
    assert batches.counted[0].tolist() == [False, False, True, True]


@pytest.mark.parametrize(
    ("arguments", "context"),
    [(([[1, 2]], [[True]]), 4), (([[1, 2]], []), 4), (([[1, 2]], None), 0)],
)
def test_what_does_not_fit_together_is_said(arguments: tuple[object, ...], context: int) -> None:
    with pytest.raises(RecipeError):
        encode(*arguments, context=context)  # type: ignore[arg-type]
