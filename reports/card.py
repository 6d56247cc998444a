"""README.md of a run: a dataset card with the YAML header that `datasets` and the Hugging Face Hub read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import jinja2
import orjson
import yaml

from reports.manifest import Manifest, SourceEntry, parse
from reports.templating import environment

_SIZES: Final = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))


def card(manifest: Mapping[str, Any]) -> str:
    """The dataset card of a manifest, as Markdown. Raises RunError if the manifest does not fit its model."""
    run = parse(manifest)
    steps = run.steps()
    return _template().render(
        header=header(run),
        name=run.name or "dataset",
        rows_out=run.rows_out,
        rows_in=steps[0].rows_in,
        splits=run.splits,
        steps=steps,
        sources=[_source_row(run, source) for source in run.sources],
        seed=run.seed,
        made=run.created_with,
        fingerprint=run.run_fingerprint,
        limits=list(limits(run)),
    )


def header(run: Manifest) -> str:
    """The YAML header: licence, size, and one default config whose files are those of the splits that have rows."""
    # A split without rows would keep `datasets` from loading the others.
    splits = [split for split, rows in run.splits.items() if rows > 0] or list(run.splits)
    files = [{"split": split, "path": f"data/{split}-*.parquet"} for split in splits]
    content: dict[str, Any] = {
        "pretty_name": run.name or "dataset",
        **_licence(licences(run)),
        "size_categories": [next((name for limit, name in _SIZES if run.rows_out < limit), "n>10M")],
        "tags": ["curatrix"],
        "configs": [{"config_name": "default", "data_files": files}],
    }
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def licences(run: Manifest) -> dict[str, str | None]:
    """Licence of every source, None where the recipe does not say."""
    return {source.name: source.licence for source in run.sources}


def limits(run: Manifest) -> Iterator[str]:
    """What a user of the dataset should know: warnings, quarantine, unknown licences, sources that shrank."""
    for step in run.steps():
        yield from (f"{step.stage}: {warning}" for warning in step.warnings)
    if run.quarantine.rows:
        kinds = ", ".join(f"{kind} {rows:,}" for kind, rows in sorted(run.quarantine.by_kind.items()))
        yield f"{run.quarantine.rows:,} rows could not be used and lie in `quarantine/` ({kinds})."
    unknown = sorted(name for name, licence in licences(run).items() if not licence)
    if unknown:
        yield f"Licence not stated for: {', '.join(unknown)}."
    yield "The texts come from the sources as they are: mistakes, bias and personal data in them are still there."


def _licence(known: dict[str, str | None]) -> dict[str, Any]:
    """The Hub's `license` field: an identifier where all sources agree, `other` where they differ, else left out."""
    stated = {licence for licence in known.values() if licence}
    if not stated or None in known.values():
        return {}
    return {"license": stated.pop().lower()} if len(stated) == 1 else {"license": "other"}


def _source_row(run: Manifest, source: SourceEntry) -> dict[str, Any]:
    last = run.steps()[-1].by_source.get(source.name)
    return {
        "name": source.name,
        "licence": licences(run)[source.name] or "not stated",
        "files": len(source.files),
        "rows": source.rows,
        "quarantined": source.quarantined,
        "left": last.kept if last else 0,
    }


def _cell(value: object) -> str:
    """Text that stays within one cell of a Markdown table."""
    return " ".join(str(value).split()).replace("|", r"\|").replace("<", "&lt;")


def _counted(counts: Mapping[str, int]) -> str:
    """`too_short 12, near_duplicate 3`: most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{_cell(name)} {count:,}" for name, count in ordered if name != "kept")


def _parameters(params: Mapping[str, Any]) -> str:
    return ", ".join(f"`{key}: {orjson.dumps(value, default=str).decode()}`" for key, value in params.items())


def _template() -> jinja2.Template:
    markdown = environment(autoescape=False)
    markdown.filters.update(cell=_cell, counted=_counted, parameters=_parameters)
    return markdown.get_template("card.md.j2")
