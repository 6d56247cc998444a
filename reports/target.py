"""Is a target good enough to select by? Needle tests, target size, leakage and copies (`curate check-target`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from reports.target_overlap import Index, Match, Prepared, build, matches, prepare, twins
from reports.target_trial import Hidden, SizePoint, Trial, folds, hide, prepare_field, sizes, summary, surely_better
from schemas.errors import RecipeError
from stages.contract import Pool
from stages.dedup.kernels import components, pack
from stages.text import On, columns_for, render

Ints = npt.NDArray[np.int64]

LEAK: Final = 0.8
TWIN: Final = 0.5
ENOUGH: Final = 0.03
"""A target is large enough where half of it finds at most this share of hidden rows less."""

_MOST_TARGETS: Final = 256  # of the needle tests
_FEWEST_TARGETS: Final = 10
_FEWEST_OTHERS: Final = 20
_EXAMPLES: Final = 10
_RECIPES: Final = {
    "debiased": "zipfit: {mode: debiased}",
    "alignment": "zipfit: {mode: zipfit}",
    "dsir": "dsir: {normalise: per_token, laplace: 0.1}",
}


@dataclass(frozen=True)
class Leak:
    """A pool row that is a target row: `similarity` is 1 where they are equal but for case and white space."""

    pool_id: str
    target_id: str
    similarity: float


@dataclass(frozen=True)
class Leakage:
    """Rows of the pool equal or near (Jaccard similarity 0.8) to a target row, and target rows found in the pool."""

    pool_equal: int
    pool_near: int
    target_rows: int
    examples: tuple[Leak, ...]


@dataclass(frozen=True)
class Redundancy:
    """Target rows equal to an earlier one, and distinct ones with another at a Jaccard similarity of 0.5 or more."""

    equal: int
    near: int


@dataclass(frozen=True)
class TargetCheck:
    """Everything that `check_target` found.

    `others` is how many rows of the pool the hidden rows were mixed into, `tested` how many target rows took part.
    `trials` and `sizes` are empty, and `enough` is None, where there was too little to test; `best` is the recipe entry
    to use. `enough_from`: rows from which on a larger target finds no more (within 0.03).
    """

    on: str
    seed: int
    pool_rows: int
    others: int
    target_rows: int
    without_text: int
    tested: int
    trials: tuple[Trial, ...]
    sizes: tuple[SizePoint, ...]
    leakage: Leakage
    redundancy: Redundancy
    best: str
    enough: bool | None
    enough_from: int | None
    recommendation: str
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, ready for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class _Target:
    ids: list[str]
    texts: list[str]
    prepared: Prepared
    without_text: int


def check_target(pool: Pool, target: Pool, on: On, seed: int, sample: int) -> TargetCheck:
    """Test a target against a pool.

    Args:
        pool: the rows to select from; it is read once as a whole, for leakage.
        target: the target rows; all of them are held in memory.
        on: what is compared, as in `zipfit`.
        seed: of the sample, of the folds and of the draws.
        sample: rows of the pool that target rows are hidden among.

    Raises:
        RecipeError: for an empty pool, or a target without any text.
    """
    known = _read_target(target, on)
    if not len(pool):
        raise RecipeError("the pool has no rows to select from")
    index = build(known.prepared, LEAK)
    leakage = _leakage(pool, on, known, index)
    near = twins(known.prepared, TWIN)
    hay, notes = _others(pool, on, index, seed, sample)
    chosen, groups = _distinct(known, near, seed)
    trials, points, best = _tests(hay, [known.texts[row] for row in chosen], groups, seed)
    enough, least = _enough(points)
    equal = len(known.texts) - len(index.first)
    redundancy = Redundancy(equal, len({row for match in near for row in (match.row, match.fixed)}))
    notes += _notes(known, len(chosen), len(hay), index)
    return TargetCheck(
        on, seed, len(pool), len(hay), len(known.texts), known.without_text, len(chosen) if trials else 0, trials,
        points, leakage, redundancy, _RECIPES[best], enough, least,
        _advice(trials, best, points, least, leakage, redundancy, len(known.texts), len(pool)), tuple(notes),
    )  # fmt: skip


def _read_target(target: Pool, on: On) -> _Target:
    ids: list[str] = []
    texts: list[str] = []
    for batch in target.batches(["record_id", *columns_for(on)]):
        found = zip(batch["record_id"].to_pylist(), render(batch, on).to_pylist(), strict=True)
        kept = [(key, text) for key, text in found if text and text.strip()]
        ids.extend(key for key, _ in kept)
        texts.extend(text for _, text in kept)
    if not texts:
        raise RecipeError(f"the target has no row with a text (on: {on}): nothing to compare with")
    return _Target(ids, texts, prepare(pa.array(texts)), len(target) - len(texts))


def _leakage(pool: Pool, on: On, target: _Target, index: Index) -> Leakage:
    equal = near = 0
    seen: set[int] = set()
    examples: list[Leak] = []
    for batch in pool.batches(["record_id", *columns_for(on)]):
        found = matches(prepare(render(batch, on)), index)
        best = _closest(found)
        equal += sum(match.same for match in best)
        near += sum(not match.same for match in best)
        seen |= {match.fixed for match in found}
        ids = batch["record_id"]
        examples += [Leak(ids[match.row].as_py(), target.ids[match.fixed], match.similarity) for match in best]
        examples = sorted(examples, key=lambda leak: (-leak.similarity, leak.pool_id))[:_EXAMPLES]
    seen = {row for row, key in enumerate(target.prepared.exact) if row in seen or index.first[key] in seen}
    return Leakage(equal, near, len(seen), tuple(examples))


def _closest(found: Sequence[Match]) -> list[Match]:
    """The most similar match of each row."""
    best: dict[int, Match] = {}
    for match in found:
        if match.row not in best or match.similarity > best[match.row].similarity:
            best[match.row] = match
    return list(best.values())


def _others(pool: Pool, on: On, index: Index, seed: int, sample: int) -> tuple[list[str], list[str]]:
    """Texts of a random sample of the pool, without what is in the target."""
    rows = np.random.default_rng(seed).permutation(len(pool))[:sample]
    table = pool.fetch(np.sort(rows), columns_for(on)).combine_chunks()
    strings = render(table.to_batches()[0], on)
    leaked = {match.row for match in matches(prepare(strings), index)}
    texts = [text for row, text in enumerate(strings.to_pylist()) if text and row not in leaked]
    order = np.random.default_rng(seed + 1).permutation(len(texts))
    return [texts[row] for row in order], (
        [f"{len(leaked):,} sampled rows are target rows: left out"] if leaked else []
    )


def _distinct(target: _Target, near: Sequence[Match], seed: int) -> tuple[Ints, Ints]:
    """Target rows to test with, equal ones once, and for each the group of near copies that it belongs to."""
    first: dict[bytes, int] = {}
    for row, key in enumerate(target.prepared.exact):
        first.setdefault(key, row)
    rows = np.array(sorted(first.values()), np.int64)
    size = len(target.texts)
    ends = np.array([(match.row, match.fixed) for match in near], np.int64).reshape(-1, 2)
    groups = components(pack(ends[:, 0], ends[:, 1]), size).astype(np.int64)
    chosen = np.sort(np.random.default_rng(seed).permutation(rows)[:_MOST_TARGETS])
    return chosen, groups[chosen]


def _tests(
    hay: list[str], targets: list[str], groups: Ints, seed: int
) -> tuple[tuple[Trial, ...], tuple[SizePoint, ...], str]:
    if len(targets) < _FEWEST_TARGETS or len(hay) < _FEWEST_OTHERS or len(np.unique(groups)) < 2:
        return (), (), "debiased"
    field, parts = prepare_field(hay, targets), folds(groups, seed)
    hidden = hide(field, parts)
    trials = tuple(summary(name, outcome) for name, outcome in hidden.items())
    return trials, tuple(sizes(field, parts, seed)), _best(hidden, seed)


def _best(hidden: dict[str, Hidden], seed: int) -> str:
    """The default, unless another score that a recipe can ask for surely finds more."""
    rivals = [name for name in _RECIPES if surely_better(hidden[name], hidden["debiased"], seed)]
    return max(rivals, key=lambda name: hidden[name].found.mean(), default="debiased")


def _enough(points: Sequence[SizePoint]) -> tuple[bool | None, int | None]:
    """Whether half the target would do as well, and the size from which on recall stays within 0.03 of the whole's."""
    if not points:
        return None, None
    whole = points[-1]
    falls_short = [number for number, point in enumerate(points) if point.recall < whole.recall - ENOUGH]
    least = points[max(falls_short, default=-1) + 1].rows
    return least <= max(whole.rows // 2, points[0].rows), least


def _notes(target: _Target, tested: int, others: int, index: Index) -> list[str]:
    notes = []
    if tested < _FEWEST_TARGETS:
        notes.append(f"{tested} distinct target rows: too few for needle tests, which need {_FEWEST_TARGETS}")
    if others < _FEWEST_OTHERS:
        notes.append(f"{others} pool rows that are not in the target: too few for needle tests")
    if tested < len(index.first):
        notes.append(f"needle tests use {tested} of {len(index.first):,} distinct target rows, drawn at random")
    if target.without_text:
        notes.append(f"{target.without_text:,} target rows have no text to compare")
    return notes


def _advice(
    trials: Sequence[Trial], best: str, points: Sequence[SizePoint], least: int | None, leakage: Leakage,
    redundancy: Redundancy, target_rows: int, pool_rows: int,
) -> str:  # fmt: skip
    """One sentence: what to use, how good it is, whether the target is large enough, what to mend first."""
    leaked = leakage.pool_equal + leakage.pool_near
    mend = [f"{leaked:,} of {pool_rows:,} pool rows are target rows: take them out first"] if leaked else []
    if redundancy.equal + redundancy.near > target_rows // 4:
        copies = redundancy.equal + redundancy.near
        mend.append(f"{copies:,} of {target_rows:,} target rows are copies or near copies of others")
    if leaked == pool_rows:
        return f"There is nothing to select: all {pool_rows:,} pool rows are target rows."
    if not trials:
        mend.insert(0, f"too little to test: use `{_RECIPES[best]}`, the default, and look at what it keeps")
        return _sentence(mend)
    by_name = {trial.score: trial for trial in trials}
    return _sentence([_choice(by_name, best), _size(points, least), *mend])


def _choice(trials: dict[str, Trial], best: str) -> str:
    chosen = trials[best]
    rest = ", ".join(f"{trials[name].recall:.0%} with `{recipe}`" for name, recipe in _RECIPES.items() if name != best)
    found = (
        f"finds {chosen.recall:.0%} ({chosen.low:.0%}-{chosen.high:.0%}) of hidden target rows in the top 1% ({rest})"
    )
    if chosen.beaten < 0.75 and chosen.recall < 0.25:
        return f"no score tells this target from the pool: the best choice, `{_RECIPES[best]}`, {found}"
    return f"use `{_RECIPES[best]}`, which {found}"


def _size(points: Sequence[SizePoint], least: int | None) -> str:
    whole = points[-1]
    smaller = max((point for point in points if point.rows <= whole.rows // 2), key=lambda p: p.rows, default=None)
    if smaller is None:
        return f"{whole.rows} target rows are too few to say whether more would help"
    if least is not None and least < whole.rows:
        return f"the target is large enough ({least} rows find as much as {whole.rows})"
    return (
        f"more target rows would help ({smaller.rows} rows find {smaller.recall:.0%}, {whole.rows} {whole.recall:.0%})"
    )


def _sentence(parts: Sequence[str]) -> str:
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}."
