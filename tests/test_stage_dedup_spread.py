"""The decision of `dedup` by tasks elsewhere: nothing but what is pickled or in files reaches them, same decisions."""

from __future__ import annotations

import os
import pickle
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makes import alpaca_rows, nothing, run_here, tree, write_jsonl, write_recipe
from pools import MemoryPool, hash_of, records, score

from pipelines.executor import LocalExecutor, R, Runs, T
from pipelines.pool import Part, RunPool, Scored, ScoredPool
from pipelines.progress import Silent
from pipelines.recipe_file import load_recipe
from pipelines.run import Settings, run
from pipelines.store import ScoreTable, Store
from schemas import room
from schemas.errors import RunError
from stages.contract import Decisions, Needs, Scores
from stages.dedup import Dedup, lsh, near, verify


class Apart(MemoryPool):
    """A pool whose tasks run as on a cluster: pickled, three at a time, every one twice, the second time backwards."""

    def __init__(self, pool: MemoryPool, shared: Path | None, earlier: MemoryPool) -> None:
        super().__init__(pool.records, pool._scores, pool.batch_size)
        self.shared, self.earlier, self.ran = shared, earlier, list[str]()

    @property
    def inputs(self) -> Mapping[str, Scores]:
        return {"against": self.earlier}  # type: ignore[dict-item]

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        waiting = iter(tasks)
        while some := list(islice(waiting, 3)):
            self.ran += [function.__name__] * len(some)
            if self.shared is None:
                yield from map(function, some)
                continue
            sent = [pickle.dumps((function, task)) for task in some]
            results = [_done(one) for one in [*sent, *reversed(sent)]]
            yield from (pickle.loads(one) for one in reversed(results[len(sent) :]))


def _done(sent: bytes) -> bytes:
    function, task = pickle.loads(sent)
    return pickle.dumps(function(task))


def everything(decisions: Decisions) -> list[Any]:
    """Decisions as plain values, floats by their bits."""
    assert decisions.score is not None
    lists = (decisions.reason, decisions.detail, decisions.related_id)
    return [
        decisions.keep.tolist(), decisions.score.tobytes(), np.asarray(decisions.related).tolist(),
        *(None if column is None else list(column) for column in lists), decisions.warnings,
    ]  # fmt: skip


def families(seed: int, count: int, shared: int) -> list[str]:
    """Texts in families of edited copies, some exact; `shared` words at the front put many into one bucket."""
    rng = np.random.default_rng(seed)
    out, front = [], " ".join(f"s{k}" for k in range(shared))
    for _ in range(count):
        base = rng.integers(0, 10_000, 20)
        for _ in range(rng.integers(1, 6)):
            changed = np.where(rng.random(20) < rng.choice([0, 0.05, 0.2]), rng.integers(0, 10_000, 20), base)
            out.append(f"{front} {' '.join(map(str, changed))}".strip())
    return [out[k] for k in rng.permutation(len(out))]


stages = st.fixed_dictionaries(
    {
        "threshold": st.sampled_from([0.3, 0.6, 0.8]),
        "keep": st.sampled_from(["longest", "first", "newest"]),
        "similarity": st.sampled_from(["jaccard", "containment"]),
        "shingle_size": st.sampled_from([1, 3]),
        "against": st.sampled_from([[], ["release"]]),
        "num_hashes": st.just(16),
    }
)


