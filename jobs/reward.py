"""DeepCoder's outcome reward for RL trainers, in the sandbox that verified the problems.

1 if the last fenced code block of a completion passes every sampled test, else 0; nothing in between, so that there
is nothing to hack. A completion without a fenced block gets 0. Over `max_tests` tests, those with the longest inputs
are used. (DeepCoder, Agentica and Together AI, 2025: 15 tests, no partial credit.)

    reward = CodeReward(workers=8)
    reward.score(problem, completion)                  # a canonical record, a model's text -> 0.0 or 1.0
    await reward.score_async(problems, completions)
    GRPOTrainer(reward_funcs=trl_reward(reward), …)    # dataset columns: those of the export
    verl: custom_reward_function.path=jobs/reward.py custom_reward_function.name=compute_score
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from schemas.adapters.io_tests import decoded, read_tests
from stages.sandbox import Limits, Sandbox, default_workers
from stages.sandbox.closing import Closing
from stages.verify import Verdict, verify_code

MAX_TESTS: Final = 15
LIMITS: Final = Limits(cpu_s=6.0)
_FENCE: Final = re.compile(
    r"^[ \t]*(?P<mark>`{3,}|~{3,})[ \t]*(?P<language>[\w+#.-]*)[^\n]*\n(?P<code>.*?)^[ \t]*(?P=mark)`*[ \t]*$",
    re.S | re.M,
)
_COLUMNS: Final = ("tests", "test_code", "test_type", "entry_point", "solutions", "judge", "language", "prompt")
_LANGUAGES: Final = {"py": "python", "python3": "python", "js": "javascript", "c++": "cpp", "cc": "cpp"}
Record = Mapping[str, Any]


def last_block(completion: str) -> tuple[str, str] | None:
    """(code, language) of the last closed fenced block; None where there is none. The language may be ""."""
    found = None
    for match in _FENCE.finditer(completion):
        language = match["language"].lower()
        found = match["code"], _LANGUAGES.get(language, language)
    return found


def hardest(record: Record, most: int) -> dict[str, Any]:
    """The record with at most `most` of its data tests: those with the longest inputs, in their own order."""
    tests = [test for test in record.get("tests") or () if isinstance(test.get("output"), str)]
    if len(tests) <= most:
        return dict(record)
    order = sorted(range(len(tests)), key=lambda at: (-len(tests[at].get("input") or ""), at))[:most]
    return {**record, "tests": [tests[at] for at in sorted(order)]}


class CodeReward(Closing):
    """The reward with its own sandbox. Safe to share between threads; `close` it, or use it in a `with`.

    Its own sandbox repeats what failed in company: most answers of a policy are wrong, and to wait for quiet each
    time would leave all processors but one idle. CPU time decides anyway.
    """

    def __init__(
        self,
        workers: int | None = None,
        *,
        max_tests: int = MAX_TESTS,
        limits: Limits = LIMITS,
        sandbox: Sandbox | None = None,
    ) -> None:
        self._sandbox = sandbox or Sandbox(workers or default_workers(), quiet_repeats=False)
        self._pool = ThreadPoolExecutor(self._sandbox.workers)
        self.max_tests = max_tests
        self.limits = limits

    def close(self) -> None:
        """Stop the sandbox."""
        self._pool.shutdown()
        self._sandbox.close()

    def score(self, record: Record, completion: str) -> float:
        """1.0 or 0.0 for one completion."""
        verdict = self.judge(record, completion)
        return 1.0 if verdict is not None and verdict.verified else 0.0

    def judge(self, record: Record, completion: str) -> Verdict | None:
        """The whole verdict behind a reward; None where the completion has no code block."""
        block = last_block(completion)
        if block is None:
            return None
        code, language = block
        own = str(record.get("language") or "python")
        if language and language != own:
            return None
        return verify_code(hardest(record, self.max_tests), code, self._sandbox, self.limits, language=own)

    def score_batch(self, records: Sequence[Record], completions: Sequence[str]) -> list[float]:
        """Rewards of many completions, as many at a time as the sandbox has workers."""
        futures = [self._pool.submit(self.score, *pair) for pair in zip(records, completions, strict=True)]
        return [future.result() for future in futures]

    async def score_async(self, records: Sequence[Record], completions: Sequence[str]) -> list[float]:
        """`score_batch` without blocking the event loop."""
        loop = asyncio.get_running_loop()
        pairs = zip(records, completions, strict=True)
        return list(await asyncio.gather(*(loop.run_in_executor(self._pool, self.score, *pair) for pair in pairs)))


def text_of(completion: Any) -> str:
    """A completion's text: a string, a list of chat messages, or one message."""
    if isinstance(completion, str):
        return completion
    if isinstance(completion, Mapping):
        return str(completion.get("content") or "")
    return text_of(completion[-1]) if completion else ""


