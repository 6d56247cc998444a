"""Records as tokens with a loss mask: what token shards and the fine-tuning job are made of.

A conversation is the text of the tokenizer's own chat template, with a loss on what the assistant said; raw text is a
document with a loss on all of it, closed by the end-of-text token.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa

from pipelines.formats.base import Record, Untold
from pipelines.formats.chat_mask import Rendered, Tokens, Unstable, rendered, tokenised
from pipelines.formats.messages import TOLD_BY, as_openai, tools_of, turns
from schemas.errors import BadRow, RecipeError

COLUMNS: Final = (*TOLD_BY, "tools", "text")
"""The record columns that tokens are made of."""
TOKENS: Final = pa.schema(
    [
        pa.field("record_id", pa.string(), nullable=False),
        pa.field("ids", pa.list_(pa.int32()), nullable=False),
        pa.field("mask", pa.list_(pa.uint8()), nullable=False),  # 1: has a loss; as long as `ids`
        pa.field("starts", pa.list_(pa.int32()), nullable=False),  # positions where the sequence may be split
    ]
)


class Tokenised(NamedTuple):
    """Sequences (schema TOKENS, in the order of the records, some with several) and the records without any."""

    table: pa.Table
    untold: list[Untold]


def load_tokenizer(path: Path, chat_template: Path | None = None) -> Any:
    """A fast tokenizer from a folder; nothing is downloaded, no code from it runs. RecipeError where it is none."""
    import transformers

    if not path.is_dir():
        raise RecipeError(f"{path}: no such folder; a tokenizer is a local folder with tokenizer.json")
    try:
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(path), local_files_only=True, trust_remote_code=False
        )
    except (OSError, ValueError) as error:
        raise RecipeError(f"{path}: no tokenizer here: {error}") from error
    if not tokenizer.is_fast:
        raise RecipeError(f"{path}: not a fast tokenizer (tokenizer.json): it does not know where each token stands")
    if chat_template is not None:
        tokenizer.chat_template = chat_template.read_text(encoding="utf-8")
    return tokenizer


def tokenizer_digest(tokenizer: Any) -> str:
    """Hex hash of everything the tokens depend on: vocabulary, normalisation, special tokens and chat template."""
    said = (tokenizer.backend_tokenizer.to_str(), repr(tokenizer.chat_template), repr(tokenizer.special_tokens_map))
    return hashlib.sha256("\0".join(said).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def tokens_of(table: pa.Table, tokenizer: Any, when_unstable: Unstable = "error") -> Tokenised:
    """Sequences of a table of canonical records (columns `record_id` and COLUMNS).

    Raises RecipeError where a conversation is there and the tokenizer has no chat template; records that make no
    sequence are named in `untold`.
    """
    untold: list[Untold] = []
    ids: list[str] = []
    texts: list[Rendered] = []
    for record in table.select(["record_id", *COLUMNS]).to_pylist():
        try:
            told = list(_told(record, tokenizer, when_unstable))
        except BadRow as reason:
            untold.append(Untold(record["record_id"], reason.kind, str(reason)))
            continue
        texts += told
        ids += [record["record_id"]] * len(told)
    coded = zip(texts, tokenised(tokenizer, texts), strict=True)
    head, tail = _edges(tokenizer)
    return Tokenised(_table(ids, [_closed(*each, head, tail) for each in coded]), untold)


def _told(record: Record, tokenizer: Any, when_unstable: Unstable) -> Iterator[Rendered]:
    if record["messages"] is None and record["prompt"] is None and record["text"] is not None:
        if not record["text"]:
            raise BadRow("no_text", "an empty text")
        yield Rendered(record["text"], ((0, len(record["text"])),), document=True)
        return
    said = [{"content": "", **as_openai(turn)} for turn in turns(record)]  # templates may want the key
    told = rendered(tokenizer, said, tools_of(record), when_unstable)
    if not any(start < end for each in told for start, end in each.answers):
        raise BadRow("no_answer", "no turn of the assistant has a loss")
    yield from told


def _closed(text: Rendered, tokens: Tokens, head: list[int], tail: list[int]) -> Tokens:
    """A document between the tokenizer's start token, where it uses one, and its end token; a chat as it is."""
    if not text.document:
        return tokens
    ids = np.concatenate([head, tokens.ids, tail]).astype(np.int32)
    return Tokens(ids, np.ones(len(ids), np.uint8), tokens.starts)


def _edges(tokenizer: Any) -> tuple[list[int], list[int]]:
    """What stands before and behind a document: what the tokenizer itself adds to a text, and the end token."""
    added = tokenizer("", add_special_tokens=True)["input_ids"]
    head = [token for token in added if token != tokenizer.eos_token_id]
    return head, [] if tokenizer.eos_token_id is None else [tokenizer.eos_token_id]


def _table(ids: list[str], tokens: list[Tokens]) -> pa.Table:
    columns = [
        pa.array(ids, pa.string()),
        _lists([each.ids for each in tokens], pa.int32()),
        _lists([each.mask for each in tokens], pa.uint8()),
        _lists([each.starts for each in tokens], pa.int32()),
    ]
    return pa.Table.from_arrays(columns, schema=TOKENS)


def _lists(values: list[Any], kind: pa.DataType) -> pa.Array:
    """A list column of numpy arrays, without a Python object per number."""
    ends = np.cumsum([0, *(len(each) for each in values)]).astype(np.int32)
    flat = np.concatenate(values) if values else np.zeros(0)
    return pa.ListArray.from_arrays(pa.array(ends), pa.array(flat.astype(kind.to_pandas_dtype()), kind))
