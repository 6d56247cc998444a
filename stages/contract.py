"""What a stage is: fit (optional, global) -> score (row-wise, cached by content) -> decide (global, cheap)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, TypeVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, ValidationInfo
from pydantic.config import JsonDict

T = TypeVar("T")
R = TypeVar("R")
State = Mapping[str, npt.NDArray[Any]]
BoolArray = npt.NDArray[np.bool_]
IntArray = npt.NDArray[np.int64]
RunsIn = Literal["process", "thread", "stream"]
FitsOn = Literal["nothing", "inputs", "pool"]
Examiner = Callable[[pa.RecordBatch], pa.RecordBatch]

DECIDES: JsonDict = {"decides": True}
"""`Field(json_schema_extra=DECIDES)` marks a parameter that only `decide` reads: changing it rescores nothing."""


def beside_recipe(value: str, info: ValidationInfo) -> str:
    """A path of a recipe as an absolute one; URLs, and paths read without a recipe, stay as they are."""
    base = (info.context or {}).get("base")
    return value if base is None or "://" in value else str(Path(base, value))


RecipePath = Annotated[str, AfterValidator(beside_recipe)]
"""A path parameter, relative to the recipe's file. It enters fingerprints by the content of what it names."""


class Pool(Protocol):
    """The records that reached a stage, in run order; text is streamed, never held whole."""

    def __len__(self) -> int: ...

    def batches(self, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """Record columns of every row, in order, a few thousand rows at a time."""
        ...

    def fetch(self, rows: IntArray, columns: Sequence[str]) -> pa.Table:
        """Record columns of the named rows (0-based, in the order asked for)."""
        ...

    @property
    def scratch(self) -> Path:
        """A folder where a long `fit` leaves finished steps, for itself after a kill; gone once the state is stored."""
        ...

    def progress(self, doing: str, done: int, total: int) -> None:
        """For a long `fit`, to say how far it is to the people who wait."""
        ...


class View(Protocol):
    """Consecutive rows of a pool: something small that can be sent to a task, and read wherever that runs."""

    def __len__(self) -> int: ...

    def read(self, rows: IntArray) -> pa.Table:
        """The view's columns of the named rows (0-based within the view, in the order asked for)."""
        ...


class Scores(Pool, Protocol):
    """A pool together with its scores. Columns are this stage's own score columns, `record_id`, `content_hash`,
    `source`, and the public score columns of earlier stages as `stage.column` (null where a row has none).
    """

    def scores(self, columns: Sequence[str], rows: BoolArray | None = None) -> Iterator[pa.RecordBatch]:
        """Score columns of every row (or of those that `rows` marks), in order, part by part: memory stays bounded."""
        ...

    def table(self, columns: Sequence[str]) -> pa.Table:
        """Score columns of every row in one table."""
        ...

    @property
    def inputs(self) -> Mapping[str, Scores]:
        """The records of the stage's `sources`, by role; they have scores where the stage sets `scores_inputs`."""
        ...

    def views(self, columns: Sequence[str]) -> Iterator[View]:
        """All rows in order, some ten thousand at a time, as views of the stage's own score columns or of the record's.

        This reads ids at the most: whoever reads a view reads the columns.
        """
        ...

    def map(self, function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
        """Results in the order of the tasks, from threads of this process or from other machines.

        There `function`, which has a name in a module, tasks and results travel, and a task may run twice.
        """
        ...

    @property
    def shared(self) -> Path | None:
        """A folder for files that the tasks of `map` read and write, gone after the decision.

        None where these run in this process: they share its memory.
        """
        ...

    def ask(self, rows: IntArray) -> pa.Table:
        """What the stage's `examiner` says of the named rows (0-based, in the order asked for).

        Stored by content like any score: only what was never asked before is computed.
        """
        ...


@dataclass(frozen=True)
class Needs:
    """What one task of a stage takes of a machine, for executors that place tasks: cores, GPUs, memory in MB."""

    cpus: float = 1
    gpus: float = 0
    memory_mb: int = 0


REASONS = pa.dictionary(pa.int32(), pa.string())
"""Arrow type of reasons that repeat: four bytes a row."""


@dataclass(frozen=True)
class Decisions:
    """The outcome for every row a stage saw, as arrays of one length.

    A reason is a kind that funnels count (`too long: over 2000 words`), and after a semicolon the row's particulars.

    `related` holds the row (0-based, within this stage's input) that a decision refers to, -1 for none;
    `related_id` overrides it with an id from elsewhere (a benchmark item). `detail` is JSON text or None.
    """

    keep: BoolArray
    reason: Sequence[str] | pa.Array | pa.ChunkedArray
    score: npt.NDArray[np.float64] | None = None
    related: IntArray | None = None
    related_id: Sequence[str | None] | pa.Array | None = None
    detail: Sequence[str | None] | pa.Array | None = None
    warnings: tuple[str, ...] = field(default=())


class Stage(BaseModel):
    """Parameters of one stage as a frozen model, plus pure methods. Subclass, set `name`, write `score` and `decide`.

    Class attributes:
        name: how recipes call it.
        version: raise it whenever `score` or `rewrite` would answer differently; it invalidates stored results.
        reads: record columns that `score` and `rewrite` see.
        runs_in: `process` (default), `thread` where the kernel releases the GIL, or `stream` for `stream`.
        needs: what one task takes of a machine.
        libraries: distributions whose version changes the scores.
        examines: record columns that the `examiner` sees.
        scores_inputs: whether the records of `sources` are scored too, for `decide` to compare with.
        internal: score columns kept in the store but left out of `lineage/scores` (sketches, vectors).
        rewrites: True for a stage that changes content instead of deciding.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    name: ClassVar[str]
    version: ClassVar[int] = 1
    reads: ClassVar[tuple[str, ...]] = ()
    runs_in: ClassVar[RunsIn] = "process"
    needs: ClassVar[Needs] = Needs()
    libraries: ClassVar[tuple[str, ...]] = ()
    examines: ClassVar[tuple[str, ...]] = ()
    scores_inputs: ClassVar[bool] = False
    internal: ClassVar[tuple[str, ...]] = ()
    rewrites: ClassVar[bool] = False

    def check(self) -> None:
        """Fail early: raise RecipeError if this stage cannot work here (a file, a toolchain or an endpoint missing)."""

    def inputs(self) -> Sequence[str]:
        """Paths of files that `score` opens itself (a tokenizer, a model); fingerprinted by content."""
        return ()

    def recalls(self) -> Sequence[str]:
        """Files that only `decide` reads (decisions of earlier runs); decisions depend on their content."""
        return ()

    def sources(self) -> Mapping[str, Sequence[str]]:
        """Records that `fit` or `decide` need beside the pool (targets, evaluation sets), as paths by role.

        The runner reads them as it reads the recipe's sources: any format, cached, fingerprinted by content.
        """
        return {}

    def task_rows(self) -> int:
        """Rows per unit of work; small for a stage that takes long per row, so that a crash loses little."""
        return 16_384

    def fits_on(self) -> FitsOn:
        """What `fit` learns from: `nothing` (there is no `fit`), `inputs` (files only), or the `pool` it is given."""
        return "nothing"

    def fit(self, pool: Pool, inputs: Mapping[str, Pool]) -> State:
        """Global knowledge that `score` needs, as named arrays; `inputs` are the records of `sources` by role."""
        return {}

    def score(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """Score columns for a batch of `reads` columns: as many rows, the same order, a function of content only."""
        raise NotImplementedError(f"{self.name}: score")

    def stream(self, batches: Iterator[pa.RecordBatch], state: State, folder: Path) -> Iterator[pa.RecordBatch]:
        """For `runs_in: stream`: scores (or rewrites) batch by batch, in order, in the run's own process.

        The stage may read ahead, to keep a server or a device busy. Batches have at most `task_rows` rows; `folder` is
        the stage's own in the store and outlives runs (a journal of paid responses lives there).
        """
        for batch in batches:
            yield self.rewrite(batch, state) if self.rewrites else self.score(batch, state)

    def examiner(self, state: State) -> Examiner:
        """A function from a batch of `examines` columns to dear columns, for the rows that `decide` asks for."""
        raise NotImplementedError(f"{self.name}: examiner")

    def decide(self, scores: Scores) -> Decisions:
        """Keep or drop every row."""
        raise NotImplementedError(f"{self.name}: decide")

    def prefers_published(self) -> bool:
        """Whether to decide by `decide_preferring`: knowing what is published where this run will be."""
        return False

    def decide_preferring(self, scores: Scores, published: BoolArray) -> Decisions:
        """Like `decide`; `published` marks the rows that the output directory's publication has, unchanged."""
        raise NotImplementedError(f"{self.name}: decide_preferring")

    def rewrite(self, batch: pa.RecordBatch, state: State) -> pa.RecordBatch:
        """New values of the content columns it changes, one row per row, plus a `rewrite_status` string column."""
        raise NotImplementedError(f"{self.name}: rewrite")

    def estimate(self, sample: pa.Table, rows: int) -> Mapping[str, str]:
        """What this stage would cost for `rows` records like those of `sample` (`reads` columns), for `curate plan`."""
        return {}

    def parameters(self) -> dict[str, Any]:
        """All parameters as plain values; paths of files stand as `<input>`, since it is their content that counts."""
        paths = {*self.inputs(), *(path for group in self.sources().values() for path in group)}
        return {key: _without(value, paths) for key, value in self.model_dump(mode="json").items()}

    def scoring(self) -> dict[str, Any]:
        """The parameters that scores depend on: all but those marked `DECIDES`."""
        return {key: value for key, value in self.parameters().items() if not _decides(type(self), key)}


def _decides(model: type[BaseModel], name: str) -> bool:
    extra = model.model_fields[name].json_schema_extra
    return isinstance(extra, dict) and bool(extra.get("decides"))


def _without(value: Any, paths: set[str]) -> Any:
    if isinstance(value, list):
        return [_without(item, paths) for item in value]
    if isinstance(value, dict):
        return {key: _without(item, paths) for key, item in value.items()}
    names_input = isinstance(value, str) and any(path == value or path.startswith(f"{value}/") for path in paths)
    return "<input>" if names_input else value
