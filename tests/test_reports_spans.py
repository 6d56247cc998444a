"""The span that a decision points at, in its surroundings."""

from __future__ import annotations

import pytest

from reports.spans import highlighted, span_of

RECORD = {"prompt": "before MATCH after", "messages": [{"content": "x"}, {"content": "say MATCH now"}]}


@pytest.mark.parametrize(
    ("path", "start", "before", "after"),
    [("prompt", 7, "before ", " after"), ("messages[1].content", 4, "say ", " now")],
)
def test_a_span_is_shown_where_it_stands(path: str, start: int, before: str, after: str) -> None:
    span = span_of("decontaminate", {"path": path, "start": start, "stop": start + 5, "text": "MATCH"}, RECORD)
    assert span is not None
    assert (span.before, span.text, span.after) == (before, "MATCH", after)
    assert f"{before}⟦MATCH⟧{after}" in highlighted(span).plain


def test_a_text_that_has_changed_since_shows_only_what_was_found() -> None:
    span = span_of("s", {"path": "prompt", "start": 0, "stop": 5, "text": "MATCH"}, RECORD)
    assert span is not None
    assert (span.before, span.text) == ("", "MATCH")


@pytest.mark.parametrize("detail", [None, "text", {}, {"path": "answer", "start": 0, "stop": 3}])
def test_details_without_a_span(detail: object) -> None:
    assert span_of("s", detail, RECORD) is None
