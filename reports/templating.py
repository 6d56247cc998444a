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
