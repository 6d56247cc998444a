"""The recipe: what to read, which stages to run, what to write. Every key has a default and a meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from pipelines.formats import NAMES
from pipelines.formats.chat_mask import Unstable
from schemas.errors import nearest
from stages.contract import RecipePath, Stage

RESERVED = frozenset({"ingest"})


def _shape(value: Any) -> Any:
    return {"to": value} if isinstance(value, str) else value


class Source(BaseModel):
    """One input: files (`path`) or a `datasets` dataset (`dataset`)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field("", description="Name in every decision; default: the file's or dataset's own name.")
    path: str | tuple[str, ...] | None = Field(None, description="File, folder, glob or fsspec URL, or a list of them.")
    dataset: str | None = Field(None, description="A `datasets` dataset: a hub id or a folder made by save_to_disk.")
    config: str | None = Field(None, description="Configuration of `dataset`.")
    split: str = Field("train", description="Split of `dataset`.")
    format: str = Field("auto", description="File format; `auto` looks at the bytes.")
    adapter: str = Field("auto", description="How rows are understood; `auto` looks at the rows.")
    mapping: dict[str, str] = Field({}, description="Canonical column -> dotted path in the source row, by hand.")
    licence: str | None = Field(None, description="Licence, for the dataset card.")
    max_row_mb: float = Field(64, gt=0, allow_inf_nan=False, description="Larger rows go to quarantine.")

    @model_validator(mode="after")
    def _one_input(self) -> Source:
        if (self.path is None) == (self.dataset is None):
            raise ValueError("give either 'path' or 'dataset'")
        return self

    @property
    def paths(self) -> tuple[str, ...]:
        """The paths as a tuple; empty for a dataset."""
        return (self.path,) if isinstance(self.path, str) else (self.path or ())


class Shape(BaseModel):
    """One more shape of the dataset, as `curate export` writes it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    to: str = Field(description="A format: messages, alpaca, verl, trl, text, tokens, ...")
    lines: bool = Field(False, description="JSONL in place of Parquet.")
    tokenizer: RecipePath | None = Field(None, description="A tokenizer's folder, for token shards.")
    when_unstable: Unstable = Field("error", description="For chat templates that tell earlier turns otherwise later.")

    @field_validator("to")
    @classmethod
    def _known(cls, to: str) -> str:
        if to not in NAMES:
            raise ValueError(f"no format '{to}'; {nearest(to, NAMES)}")
        return to


class Export(BaseModel):
    """What `data/` looks like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["messages", "canonical"] = Field(
        "messages",
        description="`messages` fills that column for every chat-like record; `canonical` writes as ingested.",
    )
    splits: dict[Literal["validation", "test"], float] = Field(
        {}, description="Share of rows per extra split, chosen by content hash and seed: equal content, equal split."
    )
    delta: bool = Field(
        False, description="Also write delta/: the records whose content the run that is replaced did not have."
    )
    also: tuple[Annotated[Shape, BeforeValidator(_shape)], ...] = Field(
        (), description="Other shapes to write to exports/<format>: names as `verl`, or {to: tokens, tokenizer: PATH}."
    )
    rows_per_file: int = Field(100_000, gt=0, le=2**31, description="Rows per Parquet file of data/.")

    @model_validator(mode="after")
    def _shares(self) -> Export:
        if any(not 0 < share < 1 for share in self.splits.values()) or sum(self.splits.values()) >= 1:
            raise ValueError("splits: each share lies between 0 and 1 and together they leave something for train")
        return self


class StageUse(BaseModel):
    """A stage at its place in the recipe; a stage used again is called `dedup#2`."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    label: str
    position: int
    stage: Stage


class Recipe(BaseModel):
    """A whole recipe, validated. `stages` hold their stage objects; `text` is the recipe as written (no secrets)."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: str = "dataset"
    seed: int = Field(0, ge=0, lt=2**32, description="Seed of everything that chooses; stages may override it.")
    sources: tuple[Source, ...] = Field(min_length=1)
    stages: tuple[StageUse, ...] = ()
    export: Export = Export()
    store: str | None = Field(None, description="Folder of the score store; default: CURATRIX_STORE, else the cache.")
    max_quarantine: float = Field(0.01, ge=0, le=1, description="The run fails above this share of rows in quarantine.")
    max_source_loss: float | None = Field(None, gt=0, le=1, description="The run fails if a source loses more.")
    lineage: Literal["all", "drops"] = Field("all", description="Which decisions to write.")
    base: Path = Path()
    written: dict[str, Any] = {}

    @model_validator(mode="after")
    def _unique_names(self) -> Recipe:
        names = [source.name for source in self.sources]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two sources are called '{twice[0]}'; give each a name of its own")
        return self
