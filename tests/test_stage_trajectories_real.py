"""The `trajectories` stage on real traces: it agrees with the flags that the files themselves have."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from makes import run_here, write_jsonl, write_recipe
from pools import records, run

from schemas.adapters import adapt, adapter, detect
from stages.contract import Decisions
from stages.trajectories.stage import Trajectories


def rows_of(folder: Path, name: str) -> list[dict[str, Any]]:
    """The raw rows of a trace file."""
    text = gzip.decompress((folder / "traces" / name).read_bytes()).decode()
    return [json.loads(line) for line in text.split("\n") if line]


def decided(raw: list[dict[str, Any]], **parameters: Any) -> Decisions:
    """Decisions about the rows, read by the adapter that fits them."""
    fitting = adapter(detect(raw[:50]).adapter)
    drafts = [dict(draft) for row in raw for draft in adapt(row, fitting)]
    assert len(drafts) == len(raw)
    for draft in drafts:
        draft["meta"] = json.dumps(draft.get("meta"))
    return run(Trajectories(**parameters), records(drafts))


def successes(decisions: Decisions) -> list[bool]:
    return [json.loads(detail)["success"] for detail in pa.array(decisions.detail).to_pylist()]


def test_tau_bench(shared_data: Path) -> None:
    raw = rows_of(shared_data, "tau_bench_gpt4o_airline_part1.jsonl.gz")
    decisions = decided(raw, per_task=1, task="source_id")
    assert successes(decisions) == [row["reward"] == 1 for row in raw]
    assert sum(successes(decisions)) == 66
    solved = {row["task_id"] for row in raw if row["reward"] == 1}
    assert int(decisions.keep.sum()) == len(solved)
    best: dict[int, int] = {}
    for row in raw:
        steps = sum(turn["role"] == "assistant" for turn in row["traj"])
        if row["reward"] == 1:
            best[row["task_id"]] = min(steps, best.get(row["task_id"], steps))
    kept = [row for row, keep in zip(raw, decisions.keep, strict=True) if keep]
    assert {row["task_id"]: sum(turn["role"] == "assistant" for turn in row["traj"]) for row in kept} == best


def test_tau_bench_calls_and_repeats(shared_data: Path) -> None:
    raw = rows_of(shared_data, "tau_bench_gpt4o_airline_part1.jsonl.gz")
    fitting = adapter("tau_bench")
    table = records([dict(adapt(row, fitting)[0]) | {"meta": None} for row in raw])
    batch = table.select(list(Trajectories.reads)).combine_chunks().to_batches()[0]
    found = Trajectories().score(batch, {}).to_pylist()
    for row, columns in zip(raw, found, strict=True):
        calls = [call["function"] for turn in row["traj"] for call in turn.get("tool_calls") or ()]
        distinct = {(call["name"], json.dumps(json.loads(call["arguments"]), sort_keys=True)) for call in calls}
        assert columns["n_actions"] == len(calls)
        assert columns["n_repeated"] == len(calls) - len(distinct)


@pytest.mark.parametrize(
    ("name", "count"), [("mint_gpt35_codellama34b.jsonl.gz", 187), ("fireact_hotpotqa_trajs_part1.jsonl.gz", 264)]
)
def test_mint_and_fireact(shared_data: Path, name: str, count: int) -> None:
    raw = rows_of(shared_data, name)
    flags = [row["state"]["success"] if "state" in row else row["reward"] for row in raw]
    decisions = decided(raw)
    assert successes(decisions) == [bool(flag) for flag in flags]
    assert sum(flags) == count
    assert not (decisions.keep & [not flag for flag in flags]).any()


def test_intercode_reflexion_and_pcmb(shared_data: Path) -> None:
    raw = rows_of(shared_data, "intercode_bash_gpt.jsonl.gz")
    assert successes(decided(raw)) == [row["summary"]["max_reward"] == 1 for row in raw]
    raw = rows_of(shared_data, "reflexion_humaneval_mbpp_gpt4.jsonl.gz")
    found = successes(decided(raw, kinds="all", flag={"field": "is_solved"}))
    assert found == [row["is_solved"] for row in raw]
    assert sum(found) == 456
    raw = rows_of(shared_data, "deepseek_pcmb_traces_part1.jsonl.gz")
    assert int(decided(raw, kinds="all").keep.sum()) == len(raw) == 248
    assert all(successes(decided(raw, kinds="all", accurate=["answer"])))  # by the letter, without the reward


def test_fireact_answers_agree_with_its_exact_match(shared_data: Path) -> None:
    """Without the reward: whoever hands in the gold answer is found, and nobody is who shares no word with it."""
    raw = rows_of(shared_data, "fireact_hotpotqa_trajs_part1.jsonl.gz")
    found = successes(decided(raw, accurate=["answer"], unknown="keep"))
    pairs = list(zip(found, raw, strict=True))
    assert all(told for told, row in pairs if row["em"])
    assert not any(told for told, row in pairs if row["f1"] == 0)


def test_webdancer_and_swe_agent(shared_data: Path) -> None:
    raw = rows_of(shared_data, "webdancer_trajectories_part1.jsonl.gz")
    assert 80 <= int(decided(raw).keep.sum()) <= 95  # the gold text occurs in 89 of the 140 last messages
    raw = rows_of(shared_data, "swe_agent_demonstrations.jsonl.gz")
    reasons = pa.array(decided(raw).reason).to_pylist()
    assert reasons == ["no success flag"] * 10  # a submitted patch proves nothing
    flag = {"field": "info.exit_status", "values": ["submitted"]}
    assert int(decided(raw, flag=flag).keep.sum()) == 9


def test_a_whole_run(tmp_path: Path) -> None:
    def row(task: int, trial: int, reward: float) -> dict[str, Any]:
        turns: list[dict[str, Any]] = [{"role": "user", "content": f"task {task}"}]
        for step in range(trial + 1):
            call = {"id": "a", "type": "function", "function": {"name": "look", "arguments": f'{{"at": {step}}}'}}
            turns.append({"role": "assistant", "content": None, "tool_calls": [call]})
            turns.append({"role": "tool", "tool_call_id": "a", "content": f"seen {step}"})
        return {"task_id": task, "reward": reward, "info": {}, "traj": turns, "trial": trial}

    write_jsonl(
        tmp_path / "rows.jsonl", [row(task, trial, float(trial > 0)) for task in range(3) for trial in range(4)]
    )
    recipe = write_recipe(tmp_path, stages=[{"trajectories": {"per_task": 1}}])
    manifest = run_here(recipe, tmp_path / "out", tmp_path / "store")
    stage = next(each for each in manifest["stages"] if each["stage"] == "trajectories")
    assert (stage["rows_in"], stage["kept"]) == (12, 3)
    assert stage["reasons"] == {"not among the 1 best of its task": 6, "not successful": 3}
