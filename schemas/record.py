"""The canonical record: its Arrow schema, the draft an adapter makes, and its content hash."""

from __future__ import annotations

from typing import Any, Final, Literal, TypedDict, get_args

import orjson
import pyarrow as pa

from schemas.hashing import digest

Kind = Literal["sft", "code", "preference", "trajectory", "text"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)
TestType = Literal["stdio", "functional", "pytest"]

TOOL_CALL: Final = pa.struct([("id", pa.string()), ("name", pa.string()), ("arguments", pa.string())])
MESSAGE: Final = pa.struct(
    [
        ("role", pa.string()),
        ("content", pa.string()),
        ("reasoning", pa.string()),
        ("name", pa.string()),
        ("tool_calls", pa.list_(TOOL_CALL)),
        ("tool_call_id", pa.string()),
        ("weight", pa.float64()),
    ]
)
TEST: Final = pa.struct(
    [
        ("name", pa.string()),
        ("input", pa.string()),
        ("output", pa.string()),
        ("code", pa.string()),
        ("file", pa.string()),
    ]
)
SOLUTION: Final = pa.struct([("code", pa.string()), ("language", pa.string()), ("verdict", pa.string())])

IDENTITY: Final = [
    pa.field("record_id", pa.string(), nullable=False),
    pa.field("content_hash", pa.string(), nullable=False),
    pa.field("source", pa.string(), nullable=False),
    pa.field("source_id", pa.string()),
    pa.field("origin", pa.string(), nullable=False),
]
CONTENT: Final = [
    pa.field("kind", pa.string(), nullable=False),
    pa.field("messages", pa.list_(MESSAGE)),
    pa.field("text", pa.string()),
    pa.field("prompt", pa.string()),
    pa.field("completion", pa.string()),
    pa.field("rejected", pa.string()),
    pa.field("reasoning", pa.string()),
    pa.field("answer", pa.string()),
    pa.field("language", pa.string()),
    pa.field("tests", pa.list_(TEST)),
    pa.field("test_code", pa.string()),
    pa.field("test_type", pa.string()),
    pa.field("entry_point", pa.string()),
    pa.field("solutions", pa.list_(SOLUTION)),
    pa.field("reward", pa.float64()),
    pa.field("tools", pa.string()),
    pa.field("judge", pa.string()),
]
DERIVED: Final = [pa.field("n_tests", pa.int32()), pa.field("meta", pa.string())]
RECORD: Final = pa.schema([*IDENTITY, *CONTENT, *DERIVED])
CONTENT_COLUMNS: Final = tuple(field.name for field in CONTENT)

QUARANTINE: Final = pa.schema(
    [
        pa.field("source", pa.string(), nullable=False),
        pa.field("file", pa.string()),
        pa.field("row", pa.int64()),  # 0-based position in the file
        pa.field("line", pa.int64()),  # 1-based line where the row starts, for line-oriented formats
        pa.field("record_id", pa.string()),  # of the record, where it got as far as being one
        pa.field("stage", pa.string(), nullable=False),
        pa.field("kind", pa.string(), nullable=False),
        pa.field("field", pa.string()),
        pa.field("error", pa.string(), nullable=False),
        pa.field("raw", pa.binary()),  # the original bytes
    ]
)


class ToolCall(TypedDict, total=False):
    """One call of a tool; `arguments` is JSON text."""

    id: str
    name: str
    arguments: str


class Message(TypedDict, total=False):
    """One turn. Keys without a value are left out, never set to None."""

    role: str
    content: str
    reasoning: str
    name: str
    tool_calls: list[ToolCall]
    tool_call_id: str
    weight: float


class Test(TypedDict, total=False):
    """One independent check: stdin/stdout (`input`, `output`), a call (JSON list of arguments in `input`, JSON
    value in `output`), a source check (`code`), or only a reference to a file that is missing (`file`)."""

    name: str
    input: str
    output: str
    code: str
    file: str


class Solution(TypedDict, total=False):
    """A program; `verdict` is what its source claims: accepted, wrong_answer, time_limit, runtime_error."""

    code: str
    language: str
    verdict: str


class Draft(TypedDict, total=False):
    """What an adapter makes of a source row: content columns, the user's own id, and whatever else in `meta`."""

    source_id: str
    kind: Kind
    messages: list[Message]
    text: str
    prompt: str
    completion: str
    rejected: str
    reasoning: str
    answer: str
    language: str
    tests: list[Test]
    test_code: str
    test_type: TestType
    entry_point: str
    solutions: list[Solution]
    reward: float
    tools: str
    judge: str
    meta: dict[str, Any]


_NOT_CONTENT: Final = frozenset({"source_id", "meta"})


def content_hash(draft: Draft) -> bytes:
    """16-byte hash of a draft's content: equal for equal content whatever its source, id or metadata.

    Missing keys and None count the same, so a column added later leaves old hashes as they are.
    """
    content = {key: value for key, value in draft.items() if value is not None and key not in _NOT_CONTENT}
    return digest(orjson.dumps(content, option=orjson.OPT_SORT_KEYS))


def record_id(source: str, file: str, position: str) -> bytes:
    """16-byte hash of where a record came from: source name, path within the source, position in the file."""
    return digest(f"{source}\0{file}\0{position}".encode("utf-8", "surrogatepass"))


def content_of(row: dict[str, Any]) -> Draft:
    """The draft whose content a canonical row (as `to_pylist` gives it) holds; its hash is the row's own."""
    draft: Draft = {key: _bare(value) for key, value in row.items() if value is not None}  # type: ignore[assignment]
    return draft


def _bare(value: Any) -> Any:
    """Nested structs without their empty fields, as adapters make them."""
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if isinstance(value, dict):
        return {key: _bare(item) for key, item in value.items() if item is not None}
    return value
