"""Running selectors: each is a recipe over the same sources and the same store, with a run directory of its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipelines.comparing.plan import Comparison
from pipelines.comparing.selectors import Filling, Selector, recipe_stages
from pipelines.comparing.sets import Set, Texts, open_run, pool_recipe, read, run_one
from pipelines.run import Settings
from schemas.errors import RunError


@dataclass(frozen=True)
class Task:
    """One selection to make. `target` is None where the selector looks at none, `seed` where chance is left out."""

    selector: Selector
    target: str | None
    seed: int | None

    @property
    def folder(self) -> str:
        """Name of its run directory."""
        return "-".join(str(part) for part in (self.selector.name, self.target, self.seed) if part is not None)


@dataclass(frozen=True)
class Selection:
    """What a selector kept, and what that took. `known` rows had their scores in the store already."""

    task: Task
    texts: Texts
    seconds: float
    scored: int
    known: int


def tasks(plan: Comparison, selectors: Sequence[Selector]) -> list[Task]:
    """Every selection that the comparison needs."""
    return [
        Task(selector, target, seed)
        for selector in selectors
        for target in (plan.targets if selector.targeted else [None])
        for seed in (seeds(plan) if selector.redrawn else [None])
    ]


def seeds(plan: Comparison) -> list[int]:
    """The seeds of all repetitions."""
    return list(range(plan.seed, plan.seed + plan.seeds))


def uses(task: Task, plan: Comparison) -> Iterator[tuple[str, int]]:
    """The targets and seeds that a selection stands for."""
    for target in plan.targets if task.target is None else [task.target]:
        for seed in seeds(plan) if task.seed is None else [task.seed]:
            yield target, seed


def select(task: Task, plan: Comparison, sets: Sequence[Set], filling: Filling, settings: Settings) -> Selection:
    """Run one selector. Raises RunError where it keeps nothing."""
    target = next((found.seen for found in sets if found.name == task.target), None)
    stages = recipe_stages(task.selector, filling, target)
    seed = plan.seed if task.seed is None else task.seed
    document = {**pool_recipe(plan, sets, stages), "name": task.folder, "seed": seed}
    out = settings.out / "selections" / task.folder
    manifest = run_one(document, out, settings, task.selector.base)
    texts = _kept(manifest, out, plan)
    if not texts.texts:
        raise RunError(f"selector '{task.selector.name}' keeps no row with a text; `curate funnel {out}` shows why")
    own = manifest["stages"][-len(stages) :]
    counters = [stage["counters"] for stage in own]
    return Selection(
        task, texts, round(sum(stage["seconds"] for stage in own), 3), sum(c["scored"] for c in counters),
        sum(c["cached"] for c in counters),
    )  # fmt: skip


def _kept(manifest: dict[str, Any], out: Path, plan: Comparison) -> Texts:
    return read(open_run(out), plan.on) if manifest["splits"] else Texts([], [], [], [])
