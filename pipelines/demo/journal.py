"""How the demo's `journal.jsonl` is made: `python -m pipelines.demo.journal` runs the demo against the rules in
`teacher.py` and writes down their replies. No model had a part in it. The same bytes every time.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Final

import orjson

from pipelines.demo import write_example
from pipelines.demo.teacher import serving
from pipelines.executor import LocalExecutor
from pipelines.files import write_bytes
from pipelines.progress import Silent
from pipelines.recipe_file import load_recipe
from pipelines.run import Settings, run
from pipelines.store import Store

JOURNAL: Final = Path(__file__).parent / "journal.jsonl"
_EVERYBODY: Final = ("stages.dedup.threshold=1.0", "stages.tests.min_tests=0", "stages.tests.verify=false")
"""Records that another threshold would let through have their replies too."""


def written_journal(folder: Path) -> bytes:
    """The journal of a run of the demo in `folder` (empty) with the rules as its model: by key, without times."""
    with serving() as url, LocalExecutor(1) as executor:
        changes = [f"stages.reflect.endpoint={url}", "stages.reflect.replay=[]", *_EVERYBODY]
        recipe = load_recipe(write_example(folder / "example"), changes)
        store = Store(folder / "store")
        run(recipe, Settings(folder / "dataset", store, executor, Silent(), lambda directory, manifest: {}))
        lines = [line for path in sorted(store.journal("reflect").glob("*.jsonl")) for line in path.open("rb")]
    entries = sorted((orjson.loads(line) for line in lines), key=lambda entry: str(entry["key"]))
    kept = ({name: value for name, value in entry.items() if name != "at"} for entry in entries)
    return b"".join(orjson.dumps(entry, option=orjson.OPT_APPEND_NEWLINE) for entry in kept)


def main() -> None:
    """Write the journal beside this module."""
    with tempfile.TemporaryDirectory() as folder:
        write_bytes(JOURNAL, written_journal(Path(folder)))
    print(f"{JOURNAL}: {len(JOURNAL.read_bytes().splitlines())} replies, {JOURNAL.stat().st_size} bytes")


if __name__ == "__main__":
    main()
