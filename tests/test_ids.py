"""Ids in memory: lossless, and found where they first stand."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines import ids
from pipelines.ids import Index, digest_ids, from_hex, join, marked, to_hex
from schemas.hashing import digest
from schemas.room import LARGE, filled, room

HEX = st.binary(min_size=16, max_size=16).map(bytes.hex)


@given(st.lists(HEX))
def test_hex_survives_the_way_there_and_back(names: list[str]) -> None:
    assert to_hex(from_hex(pa.array(names, pa.string()))).to_pylist() == names


@given(st.lists(HEX, min_size=3))
def test_a_slice_of_an_array_is_read_at_its_offset(names: list[str]) -> None:
    assert to_hex(from_hex(pa.array(names, pa.string()).slice(1, 2))).to_pylist() == names[1:3]


@given(st.lists(st.sampled_from([f"{n:016x}{m:016x}" for n in range(3) for m in range(5)])), st.lists(HEX, max_size=3))
def test_index_finds_the_first_of_equal_ids_and_nothing_else(names: list[str], others: list[str]) -> None:
    index = Index(from_hex(pa.array(names, pa.string())))
    wanted = names + others
    expected = [names.index(name) if name in names else -1 for name in wanted]
    assert index.find(from_hex(pa.array(wanted, pa.string()))).tolist() == expected
    assert len(index) == len(set(names))


SPREAD = [f"{n:x}".ljust(16, "0") + f"{m:016x}" for n in range(16) for m in range(3)]


@given(st.lists(st.sampled_from(SPREAD), min_size=9))
def test_index_of_many_groups_of_ids_is_that_of_one(names: list[str]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ids, "_PIECE", 4)
        index = Index(from_hex(pa.array(names, pa.string())))
        found = index.find(from_hex(pa.array(names, pa.string())))
    assert found.tolist() == [names.index(name) for name in names]
    assert index.firsts().tolist() == sorted({names.index(name) for name in names})


@given(st.lists(HEX), st.data())
def test_marked_ids_and_their_digest(names: list[str], data: st.DataObject) -> None:
    rows = np.array(data.draw(st.lists(st.booleans(), min_size=len(names), max_size=len(names))), np.bool_)
    everybody = from_hex(pa.array(names, pa.string()))
    chosen = [name for name, row in zip(names, rows, strict=True) if row]
    assert to_hex(marked(everybody, rows)).to_pylist() == chosen
    assert digest_ids(everybody, everybody) == digest(bytes.fromhex("".join(names + names)))
    assert to_hex(join([everybody, everybody])).to_pylist() == names + names


@pytest.mark.parametrize("size", [3, LARGE // 8 + 1])
def test_room_holds_what_is_put_there_in_memory_or_in_a_file(size: int) -> None:
    values = np.arange(size)
    out = filled(size, np.int64, [values[:2], values[2:]])
    assert (out == values).all()
    assert isinstance(out.base, np.memmap) == (size > LARGE // 8)
    assert room((2, 3), np.float32).shape == (2, 3)


def test_filled_refuses_too_few() -> None:
    with pytest.raises(ValueError, match="2 numbers where 3 were expected"):
        filled(3, np.int64, [np.arange(2)])
