"""How a match is told: the reason of a decision and its detail as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Self

import orjson

from stages.decontaminate.index import CODE, HOWS, NEAR, WHOLE
from stages.decontaminate.items import FIELDS, file_of


class Item(NamedTuple):
    """An evaluation item: the id that decisions name, how a reader would call it, its file, and its place there."""

    name: str
    label: str
    file: str
    origin: str

    @classmethod
    def of(cls, source_id: str | None, origin: str) -> Self:
        """The item's own id, else `file#row`; a bare number is called by its file as well."""
        file = file_of(origin)
        short = PurePosixPath(file).name.split(".")[0]
        if source_id is None:
            return cls(origin, f"{short}#{origin.rpartition('#')[2]}", file, origin)
        label = f"{short}/{source_id}" if source_id.isdigit() else source_id
        return cls(source_id, label, file, origin)


def reason(match: Mapping[str, Any], share: float, item: Item, over: bool) -> str:
    """`contaminated: question of HumanEval/12, 84% of its words`."""
    what = f"{FIELDS[match['field']]} of {item.label}"
    said = {
        NEAR: f"near copy of {what}, Jaccard {share:.2f}",
        WHOLE: f"{what}, word for word",
        CODE: f"{what}, {share:.0%} of its code",
    }.get(match["how"], f"{what}, {share:.0%} of its words")
    return f"{'contaminated' if over else 'kept'}: {said}"


def detail(match: Mapping[str, Any], share: float, item: Item) -> str:
    """The item, its file and field, and the longest stretch in common: where in the record (`path`, characters
    `start` to `stop`), how many words or code tokens, and its text, shortened."""
    told = {
        "item": item.name, "file": item.file, "origin": item.origin, "field": FIELDS[match["field"]],
        "how": HOWS[match["how"]], "share": round(share, 4), "length": match["length"],
        "path": match["path"], "start": match["start"], "stop": match["stop"], "text": match["text"],
    }  # fmt: skip
    return orjson.dumps(told).decode()
