"""What one server understands: found out by being refused, remembered for the rest of the run."""

from __future__ import annotations

from typing import Final, NamedTuple

from stages.llm.endpoint import Structured
from stages.llm.wire import Fault, LengthField, Level

LEVELS: Final[tuple[Level, ...]] = ("json_schema", "json_object", "off")
_BAD_REQUEST: Final = (400, 422)


class Form(NamedTuple):
    """How a request is put."""

    level: Level
    length: LengthField


class Dialect:
    """The best way to put requests to a server, so far.

    With `structured: auto` JSON is asked for by schema, then as an object, then not at all: a server that rejects one
    way gets the next, and a way that worked once is no longer doubted.
    """

    def __init__(self, structured: Structured) -> None:
        self._auto = structured == "auto"
        self._form = Form("json_schema" if structured == "auto" else structured, "max_tokens")
        self._proven = False

    def form(self) -> Form:
        """How to put the next request."""
        return self._form

    def accepted(self, form: Form, has_schema: bool) -> None:
        """Remember a form that worked; requests without a schema say nothing about levels."""
        if has_schema and (not self._proven or LEVELS.index(form.level) < LEVELS.index(self._form.level)):
            self._form, self._proven = form, True
        elif form.length != self._form.length:
            self._form = self._form._replace(length=form.length)

    def other(self, form: Form, fault: Fault, has_schema: bool) -> Form | None:
        """Another form to try after a rejection, None where the form cannot be at fault."""
        if fault.status not in _BAD_REQUEST:
            return None
        if "max_completion_tokens" in fault.detail and form.length == "max_tokens":
            return form._replace(length="max_completion_tokens")
        doubtful = self._auto and has_schema and form.level != "off"
        if not doubtful or fault.again or (self._proven and form.level == self._form.level):
            return None
        return form._replace(level=LEVELS[LEVELS.index(form.level) + 1])
