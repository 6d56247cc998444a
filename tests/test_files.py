"""Atomic files and Parquet writing."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.files import ROW_GROUP, replacing, table_writer, write_bytes, write_table

TABLE = pa.table({"record_id": [f"{n:032x}" for n in range(40_000)], "n": list(range(40_000))})


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    write_bytes(tmp_path / "a", b"old")
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a") as temporary:
        temporary.with_name("missing").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


@pytest.mark.parametrize("step", [1, 777, 16_384, 40_000])
def test_bytes_do_not_depend_on_how_rows_arrive(tmp_path: Path, step: int) -> None:
    write_table(tmp_path / "whole", TABLE)
    with table_writer(tmp_path / "pieces", TABLE.schema, level=1) as writer:
        for start in range(0, TABLE.num_rows, step) if step > 1 else [0]:
            writer.write(TABLE.slice(start, step if step > 1 else None))
    assert (tmp_path / "pieces").read_bytes() == (tmp_path / "whole").read_bytes()


def test_row_groups_are_full_but_for_the_last_and_carry_a_bloom_filter(tmp_path: Path) -> None:
    with table_writer(tmp_path / "t.parquet", TABLE.schema, bloom="record_id") as writer:
        writer.write(TABLE)
        writer.write(TABLE.slice(0, 0))
    metadata = pq.read_metadata(tmp_path / "t.parquet")
    groups = [metadata.row_group(n) for n in range(metadata.num_row_groups)]
    assert [group.num_rows for group in groups] == [ROW_GROUP, ROW_GROUP, 40_000 - 2 * ROW_GROUP]
    assert groups[0].column(0).bloom_filter_length > 0
    assert groups[0].column(0).compression == "ZSTD"
