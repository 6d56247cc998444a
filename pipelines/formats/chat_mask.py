"""Which tokens of a conversation the assistant said: token by token, for any chat template.

The text is the tokenizer's own template over all turns. Where the template marks the answers (`{% generation %}`), its
marks count. Elsewhere an answer is what the template adds to the prompt that stands before it (the turns so far, with
the generation prompt), up to its end-of-turn token: what a model has to write at inference, no more and no less. That
is checked for every answer: the prompt must be a prefix of the whole text, and so must the turns up to the answer.
Templates that tell earlier turns differently later on (Qwen-3 drops their reasoning) fail this check; then
`when_unstable` says what to do. A conversation that the assistant opens has no prompt there: no loss on that turn.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from schemas.errors import BadRow, RecipeError

Unstable = Literal["error", "unroll", "last"]
Turn = dict[str, Any]
Span = tuple[int, int]
_BLANKS: Final = re.compile(r"\s*")
_GENERATION: Final = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class Rendered:
    """A text to tokenise. `answers` are the half-open character spans with a loss, in order: what the assistant said,
    or all of a `document`."""

    text: str
    answers: tuple[Span, ...]
    document: bool = False


@dataclass(frozen=True)
class Tokens:
    """One sequence: token ids, 1 where the assistant said the token (0 elsewhere), and the positions at which an
    exchange starts (after an answer), where a sequence may be split. All of shape [tokens] but `starts`."""

    ids: npt.NDArray[np.int32]
    mask: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int32]


def chat_tokens(
    tokenizer: Any, turns: Sequence[Turn], tools: list[Any] | None = None, when_unstable: Unstable = "error"
) -> list[Tokens]:
    """The training sequences of one conversation: one, or one per answer where an unstable template is unrolled.

    Args:
        tokenizer: a fast `transformers` tokenizer with a chat template.
        turns: messages in OpenAI's keys, without keys of None. `weight: 0` on an answer leaves it without a loss.
        tools: the tools' JSON schemas.
        when_unstable: `error`; `unroll` makes a sequence per answer, each ending there, with a loss on that answer
            alone (tokens repeat, nothing differs from inference); `last` keeps only the last of these.

    Raises:
        BadRow: `unstable_template` as above, `template_error` where the template refuses the conversation.
        RecipeError: a tokenizer without offsets or without a chat template.
    """
    return tokenised(tokenizer, rendered(tokenizer, turns, tools, when_unstable))


def rendered(
    tokenizer: Any, turns: Sequence[Turn], tools: list[Any] | None = None, when_unstable: Unstable = "error"
) -> list[Rendered]:
    """The text of a conversation with the spans of its answers; more than one text where it is unrolled."""
    template = chat_template(tokenizer, tools)
    if _GENERATION.search(template):
        return [_marked(tokenizer, template, turns, tools)]
    try:
        return [_by_prefixes(tokenizer, turns, tools)]
    except BadRow as reason:
        if when_unstable == "error" or reason.kind != "unstable_template":
            raise
    answers = [at for at, turn in enumerate(turns) if at and turn["role"] == "assistant"]
    chosen = answers[-1:] if when_unstable == "last" else answers
    return [_one_answer(tokenizer, turns[: at + 1], tools) for at in chosen if _counts(turns[at])]


def chat_template(tokenizer: Any, tools: list[Any] | None = None) -> str:
    """The Jinja text of the tokenizer's template. RecipeError where it has none, or gives no offsets."""
    if not tokenizer.is_fast:
        raise RecipeError("loss masks need a fast tokenizer (tokenizer.json), which knows where each token stands")
    try:
        return str(tokenizer.get_chat_template(None, tools))
    except ValueError as error:
        raise RecipeError(
            f"the tokenizer at '{tokenizer.name_or_path}' has no chat template; give one with `chat_template`"
        ) from error


def tokenised(tokenizer: Any, texts: Sequence[Rendered]) -> list[Tokens]:
    """Tokens of rendered conversations, with masks: a token is the assistant's iff it starts inside an answer."""
    if not texts:
        return []
    coded = tokenizer([each.text for each in texts], add_special_tokens=False, return_offsets_mapping=True,
                      return_attention_mask=False, verbose=False)  # fmt: skip
    return list(map(_tokens, texts, coded["input_ids"], coded["offset_mapping"]))


def _tokens(text: Rendered, ids: list[int], offsets: list[Span]) -> Tokens:
    starts = token_starts(offsets)
    edges = np.array(text.answers, np.int64).reshape(-1, 2)
    before = np.searchsorted(edges[:, 0], starts, side="right")  # answers that have begun
    over = np.searchsorted(edges[:, 1], starts, side="right")  # answers that are over
    following = [_BLANKS.match(text.text, end).end() for _, end in text.answers[:-1]]  # type: ignore[union-attr]
    after = np.unique(np.searchsorted(starts, np.array(following, np.int64), side="left"))
    return Tokens(np.array(ids, np.int32), (before > over).astype(np.uint8), after.astype(np.int32))


