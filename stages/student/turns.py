"""What a record asks and answers: its last answer and all that was said before it, and how a model is shown that.

| record                            | exchange                                                                         |
|-----------------------------------|----------------------------------------------------------------------------------|
| messages ending with an assistant | all turns before that last one, and it                                           |
| messages ending otherwise         | all turns, and `reasoning` with `completion` (else `answer`)                     |
| prompt                            | a user's turn, and `reasoning` with `completion`, else the first accepted        |
|                                   | solution in a code fence, else `answer`                                          |

A turn is shown as its reasoning in `<think>` tags, its content, and each tool call as a line of JSON.

A tokenizer with a chat template shows turns its own way, up to where the assistant begins to speak. Without one they
are shown as Alpaca models were taught: the system's text as it is, then `### Instruction:`, `### Response:` or
`### Tool:` on a line above each turn, an empty line between them, and `### Response:` at the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import pyarrow as pa

from schemas.conversation import conversation
from schemas.errors import BadRow
from schemas.record import Message, ToolCall
from stages.student.models import Student

TURN_COLUMNS: Final = (
    "kind", "messages", "prompt", "completion", "reasoning", "answer", "solutions", "language",
)  # fmt: skip
"""Record columns that `exchanges` reads."""

NO_RESPONSE: Final = "no response"
EMPTY_RESPONSE: Final = "empty response"
NO_PROMPT: Final = "no prompt"
NONE: Final = (NO_RESPONSE, EMPTY_RESPONSE, NO_PROMPT)
"""Why a record has no exchange."""

_HEADINGS: Final = {"user": "### Instruction:", "assistant": "### Response:", "tool": "### Tool:"}
GUESS: Final = (
    "Below is the response to an instruction, please guess the corresponding instruction for the given response.\n"
    "{response}\nGenerate the instruction for the above response."
)
"""How Selective Reflection-Tuning asks for the instruction behind a response."""


@dataclass(frozen=True)
class Turn:
    """One turn as text; `role` is user, assistant, system or tool."""

    role: str
    text: str


@dataclass(frozen=True)
class Exchange:
    """A response and the turns that led to it, oldest first."""

    before: tuple[Turn, ...]
    response: str

    @property
    def instruction(self) -> str:
        """The text of the last user's turn, else of the last turn."""
        users = [turn.text for turn in self.before if turn.role == "user"]
        return users[-1] if users else self.before[-1].text


def exchanges(batch: pa.RecordBatch) -> list[Exchange | str]:
    """The exchange of each record (columns `TURN_COLUMNS`), or why it has none: one of `NONE`."""
    return [_exchange(record) for record in batch.select(list(TURN_COLUMNS)).to_pylist()]


def asked(student: Student, exchange: Exchange) -> str:
    """All that comes before the response, as the student's template (else the plain format) shows it.

    Raises BadRow (`chat_template`) where the template refuses the turns.
    """
    return shown(student.tokenizer, exchange.before)


def asked_backwards(student: Student, response: str) -> str:
    """The context in which a student guesses the instruction behind `response` (`GUESS`)."""
    return shown(student.tokenizer, (Turn("user", GUESS.format(response=response)),))


def shown(tokenizer: Any, turns: Sequence[Turn]) -> str:
    """Turns up to where the assistant begins to speak. Raises BadRow (`chat_template`) where a template refuses."""
    if not getattr(tokenizer, "chat_template", None):
        return plain(turns)
    said = [{"role": turn.role, "content": turn.text} for turn in turns]
    try:
        return str(tokenizer.apply_chat_template(said, tokenize=False, add_generation_prompt=True))
    except Exception as error:  # templates are programs of the model's maker: they raise what they like
        raise BadRow("chat_template", f"the model's chat template refuses the turns: {error}", "messages") from error


def plain(turns: Sequence[Turn]) -> str:
    """Turns in the plain format, up to where the assistant begins to speak."""
    pieces = [f"{_HEADINGS[turn.role]}\n{turn.text}" if turn.role in _HEADINGS else turn.text for turn in turns]
    return "\n\n".join([*pieces, f"{_HEADINGS['assistant']}\n"])


def _exchange(record: dict[str, Any]) -> Exchange | str:
    said = [_turn(message) for message in record["messages"] or conversation(record) or ()]
    if not said or said[-1].role != "assistant":
        text = _text(record["reasoning"], record["completion"] or record["answer"])
        if text is None:
            return NO_RESPONSE
        said.append(Turn("assistant", text))
    *before, last = said
    if not last.text.strip():
        return EMPTY_RESPONSE
    return Exchange(tuple(before), last.text) if any(turn.text.strip() for turn in before) else NO_PROMPT


def _turn(message: Message) -> Turn:
    calls = [_call(call) for call in message.get("tool_calls") or ()]
    text = _text(message.get("reasoning"), message.get("content"))
    return Turn(message["role"], "\n".join([*([text] if text else []), *calls]))


def _text(reasoning: str | None, content: str | None) -> str | None:
    return content if reasoning is None else f"<think>\n{reasoning}\n</think>\n\n{content or ''}"


def _call(call: ToolCall) -> str:
    named = orjson.dumps(call.get("name") or "").decode()
    return f'{{"name": {named}, "arguments": {call.get("arguments") or "{}"}}}'
