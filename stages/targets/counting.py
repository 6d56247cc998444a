"""Counting tokens: with a tokenizer where one is named, else as words and punctuation marks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from tokenizers import Tokenizer

from schemas.errors import RecipeError
from stages.length import tokenizer_file
from stages.targets.loops import words_of

Count = Callable[[str], int]


def counter(tokenizer: str | None) -> Count:
    """A function that counts the tokens of a text. Raises RecipeError if the tokenizer cannot be loaded."""
    if tokenizer is None:
        return lambda text: len(words_of(text))
    loaded = _load(str(tokenizer_file(tokenizer)))
    return lambda text: len(loaded.encode(text, add_special_tokens=False).ids)


@cache
def _load(path: str) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_file(path)
    except Exception as error:  # the library raises bare Exception
        raise RecipeError(
            f"targets: {path} is not a tokenizer: {error}; give a tokenizer.json or its folder"
        ) from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