def token_starts(offsets: Sequence[Span]) -> npt.NDArray[np.int64]:
    """The character at which each token starts. Byte-level tokenizers that trim blanks from offsets give a token of
    blanks an empty span behind it: such a token starts where the one before it ended."""
    spans = np.array(offsets, np.int64).reshape(-1, 2)
    starts = spans[:, 0].copy()
    ends = np.concatenate([[0], np.maximum.accumulate(spans[:, 1])[:-1]]) if len(spans) else spans[:, 1]
    empty = spans[:, 0] == spans[:, 1]
    starts[empty] = np.minimum(starts, ends)[empty]
    return starts


def _marked(tokenizer: Any, template: str, turns: Sequence[Turn], tools: list[Any] | None) -> Rendered:
    """Spans from the template's own `{% generation %}` blocks."""
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        made: Any = render_jinja_template(
            [list(turns)], tools, chat_template=template, return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )  # fmt: skip
    except Exception as error:  # templates raise what they like
        raise _refused(error) from error
    texts, marks = made
    said = [turn for turn in turns if turn["role"] == "assistant"]
    spans = [(int(start), int(end)) for start, end in marks[0]]
    if len(spans) == len(said):
        spans = [span for span, turn in zip(spans, said, strict=True) if _counts(turn)]
    elif not all(map(_counts, said)):
        raise BadRow("template_error", "the template marks more or fewer answers than there are, and some weigh 0")
    return Rendered(texts[0], tuple(spans))


def _by_prefixes(tokenizer: Any, turns: Sequence[Turn], tools: list[Any] | None) -> Rendered:
    text, enders = _render(tokenizer, turns, tools), _enders(tokenizer)
    spans = []
    for at, turn in enumerate(turns):
        if at and turn["role"] == "assistant" and _counts(turn):
            prompt = _render(tokenizer, turns[:at], tools, prompt=True)
            told = text if at + 1 == len(turns) else _render(tokenizer, turns[: at + 1], tools)
            told = _open_ended(told, text, enders)
            if not (text.startswith(told) and told.startswith(prompt)):
                raise BadRow("unstable_template", _why_unstable(at, text, told, prompt))
            spans.append((len(prompt), answer_end(told, len(prompt), enders)))
    return Rendered(text, tuple(spans))


def _one_answer(tokenizer: Any, turns: Sequence[Turn], tools: list[Any] | None) -> Rendered:
    """The turns up to an answer, with the loss on it alone; it starts where the text leaves the prompt."""
    text = _render(tokenizer, turns, tools)
    prompt = _render(tokenizer, turns[:-1], tools, prompt=True)
    bare = _render(tokenizer, turns[:-1], tools)
    start = common_prefix(text, prompt)
    if start < len(bare):
        raise BadRow("unstable_template", _why_unstable(len(turns) - 1, text, text, prompt))
    return Rendered(text, ((start, answer_end(text, start, _enders(tokenizer))),))


def _open_ended(told: str, text: str, enders: Iterable[str]) -> str:
    """The turns up to an answer as `text` begins with them: some templates close a conversation with one more token,
    which is not there when it goes on. Unchanged where that is not the difference."""
    shorter = told
    while not text.startswith(shorter):
        before = shorter
        shorter = before.rstrip()
        if shorter == before:
            shorter = next((before.removesuffix(token) for token in enders if token and before.endswith(token)), before)
        if shorter == before:
            return told
    return shorter


def answer_end(text: str, start: int, enders: Iterable[str]) -> int:
    """Where the answer that starts at `start` and runs to the end of `text` ends: after its end-of-turn token, without
    the blanks that a template puts behind it (a model stops at that token)."""
    bare = text.rstrip()
    closed = len(bare) > start and any(bare.endswith(token) for token in enders)
    return len(bare) if closed else len(text)


def common_prefix(one: str, other: str) -> int:
    """Number of leading characters that two texts share."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if one[:middle] == other[:middle] else (low, middle - 1)
    return low


def _why_unstable(at: int, text: str, told: str, prompt: str) -> str:
    other, what = (told, "later turns change how it is told") if not text.startswith(told) else (prompt, "prompt")
    where = common_prefix(text, other)
    why = "the generation prompt is no prefix of it" if what == "prompt" else what
    return (
        f"the chat template is not prefix-stable: turn {at} is the assistant's, and {why} (character {where}: "
        f"{text[where : where + 20]!r} is not {other[where : where + 20]!r}). Use a template with {{% generation %}}, "
        "or `when_unstable: unroll` (a sequence per answer) or `last` (only the last answer)"
    )


def _render(tokenizer: Any, turns: Sequence[Turn], tools: list[Any] | None, prompt: bool = False) -> str:
    try:
        return str(
            tokenizer.apply_chat_template(list(turns), tools=tools, tokenize=False, add_generation_prompt=prompt)
        )
    except Exception as error:  # templates raise what they like
        raise _refused(error) from error


def _refused(error: Exception) -> BadRow:
    return BadRow("template_error", f"the chat template refuses this conversation: {error}")


def _enders(tokenizer: Any) -> tuple[str, ...]:
    """Every special or added token: what a template may end a turn with."""
    return tuple(token.content for token in tokenizer.added_tokens_decoder.values())


def _counts(turn: Turn) -> bool:
    return turn.get("weight") != 0
