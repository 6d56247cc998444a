"""Ids in memory: lossless, and found where they first stand."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from pipelines.ids import Index, from_hex, order, to_hex

HEX = st.binary(min_size=16, max_size=16).map(bytes.hex)


@given(st.lists(HEX))
def test_hex_survives_the_way_there_and_back(names: list[str]) -> None:
    assert to_hex(from_hex(pa.array(names, pa.string()))).to_pylist() == names


@given(st.lists(HEX, min_size=3))
def test_a_slice_of_an_array_is_read_at_its_offset(names: list[str]) -> None:
    assert to_hex(from_hex(pa.array(names, pa.string()).slice(1, 2))).to_pylist() == names[1:3]


@given(st.lists(HEX))
def test_order_is_that_of_the_hex_strings(names: list[str]) -> None:
    ids = from_hex(pa.array(names, pa.string()))
    assert to_hex(ids[order(ids)]).to_pylist() == sorted(names)


@given(st.lists(st.sampled_from([f"{n:016x}{m:016x}" for n in range(3) for m in range(5)])), st.lists(HEX, max_size=3))
def test_index_finds_the_first_of_equal_ids_and_nothing_else(names: list[str], others: list[str]) -> None:
    index = Index(from_hex(pa.array(names, pa.string())))
    wanted = names + others
    expected = [names.index(name) if name in names else -1 for name in wanted]
    assert index.find(from_hex(pa.array(wanted, pa.string()))).tolist() == expected
    assert len(index) == len(set(names))
