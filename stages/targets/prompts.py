"""What the summarising model is asked: a template filled with a question and a thought."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

import jinja2
from jinja2.sandbox import SandboxedEnvironment

from schemas.errors import RecipeError
from schemas.hashing import digest
from stages.llm.request import Request
from stages.targets.response import Response

SHIPPED: Final = Path(__file__).parent / "templates/summary-1.j2"


@dataclass(frozen=True)
class Template:
    """A prompt template. `version` names its file and content: `summary-1@0f3a92c1`."""

    text: str
    version: str


def read_template(path: str | Path | None) -> Template:
    """A template file, the shipped one for None. Raises RecipeError if it cannot be read or leaves out the thought.

    It may use `question`, `thought`, `mark` (hex digits that neither of them contains) and `max_words`.
    """
    path = path or SHIPPED
    try:
        text = Path(path).read_text(encoding="utf-8")
        filled = _compiled(text).render(question="\0question", thought="\0thought", mark="", max_words=1)
    except (OSError, UnicodeDecodeError, jinja2.TemplateError) as error:
        raise RecipeError(f"targets: template {path} cannot be used: {error}") from error
    for name in ("question", "thought"):
        if f"\0{name}" not in filled:
            raise RecipeError(f"targets: template {path} leaves out {{{{ {name} }}}}: the model would not see it")
    return Template(text, f"{Path(path).stem}@{digest(text.encode()).hex()[:8]}")


def request(template: Template, response: Response, max_words: int) -> Request:
    """The request for a summary. The answer is not shown: the summary has to arrive at its result by itself."""
    text = _compiled(template.text).render(
        question=response.question,
        thought=response.thought,
        mark=_mark(response.question, response.thought),
        max_words=max_words,
    )
    return Request(({"role": "user", "content": text},), template.version)


def _mark(*texts: str) -> str:
    """Eight hex digits that occur in no text, the same ones every time: no text can end its own section."""
    joined, attempt = "\0".join(texts), 0
    while (mark := digest(f"{attempt}\0{joined}".encode()).hex()[:8]) in joined:
        attempt += 1
    return mark


@cache
def _compiled(text: str) -> jinja2.Template:
    environment = SandboxedEnvironment(undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(text)
