"""Adapters: each format is recognised, read as it should be, and refused with a reason where it cannot be read."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from adapter_data import FILES, load
from adapter_samples import SAMPLES, TURNS
from hypothesis import given, settings
from hypothesis import strategies as st
from test_adapters_lossless import lost

from schemas import record
from schemas.adapters import ADAPTERS, Detection, adapt, adapter, detect, field_map, mapped
from schemas.errors import BadRow, RecipeError

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_COLUMNS = pa.schema(list(record.CONTENT))


@pytest.mark.parametrize(("name", "wanted", "kind", "rows", "drafts", "bad"), FILES)
def test_real_file(name: str, wanted: str, kind: str, rows: int, drafts: int, bad: int, shared_data: Path) -> None:
    data = load(shared_data / name)
    found = detect(data[:200])
    assert (found.adapter, found.share, found.others) == (wanted, 1.0, {})
    made: list[Any] = []
    refused = 0
    for row in data:
        try:
            made += adapt(row, adapter(wanted))
        except BadRow:
            refused += 1
    assert (len(data), len(made), refused) == (rows, drafts, bad)
    assert {draft["kind"] for draft in made} == {kind}
    assert all(well_formed(draft) for draft in made[:: max(1, len(made) // 200)])


def well_formed(draft: Any) -> bool:
    """Whether a draft has only canonical columns of the right types, none of them None, and something to say."""
    content = {key: value for key, value in draft.items() if key not in ("meta", "source_id")}
    assert content.keys() <= set(record.CONTENT_COLUMNS)
    assert None not in content.values()
    pa.Table.from_pylist([{name: content.get(name) for name in record.CONTENT_COLUMNS}], schema=_COLUMNS)
    for column, struct in (("messages", record.MESSAGE), ("tests", record.TEST), ("solutions", record.SOLUTION)):
        names = {struct.field(index).name for index in range(struct.num_fields)}
        assert all(item.keys() <= names and None not in item.values() for item in content.get(column, []))
    return any(content.get(column) for column in ("prompt", "messages", "text"))


@pytest.mark.parametrize(("name", "row", "expected"), SAMPLES)
def test_sample(name: str, row: Any, expected: dict[str, Any]) -> None:
    assert detect([row]).adapter == name
    drafts = adapt(copy.deepcopy(row), adapter(name))
    assert {key: drafts[0].get(key) for key in expected} == expected
    assert all(well_formed(draft) for draft in drafts)
    assert lost(row, drafts) == []


def test_every_adapter_has_a_sample_and_a_name_of_its_own() -> None:
    names = [each.name for each in ADAPTERS]
    assert len(set(names)) == len(names)
    assert {name for name, *_ in SAMPLES} == set(names)


@settings(max_examples=400, deadline=None)
@given(sample=st.sampled_from(SAMPLES), value=_JSON, data=st.data())
def test_a_damaged_row_is_read_without_loss_or_refused(sample: Any, value: Any, data: st.DataObject) -> None:
    name, row, _ = sample
    damaged = copy.deepcopy(row)
    holder, key = data.draw(st.sampled_from(list(_places(damaged))))
    if data.draw(st.booleans()):
        holder[key] = value
    else:
        del holder[key]
    try:
        drafts = adapt(damaged, adapter(name))
    except BadRow:
        return
    assert all(well_formed(draft) for draft in drafts)
    assert lost(damaged, drafts) == []


def _places(value: Any) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        yield value, key
        if isinstance(item, dict | list):
            yield from _places(item)


@pytest.mark.parametrize("each", ADAPTERS, ids=lambda each: each.name)
def test_a_row_without_the_fields_is_refused(each: Any) -> None:
    for row in ({}, {"other": 1}):
        assert each.matches(row) is None
        with pytest.raises(BadRow, match="no '"):
            each.read(row)


@settings(max_examples=200, deadline=None)
@given(row=_JSON, primary=st.sampled_from(ADAPTERS))
def test_any_value_at_all_is_read_or_refused(row: Any, primary: Any) -> None:
    try:
        drafts = adapt(row, primary)
    except BadRow:
        return
    assert all(well_formed(draft) for draft in drafts)


@settings(max_examples=200, deadline=None)
@given(row=st.dictionaries(st.sampled_from(["instruction", "input", "output", "category", "id", "system"]), st.text()))
def test_alpaca_rows_keep_every_text(row: dict[str, str]) -> None:
    try:
        drafts = adapt(row, adapter("alpaca"))
    except BadRow:
        return
    assert lost(row, drafts) == []


def test_equal_content_is_equal_in_every_schema() -> None:
    rows = [
        {"instruction": "hi", "input": "", "output": "hello"},
        {"instruction": "hi", "response": "hello"},
        {"messages": TURNS},
        {"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "hello"}]},
        {"prompt": "hi", "completion": "hello", "id": 12},
    ]
    assert len({record.content_hash(adapt(row, adapter("alpaca"))[0]) for row in rows}) == 1


def test_detect_counts_what_else_is_there() -> None:
    rows = [{"instruction": "i", "output": "o"}] * 3 + [{"text": "t"}, {"nothing": 1}, 5]
    assert detect(rows) == Detection("alpaca", "has 'instruction' and an output", 0.5, {"text": 1, "unknown": 2})
    assert detect([{"x": 1}]).adapter == "unknown"
    assert detect([]) == Detection("unknown", "no rows", 0.0, {})


def test_a_row_of_another_shape_is_read_by_its_own_adapter() -> None:
    assert adapt({"messages": TURNS}, adapter("alpaca"))[0]["completion"] == "hello"
    assert adapt("bare text", adapter("alpaca"))[0] == {"kind": "text", "text": "bare text"}
    assert adapt(TURNS, adapter("text"))[0]["prompt"] == "hi"


@pytest.mark.parametrize(
    ("row", "name", "kind", "field", "message"),
    [
        ({"instruction": "i", "ouput": "o"}, "alpaca", "missing_content", "output", "no 'output'; nearest key 'ouput'"),
        ({"instruction": "i", "output": 5}, "alpaca", "wrong_type", "output", "'output' is int, not text"),
        ({"instruction": " ", "output": "o"}, "alpaca", "missing_content", "instruction", "'instruction' is empty"),
        ({"message": TURNS}, "messages", "missing_content", "messages", "no 'messages'; nearest key 'message'"),
        ({"messages": [{"role": "user", "content": "q"}]}, "messages", "missing_content", "messages", "no turn of"),
        ({"messages": [{"role": "king", "content": "q"}]}, "messages", "unknown_role", "messages", '"king"'),
        ({"text": "  "}, "text", "missing_content", "text", "'text' is empty"),
        ({"text": 3}, "text", "wrong_type", "text", "'text' is int"),
        (17, "alpaca", "wrong_type", "row", "'row' is int, not an object"),
        (
            {"question": "q", "input_output": '{"inputs": ["1"], "outputs": []}'},
            "io_problem",
            "unequal_tests",
            "input_output",
            "1 inputs but 0 outputs",
        ),
    ],
)
def test_a_bad_row_names_its_fault(row: Any, name: str, kind: str, field: str, message: str) -> None:
    with pytest.raises(BadRow, match=message) as caught:
        adapt(row, adapter(name))
    assert (caught.value.kind, caught.value.field) == (kind, field)


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(RecipeError, match="did you mean 'alpaca'"):
        adapter("alpacca")


def test_rows_that_explode_share_what_is_small() -> None:
    row = next(row for name, row, _ in SAMPLES if name == "natural_instructions")
    first, second = adapt(row, adapter("natural_instructions"))
    assert first["meta"]["Domains"] == second["meta"]["Domains"] == ["News"]
    assert "Positive Examples" in first["meta"]
    assert "Positive Examples" not in second["meta"]
    assert first["meta"]["Instances"] == {"id": "i0", "output": ["c"]}


def test_a_tree_has_one_conversation_per_leaf() -> None:
    leaf = {"text": "a", "role": "assistant", "replies": []}
    deep: dict[str, Any] = leaf
    for turn in range(2000):
        deep = {"text": str(turn), "role": "prompter" if turn % 2 else "assistant", "replies": [deep]}
    drafts = adapt({"message_tree_id": "t", "prompt": deep}, adapter("oasst_tree"))
    assert len(drafts) == 1
    assert len(drafts[0]["messages"]) == 2001


def test_field_map_says_where_each_field_went() -> None:
    row = {"instruction": "Add", "input": "1", "output": "2", "category": "sum", "id": 5, "empty": ""}
    assert field_map(adapter("alpaca"), row) == {
        "instruction": "prompt",
        "input": "prompt",
        "output": "completion",
        "category": "meta",
        "id": "source_id",
        "empty": "meta",
    }


def test_field_map_of_what_cannot_be_read_is_empty() -> None:
    assert field_map(adapter("alpaca"), {"instruction": "i"}) == {}


def test_a_users_mapping() -> None:
    row = {"q": {"text": "why", "lang": "en"}, "a": ["because", "so"], "score": 2, "turns": TURNS}
    assert mapped(row, {"prompt": "q.text", "completion": "a.0", "reward": "score"}) == {
        "kind": "sft",
        "prompt": "why",
        "completion": "because",
        "reward": 2.0,
        "meta": {"q": {"lang": "en"}, "a": [None, "so"], "turns": TURNS},
    }
    assert mapped(row, {"messages": "turns", "kind": "trajectory"})["kind"] == "trajectory"
    assert mapped({"t": ["assert f()"], "p": "q"}, {"prompt": "p", "tests": "t"}) == {
        "kind": "code",
        "prompt": "q",
        "tests": [{"code": "assert f()"}],
    }


def test_a_users_mapping_that_is_wrong() -> None:
    with pytest.raises(RecipeError, match="did you mean 'completion'"):
        mapped({"a": "b"}, {"complation": "a"})
    with pytest.raises(RecipeError, match="did you mean 'code'"):
        mapped({"a": "b"}, {"prompt": "a", "kind": "cod"})
    with pytest.raises(BadRow, match="no 'questoin'; nearest key 'question'"):
        mapped({"question": "b"}, {"prompt": "questoin"})
    with pytest.raises(BadRow, match="'a' is int, not text"):
        mapped({"a": 1}, {"prompt": "a"})
    assert "language" not in mapped({"a": "b"}, {"prompt": "a", "language": "l"})


@settings(max_examples=100, deadline=None)
@given(
    row=st.dictionaries(st.sampled_from("abc"), _JSON, min_size=1), path=st.sampled_from(["a", "a.b", "b.0", "c.x.1"])
)
def test_a_mapping_loses_nothing(row: dict[str, Any], path: str) -> None:
    try:
        draft = mapped(row, {"prompt": path})
    except BadRow:
        return
    assert lost(orjson.loads(orjson.dumps(row)) if _plain(row) else row, [draft]) == []


def _plain(row: Any) -> bool:
    try:
        orjson.dumps(row)
    except (TypeError, ValueError):
        return False
    return True
