"""Recipes: defaults, overrides, and errors that say where and what instead."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from pydantic import BaseModel

from pipelines.recipe import Export, Recipe, Shape, Source
from pipelines.recipe_file import load_recipe
from schemas.errors import RecipeError


def recipe(folder: Path, text: str) -> Path:
    path = folder / "r.yaml"
    path.write_text(text, encoding="utf-8")
    return path


GOOD = "sources:\n  - {path: a/b.jsonl.gz}\nstages:\n  - dedup: {threshold: 0.7}\n  - tests\n  - dedup\n"


def test_defaults_and_labels(tmp_path: Path) -> None:
    loaded = load_recipe(recipe(tmp_path, GOOD))
    assert loaded.sources[0].name == "b"
    assert [use.label for use in loaded.stages] == ["dedup", "tests", "dedup#2"]
    assert [use.position for use in loaded.stages] == [1, 2, 3]
    assert loaded.stages[0].stage.model_dump()["threshold"] == 0.7


def test_set_reaches_stages_by_label_index_and_sources_by_name(tmp_path: Path) -> None:
    path = recipe(tmp_path, GOOD)
    loaded = load_recipe(
        path,
        ["stages.dedup#2.threshold=0.5", "stages.0.dedup.threshold=0.9", "stages.tests.min_tests=2", "sources.0.name=x",
         "export.splits={validation: 0.1}", "seed=3"],
    )  # fmt: skip
    dumps = [use.stage.model_dump() for use in loaded.stages]
    assert (dumps[0]["threshold"], dumps[2]["threshold"], dumps[1]["min_tests"]) == (0.9, 0.5, 2)
    assert (loaded.sources[0].name, loaded.seed, loaded.export.splits) == ("x", 3, {"validation": 0.1})


def test_a_name_made_of_a_url_tells_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "tokentokentoken")
    text = 'sources: [{path: "https://me:pw@host/get?sig=${TOKEN}"}, {path: "http://host/rows.jsonl?sig=${TOKEN}"}]\n'
    assert [source.name for source in load_recipe(recipe(tmp_path, text)).sources] == ["get", "rows"]


def test_environment_variables_are_used_but_not_written_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WHERE", "secret.jsonl")
    loaded = load_recipe(recipe(tmp_path, 'name: "${NAME_NOT_SET:-plain}"\nsources: [{name: s, path: "${WHERE}"}]\n'))
    assert loaded.sources[0].paths == ("secret.jsonl",)
    assert loaded.name == "plain"
    assert "secret" not in str(loaded.written)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("sorces: []\n", 1, ["'sorces'", "did you mean 'sources'"]),
        ("sources:\n  - {path: a}\nstages:\n  - dedpu: {}\n", 4, ["unknown stage 'dedpu'", "did you mean 'dedup'"]),
        ("sources:\n  - {path: a}\nstages:\n  - dedup:\n      treshold: 1\n", 5, ["'treshold'", "'threshold'"]),
        ("sources:\n  - {path: a}\nstages:\n  - dedup: {threshold: high}\n", 4, ["threshold", "number", "'high'"]),
        (
            "sources:\n  - {path: a}\nstages:\n  - dedup: {threshold: 7}\n",
            4,
            ["threshold", "less than or equal to 1", "7"],
        ),
        ("sources:\n  - {pth: a}\n", 2, ["'pth'", "did you mean 'path'"]),
        ("sources:\n  - {name: x}\n", 2, ["'path' or 'dataset'"]),
        ("sources:\n  - {name: x, path: a}\n  - {name: x, path: b}\n", 1, ["two sources are called 'x'"]),
        ("sources: []\n", 1, ["at least one source"]),
        ("sources:\n  - {path: a, max_row_mb: .inf}\n", 2, ["max_row_mb", "finite"]),
        ("sources:\n  - {path: a}\nseed: 18446744073709551616\n", 3, ["seed", "4294967296"]),
        ("sources:\n  - {path: a}\nexport: {rows_per_file: 18446744073709551616}\n", 3, ["rows_per_file"]),
        ("sources:\n  - {path: a}\nexport: {splits: {validation: 2}}\n", 3, ["between 0 and 1"]),
        ("sources:\n  - {path: a}\nexport: {format: mesages}\n", 3, ["did you mean 'messages'"]),
        ("sources:\n  - {path: a}\nseed: 1\nseed: 2\n", 4, ["given twice"]),
        ("sources:\n  - {path: '${NOT_SET_ANYWHERE}'}\n", 2, ["NOT_SET_ANYWHERE is not set"]),
        ("sources:\n  - {path: a}\nstages:\n  - ingest\n", 4, ["'ingest' is not a stage"]),
        ("sources:\n  - {path: a}\nstages: {dedup: {}}\n", 3, ["must be a list"]),
    ],
)
def test_errors_name_the_line_and_the_nearest_choice(tmp_path: Path, text: str, line: int, words: list[str]) -> None:
    path = recipe(tmp_path, text)
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    message = str(caught.value)
    assert message.startswith(f"{path}:{line}: "), message
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize("text", ["a: [", "- a\n", "", "\x00", "a: &x [*x]\nsources: *x\n"])
def test_what_is_no_recipe_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    with pytest.raises(RecipeError, match=r"r\.yaml"):
        load_recipe(recipe(tmp_path, text))


@pytest.mark.parametrize("item", ["stages.dedpu.threshold=1", "novalue", "name.x=1", "stages.9.dedup=1", "name=["])
def test_wrong_overrides(tmp_path: Path, item: str) -> None:
    with pytest.raises(RecipeError, match=r"--set|unknown|string"):
        load_recipe(recipe(tmp_path, GOOD), [item])


def _documented(title: str) -> dict[str, str]:
    """Keys and defaults of one table of docs/recipe.md."""
    text = (Path(__file__).parent.parent / "docs/recipe.md").read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.partition(title)[2].strip().partition("\n\n")[0].splitlines()[2:]]
    return {row[0].strip("| `"): row[1].strip() for row in rows}


@pytest.mark.parametrize(
    ("model", "title"),
    [
        (Recipe, "threshold=0.7`).\n"),
        (Source, "A source:\n"),
        (Export, "The export:\n"),
        (Shape, "An entry of `also`:\n"),
    ],
)
def test_the_documentation_has_every_key_and_its_default(model: type[BaseModel], title: str) -> None:
    documented = _documented(title)
    assert list(documented) == [name for name in model.model_fields if name not in ("base", "written")]
    for name, shown in documented.items():
        if re.fullmatch("`[^`]*`", shown):
            default = model.model_fields[name].default
            assert yaml.safe_load(shown.strip("`")) == (list(default) if isinstance(default, tuple) else default), name
