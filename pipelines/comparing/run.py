"""A comparison from files to figures, every finished step of which is kept."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from pipelines.comparing.measures import by_source, clusters, distinct, effective, jaccard
from pipelines.comparing.plan import Comparison
from pipelines.comparing.proxy import Proxy, checkpoint, open_proxy, quietly
from pipelines.comparing.selecting import Selection, select, tasks, uses
from pipelines.comparing.selectors import Filling, parse, plain_keep
from pipelines.comparing.sets import Set, Texts, measured, open_run, pool_recipe, read, run_one
from pipelines.files import read_json, write_json
from pipelines.publish import locked
from pipelines.run import Settings
from schemas.errors import RecipeError, RunError
from schemas.hashing import fingerprint

FOUND: Final = "comparison.json"
_OURS: Final = {"sets", "pool", "base", "selections", "trainings", FOUND, "comparison.md", "comparison.svg"}
_VERSION: Final = 1


@dataclass(frozen=True)
class Places:
    """The pool of a comparison as its selectors see it."""

    texts: Texts
    labels: Mapping[str, int]
    manifest: Mapping[str, Any]


def compare(plan: Comparison, settings: Settings) -> dict[str, Any]:
    """Select, train, measure; returns what is also written to `comparison.json` in `settings.out`.

    Selections are ordinary runs below `selections/`, trainings files below `trainings/`: the same call after a kill
    continues, one more seed or selector does only what is new. Another target or set is measured after new trainings.

    Raises:
        RecipeError: a selector, a set or the model is not what it should be.
        RunError: the pool is empty after decontamination, or a selector kept nothing.
    """
    from stages.student.models import require

    require()
    selectors = parse(plan.chosen)
    _check_ours(settings.out)
    with locked(settings.out), quietly():
        sets = _told(settings, "sets", lambda: measured(plan, settings), _sets_told)
        manifest = run_one(pool_recipe(plan, sets), settings.out / "pool", settings)
        if not manifest["splits"]:
            raise RunError("no row of the pool is left after decontamination against the held-out rows")
        pool = open_run(settings.out / "pool")
        base = _told(settings, "model", lambda: checkpoint(plan, pool, manifest["run_fingerprint"], settings.out), str)
        path = settings.out / "base" / f"clusters-{manifest['run_fingerprint']}.npz"
        texts = read(pool, plan.on)
        place = Places(texts, clusters(pool, texts, plan.on, path), manifest)
        filling = Filling(plan.keep, plan.on, base, texts.words(), texts.chars())
        made = [
            _told(settings, task.folder, partial(select, task, plan, sets, filling, settings), _selection_told)
            for task in tasks(plan, selectors)
        ]
        proxy = open_proxy(plan, base)
        found = _found(plan, sets, place, proxy, made, list(_train(proxy, made, sets, settings)))
        write_json(settings.out / FOUND, found)
        return found


def _check_ours(out: Path) -> None:
    if out.is_file():
        raise RecipeError(f"{out} is a file; --out must be a directory")
    foreign = sorted(path.name for path in out.glob("[!.]*") if path.name not in _OURS)
    if foreign:
        raise RecipeError(f"{out} holds something else (it has '{foreign[0]}'); choose another --out")


def _train(
    proxy: Proxy, made: Sequence[Selection], sets: Sequence[Set], settings: Settings
) -> Iterator[dict[str, Any]]:
    """The losses after every training: those in `trainings/`, and the others, each written as soon as it is done."""
    plan = proxy.plan
    held = {found.name: fingerprint(found.texts.texts) for found in sets}
    jobs = [(one, target, seed) for one in made for target, seed in uses(one.task, plan)]
    settings.reporter.start("train", len(jobs))
    fresh = 0
    for one, target, seed in jobs:
        path = settings.out / "trainings" / f"{_key(proxy, one, seed, held)}.json"
        if not path.is_file():
            fresh += 1
            write_json(path, {"seed": seed, "loss": proxy.trained(one.texts, seed, sets)})
        settings.reporter.advance(1)
        name = one.task.selector.name
        yield {"selector": name, "target": target, "seed": seed, "loss": read_json(path)["loss"]}
    settings.reporter.finish(f"{len(jobs)} results, {fresh} trainings done now")


def _key(proxy: Proxy, one: Selection, seed: int, held: Mapping[str, str]) -> str:
    """All that the losses after a training depend on. The order of the rows is drawn by the seed, so it is fixed."""
    plan = proxy.plan
    return fingerprint(
        {
            "version": _VERSION, "base": proxy.student.fingerprint, "rows": fingerprint(one.texts.texts), "seed": seed,
            "train": plan.train.model_dump(exclude={"held_out"}), "rate": plan.rate, "sets": dict(held),
        }
    )  # fmt: skip


def _found(
    plan: Comparison, sets: Sequence[Set], place: Places, proxy: Proxy, made: Sequence[Selection],
    trainings: list[dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    removed = next(stage["dropped"] for stage in place.manifest["stages"] if stage["stage"] == "decontaminate")
    return {
        "keep": plain_keep(plan.keep), "on": plan.on, "seeds": plan.seeds,
        "train": {**plan.train.model_dump(), "rate": plan.rate, "window": proxy.window},
        "pool": {"rows": len(place.texts.ids), "repeating_held_out": removed, "sources": by_source(place.texts)},
        "targets": {s.name: {"rows": s.rows, "held_out": len(s.texts.ids)} for s in sets if s.seen is not None},
        "others": {s.name: {"rows": s.rows, "held_out": len(s.texts.ids)} for s in sets if s.seen is None},
        "model": {
            "given": plan.model, "parameters": proxy.parameters, "context": proxy.student.context,
            "loss": proxy.measure(sets),
        },
        "selections": [_described(one, place, proxy) for one in made],
        "trainings": trainings,
        "overlap": {target: _overlap(plan, made, target) for target in plan.targets},
        "selectors": list(dict.fromkeys(one.task.selector.name for one in made)),
    }  # fmt: skip


def _described(one: Selection, place: Places, proxy: Proxy) -> dict[str, Any]:
    sizes = [len(ids) for ids in proxy.tokens(one.texts.texts)]
    return {
        "selector": one.task.selector.name, "target": one.task.target, "seed": one.task.seed, "rows": len(sizes),
        "tokens": sum(sizes), "mean_tokens": float(np.mean(sizes)), "passes": proxy.plan.train.tokens / sum(sizes),
        "distinct": distinct(one.texts),
        "clusters": effective([place.labels[name] for name in one.texts.ids]),
        "sources": by_source(one.texts), "seconds": one.seconds, "scored": one.scored, "known": one.known,
    }  # fmt: skip


def _overlap(plan: Comparison, made: Sequence[Selection], target: str) -> dict[str, dict[str, float]]:
    """Mean Jaccard similarity of every two selectors, seed by seed; of a drawn one with itself: of different seeds."""
    of: dict[str, dict[int, list[str]]] = {}
    for one in made:
        for name, seed in uses(one.task, plan):
            if name == target:
                of.setdefault(one.task.selector.name, {})[seed] = one.texts.ids
    return {a: {b: _mean_overlap(of[a], of[b], a == b) for b in of} for a in of}


def _mean_overlap(first: Mapping[int, list[str]], second: Mapping[int, list[str]], same: bool) -> float:
    if same:
        pairs = [(first[a], second[b]) for a in first for b in second if a < b]
        return float(np.mean([jaccard(a, b) for a, b in pairs])) if pairs else 1.0
    return float(np.mean([jaccard(first[seed], second[seed]) for seed in first]))


def _told(settings: Settings, step: str, work: Callable[[], Any], summary: Callable[[Any], str]) -> Any:
    settings.reporter.start(step)
    result = work()
    settings.reporter.finish(summary(result))
    return result


def _sets_told(sets: Sequence[Set]) -> str:
    return ", ".join(f"{found.name} {len(found.texts.ids):,} rows held out" for found in sets)


def _selection_told(one: Selection) -> str:
    return f"{len(one.texts.ids):,} rows kept, scored {one.scored:,}, {one.known:,} known"