def record_of(ground_truth: Any, extra: Any = None) -> dict[str, Any]:
    """Record columns from where trainers keep them: JSON text or a mapping, with more in `extra_info`.

    Plain test data counts too: `{"inputs": […], "outputs": […], "fn_name"?}`, a list of LiveCodeBench cases, or
    open-r1's `{"language", "test_cases"}`. Raises BadRow for tests of any other shape.
    """
    value = json.loads(ground_truth) if isinstance(ground_truth, str) else ground_truth
    given = extra if isinstance(extra, Mapping) else {}
    more = {key: given[key] for key in _COLUMNS if given.get(key) is not None}
    if isinstance(value, Mapping) and "test_cases" in value:
        more.setdefault("language", value.get("language") or "python")
        value = value["test_cases"]
    if isinstance(value, Mapping) and "inputs" not in value:
        return {**more, **value}
    found = read_tests(value, "ground_truth")
    entry = found.entry_point or more.get("entry_point") or _named_function(value)
    more |= {"tests": found.tests, "test_type": found.test_type, "entry_point": entry}
    if found.entry_point and isinstance(value, Mapping):
        more |= _calls(value.get("inputs"), value.get("outputs"), told="judge" in given)
    return more


def _named_function(cases: Any) -> str | None:
    """The function that LiveCodeBench names in the metadata of its cases."""
    for case in cases if isinstance(cases, list) else ():
        about = decoded(case.get("metadata"), "metadata") if isinstance(case, Mapping) else None
        if isinstance(about, Mapping) and about.get("func_name"):
            return str(about["func_name"])
    return None


def _calls(inputs: Any, outputs: Any, told: bool) -> dict[str, Any]:
    """Calls as APPS and TACO keep them: results lie in lists of one, or do not; `told`: the row says which itself."""
    if not isinstance(inputs, list) or not isinstance(outputs, list):
        return {}
    tests = {"tests": [_call(*pair) for pair in zip(inputs, outputs, strict=True)]}
    wrapped = all(isinstance(wanted, list) and len(wanted) == 1 for wanted in outputs)
    return {**tests, "judge": {"output_may_be_wrapped": True}} if wrapped and not told else tests


def _call(given: Any, wanted: Any) -> dict[str, str]:
    """Arguments that are text are JSON already (a list, or one value per line), and so is their result if it is text;
    beside arguments that are a list, text is the result itself."""
    written = isinstance(given, str)
    return {
        "input": given if written else json.dumps(given),
        "output": wanted if written and isinstance(wanted, str) else json.dumps(wanted),
    }


def trl_reward(reward: CodeReward) -> Callable[..., list[float]]:
    """A reward function as TRL's GRPOTrainer calls it: `f(prompts, completions, **columns) -> list of float`.

    Columns of the dataset arrive as keyword arguments, one value per completion: the record's own columns, or
    `ground_truth` / `verification_info` as JSON.
    """

    def code_reward(prompts: Sequence[Any] = (), completions: Sequence[Any] = (), **columns: Any) -> list[float]:
        records = [_row(columns, at) for at in range(len(completions))]
        return reward.score_batch(records, [text_of(completion) for completion in completions])

    return code_reward


def _row(columns: Mapping[str, Any], at: int) -> dict[str, Any]:
    for name in ("ground_truth", "verification_info", "reward_model"):
        if columns.get(name) is not None:
            value = columns[name][at]
            return record_of(value["ground_truth"] if name == "reward_model" else value, _named(columns, at))
    return _named(columns, at)


def _named(columns: Mapping[str, Any], at: int) -> dict[str, Any]:
    return {name: columns[name][at] for name in _COLUMNS if columns.get(name) is not None}


@functools.cache
def _shared(process: int) -> CodeReward:
    """One reward per process, for trainers that only take the name of a function."""
    return CodeReward()


def compute_score(data_source: str, solution_str: str, ground_truth: Any, extra_info: Any = None, **_: Any) -> float:
    """The signature of verl's custom reward functions. `ground_truth`: see `record_of`."""
    return _shared(os.getpid()).score(record_of(ground_truth, extra_info), solution_str)
