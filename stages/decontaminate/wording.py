"""How a match is told: the reason of a decision and its detail as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any, NamedTuple, Self

import orjson

from stages.decontaminate.index import CODE, HOWS, NEAR, WHOLE
from stages.decontaminate.items import FIELDS, file_of


class Item(NamedTuple):
    """An evaluation item: the id that decisions name, its file, the file's name without folder and suffixes."""

    name: str
    file: str
    origin: str
    short: str

    @classmethod
    def of(cls, source_id: str | None, origin: str) -> Self:
        """The item's own id, else `file#row`."""
        file = file_of(origin)
        return cls(source_id or origin, file, origin, PurePosixPath(file).name.split(".")[0])


def reason(match: Mapping[str, Any], share: float, item: Item, over: bool) -> str:
    """`contaminated: question of humaneval; HumanEval/12, 84% of its words`."""
    how, what = match["how"], f"{FIELDS[match['field']]} of {item.short}"
    kind = {NEAR: f"near copy of {what}", CODE: f"code in {what}"}.get(how, what)
    said = {NEAR: f"Jaccard {share:.2f}", WHOLE: "word for word", CODE: f"{share:.0%} of its code"}
    return f"{'contaminated' if over else 'kept'}: {kind}; {item.name}, {said.get(how, f'{share:.0%} of its words')}"


def detail(match: Mapping[str, Any], share: float, item: Item) -> str:
    """The item, its file and field, and the longest stretch in common: where in the record (`path`, characters
    `start` to `stop`), how many words or code tokens, and its text, shortened."""
    told = {
        "item": item.name, "file": item.file, "origin": item.origin, "field": FIELDS[match["field"]],
        "how": HOWS[match["how"]], "share": round(share, 4), "length": match["length"],
        "path": match["path"], "start": match["start"], "stop": match["stop"], "text": match["text"],
    }  # fmt: skip
    return orjson.dumps(told).decode()
