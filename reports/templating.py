"""Where templates lie and how they are set up."""

from __future__ import annotations

import jinja2


def environment(autoescape: bool) -> jinja2.Environment:
    """A Jinja environment over this package's templates in which a missing name is an error."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("reports"),
        autoescape=autoescape,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters.update(thousands=lambda value: f"{value:,}", percent=lambda value: f"{value:.1%}")
    return found


def size(value: float) -> str:
    """Bytes for people: `1.5 MB` (decimal)."""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1000
    return f"{value:.1f} TB"