@given(stages, st.integers(0, 2**32), st.sampled_from([1, 20, 60]), st.sampled_from([0, 8]), st.sampled_from([7, 1000]))
@settings(max_examples=15, deadline=None)
def test_tasks_elsewhere_decide_the_same_bit_for_bit(
    parameters: dict[str, Any], seed: int, count: int, front: int, batch: int
) -> None:
    stage = Dedup.model_validate(parameters)
    texts = families(seed, count, front)
    earlier, pool = (
        score(stage, records([{"text": text} for text in some]), batch)
        for some in (texts[: len(texts) // 3], texts[len(texts) // 4 :])
    )
    expected = everything(stage.decide(Apart(pool, None, earlier)))
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        for module, name, value in (
            (near, "TASK", 500), (near, "RUN", 40), (room, "SLICE", 16), (lsh, "PIECE", 10), (verify, "FETCHED", 50),
        ):  # fmt: skip
            patch.setattr(module, name, value)
        apart = Apart(pool, Path(folder), earlier)
        assert everything(stage.decide(apart)) == expected
    assert {"write_keys", "candidates"} <= set(apart.ran)


def test_all_steps_are_tasks_and_large_buckets_take_several_rounds(tmp_path: Path) -> None:
    stage = Dedup(threshold=0.5, bands=16, rows=1, keep="first")
    pool = score(stage, records([{"text": text} for text in families(3, 60, 8)]), 50)
    apart = Apart(pool, tmp_path, pool)
    decisions = stage.decide(apart)
    assert everything(decisions) == everything(stage.decide(Apart(pool, None, pool)))
    assert 0.2 < decisions.keep.mean() < 0.8
    assert set(apart.ran) == {"write_keys", "candidates", "write_sets", "compared"}
    assert apart.ran.count("candidates") > 2 * 16
    assert apart.ran.count("write_keys") >= 1


# --- over files -----------------------------------------------------------------------------------------------------


def pool_of_files(folder: Path, alive: np.ndarray[Any, Any]) -> tuple[ScoredPool, pa.Table]:
    """70 records in three parts, some of the same content, and their scores in two files, in another order."""
    table = records([{"text": f"text {k % 50}", "content_hash": f"{hash_of(str(k % 50)):032x}"} for k in range(70)])
    parts, cuts = list[Part](), [0, 20, 21, 70]
    for number, (start, stop) in enumerate(pairwise(cuts)):
        path = folder / f"part-{number}.parquet"
        pq.write_table(table.slice(start, stop - start), path)
        parts.append(Part(path, stop - start, "s", str(number)))
    first = table.slice(0, 50).select(["content_hash"])
    scores = first.append_column("size", pa.array(range(50))).append_column("name", pa.array(map(str, range(50))))
    shuffled = scores.take(pa.array(np.random.default_rng(1).permutation(50)))
    (folder / "scores").mkdir()
    pq.write_table(shuffled.slice(0, 30), folder / "scores/a.parquet")
    pq.write_table(shuffled.slice(30), folder / "scores/b.parquet")
    pool = RunPool.open(parts)
    pool.alive[:] = alive
    own = Scored(ScoreTable(folder / "scores"), ("size", "name"), pool.content_hashes)
    return ScoredPool(pool, own, {}), table.filter(pa.array(alive))


@pytest.mark.parametrize("gone", [[], [0, 3, 20, 69], [*range(21)]])
def test_views_of_a_run_read_what_the_pool_reads_wherever_they_are_sent(tmp_path: Path, gone: list[int]) -> None:
    alive = np.ones(70, np.bool_)
    alive[gone] = False
    pool, living = pool_of_files(tmp_path, alive)
    views = [pickle.loads(pickle.dumps(view)) for view in pool.views(["name", "size"])]
    found = pa.concat_tables([view.read(np.arange(len(view))) for view in views])
    assert found.equals(pool.table(["name", "size"]))
    assert found["size"].to_pylist() == [k % 50 for k in np.flatnonzero(alive)]
    start = 0
    for view in pool.views(["text", "kind"]):
        some = np.arange(len(view))[::-3]
        assert view.read(some).equals(living.select(["text", "kind"]).take(pa.array(some + start)))
        start += len(view)
    assert start == len(pool) == len(living)


@pytest.mark.parametrize("columns", [["size", "text"], ["nothing"]])
def test_columns_that_views_cannot_have_are_named(tmp_path: Path, columns: list[str]) -> None:
    pool, _ = pool_of_files(tmp_path, np.ones(70, np.bool_))
    with pytest.raises(RunError, match=columns[-1]):
        next(pool.views(columns))


class Processes:
    """An executor of which a run knows nothing but that it maps: every task runs in another process."""

    def __init__(self, executor: LocalExecutor) -> None:
        self._executor, self.ran = executor, list[str]()

    def map(
        self, function: Callable[[T], R], tasks: Iterable[T], runs_in: Runs = "process", needs: Needs = Needs()
    ) -> Iterator[R]:
        self.ran.append(function.__name__)
        return self._executor.map(function, tasks, "process", needs)


def test_a_run_whose_tasks_are_in_other_processes_writes_the_same_bytes(tmp_path: Path) -> None:
    rows = alpaca_rows(300)
    rows += [{**row, "output": f"{row['output']} more {n % 3}"} for n, row in enumerate(rows[:120])] + rows[150:190]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    write_jsonl(tmp_path / "old.jsonl", [{**row, "output": f"old {row['output']}"} for row in rows[200:230]])
    recipe = write_recipe(tmp_path, stages=["clean", {"dedup": {"threshold": 0.7, "against": ["old.jsonl"]}}])
    store = Store(tmp_path / "store")
    with LocalExecutor(2) as local:
        elsewhere = Processes(local)
        run(load_recipe(recipe, ()), Settings(tmp_path / "apart", store, elsewhere, Silent(), nothing))
    assert {"write_keys", "candidates", "write_sets", "compared"} <= set(elsewhere.ran)
    manifest = run_here(recipe, tmp_path / "here", tmp_path / "other")
    assert manifest["stages"][-1]["reasons"] == {
        "duplicate: near": 120, "duplicate: exact": 40, "duplicate: near of an earlier release": 30,
    }  # fmt: skip
    for folder in ("data", "lineage"):
        assert tree(tmp_path / "apart" / folder) == tree(tmp_path / "here" / folder)
    assert not list((store.root / "scratch").iterdir())


def test_what_a_killed_decision_leaves_is_collected_once_it_is_old(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with store.scratch() as folder:
        (folder / "keys").write_bytes(b"12345678")
    assert not folder.exists()
    left = tmp_path / "scratch/left"
    left.mkdir()
    (left / "keys").write_bytes(b"12345678")
    assert store.collect(days=1) == []
    old = time.time() - 2 * 86_400
    os.utime(left / "keys", (old, old))
    assert [(entry.section, entry.name, entry.bytes) for entry in store.collect(days=1)] == [("scratch", "left", 8)]
    assert not left.exists()
