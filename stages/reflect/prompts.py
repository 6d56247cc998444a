"""What the model is asked: templates filled with a record's turn, and the shape of the reply."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from schemas.errors import RecipeError
from schemas.hashing import digest
from stages.llm.request import Request
from stages.reflect.parsing import mark_for
from stages.reflect.turns import Turn

Call = Literal["instruction", "response"]
SHIPPED: Final[dict[Call, Path]] = {
    "instruction": Path(__file__).parent / "templates/instruction-1.j2",
    "response": Path(__file__).parent / "templates/response-1.j2",
}
PARTS: Final[dict[Call, tuple[str, ...]]] = {
    "instruction": ("critique", "instruction", "answer"),
    "response": ("critique", "answer"),
}
"""What a reply holds, in the order in which it is best thought of."""
_MEANING: Final = {
    "critique": "your examination",
    "instruction": "the new instruction, and nothing but it",
    "answer": "the new answer, and nothing but it",
}


@dataclass(frozen=True)
class Template:
    """A prompt template. `version` names its file and content: `instruction-1@0f3a92c1`."""

    call: Call
    text: str
    version: str


@dataclass(frozen=True)
class Checks:
    """What a new answer will have to pass: the record's tests, a final result in the form the old answer has."""

    tested: bool = False
    final_form: str = ""


def read_template(call: Call, path: str | Path) -> Template:
    """A template file. Raises RecipeError if it cannot be read, is no template, or leaves out the example.

    It may use `example`, `format`, `multi_turn`, `tested` and `final_form`; the first two it must.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
        filled = _compiled(text).render(example="\0example", format="\0format", **_flags(False, Checks()))
    except (OSError, UnicodeDecodeError, jinja2.TemplateError) as error:
        raise RecipeError(f"reflect: template {path} cannot be used: {error}") from error
    for name in ("example", "format"):
        if f"\0{name}" not in filled:
            raise RecipeError(f"reflect: template {path} leaves out {{{{ {name} }}}}: the model would not see it")
    return Template(call, text, f"{Path(path).stem}@{digest(text.encode()).hex()[:8]}")


def request(template: Template, turn: Turn, checks: Checks, sections: bool = False) -> tuple[Request, str]:
    """The request that asks to rewrite `turn`, and the mark of its sections.

    JSON is asked for, or, with `sections`, marked sections: that is how a model is asked once more whose reply could
    not be read. The mark occurs in no text of the turn, so that nothing a record says can end a section.
    """
    mark = mark_for(turn.system, turn.pair.instruction, turn.pair.answer, *(text for _, text in turn.history))
    text = _compiled(template.text).render(
        example=_example(turn, mark),
        format=_sections(template.call, mark) if sections else _json(template.call),
        **_flags(bool(turn.history), checks),
    )
    schema = None if sections else json_schema(template.call)
    return Request(({"role": "user", "content": text},), template.version, json_schema=schema), mark


def json_schema(call: Call) -> dict[str, Any]:
    """The JSON schema of a reply: an object of texts, all of them required."""
    parts = PARTS[call]
    properties = {name: {"type": "string", "description": _MEANING[name]} for name in parts}
    return {"type": "object", "properties": properties, "required": list(parts), "additionalProperties": False}


def _flags(multi_turn: bool, checks: Checks) -> dict[str, Any]:
    return {"multi_turn": multi_turn, "tested": checks.tested, "final_form": checks.final_form}


def _example(turn: Turn, mark: str) -> str:
    named = [("system prompt", turn.system)] if turn.system else []
    named += [(f"earlier turn of the {role}", text) for role, text in turn.history]
    named += [("instruction", turn.pair.instruction), ("answer", turn.pair.answer)]
    return "\n\n".join(_section(name, text, mark) for name, text in named)


def _json(call: Call) -> str:
    keys = ", ".join(f'"{name}" ({_MEANING[name]})' for name in PARTS[call])
    return f"Reply with one JSON object and nothing else. Its keys, in this order, each with a text: {keys}."


def _sections(call: Call, mark: str) -> str:
    form = "\n".join(_section(name, f"({_MEANING[name]})", mark) for name in PARTS[call])
    return f"Reply in the form below; the lines in double brackets stand exactly as they are here.\n\n{form}"


def _section(name: str, text: str, mark: str) -> str:
    return f"[[{mark} {name}]]\n{text}\n[[{mark} end]]"


@cache
def _compiled(text: str) -> jinja2.Template:
    environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text)
