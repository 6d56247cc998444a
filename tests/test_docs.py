"""The documentation names what the code has."""

from __future__ import annotations

from pathlib import Path

from pipelines.readers import FORMATS
from pipelines.registry import stage_names
from schemas.adapters import ADAPTERS

ROOT = Path(__file__).resolve().parents[1]


def test_formats_page_lists_every_format_and_adapter() -> None:
    page = (ROOT / "docs/formats.md").read_text()
    for name in FORMATS:
        assert f"`{name}`" in page
    for adapter in ADAPTERS:
        assert f"| `{adapter.name}` | {adapter.describe} |" in page


def test_changelog_names_every_stage() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    for name in stage_names():
        assert f"`{name}`" in text
