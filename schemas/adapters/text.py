"""Raw text and source files."""

from __future__ import annotations

from typing import Final

from schemas.adapters.base import Adapter, Made, Row, first_key, identify, is_text, keeping_rest, made, missing, put
from schemas.adapters.languages import language_of_path
from schemas.errors import BadRow
from schemas.record import Draft

_TEXTS: Final = ("text", "contents", "content", "document", "body", "raw_text", "article")
_CODES: Final = ("content", "code", "text", "contents")
_PATHS: Final = ("path", "file_path", "max_stars_repo_path", "filename", "file_name")
_LANGUAGES: Final = ("lang", "language", "programming_language")
_IDS: Final = ("id", "_id", "uid", "doc_id", "docid", "blob", "blob_id", "hexsha", "url")


def _code_file(row: Row) -> str | None:
    path, content = first_key(row, *_PATHS), first_key(row, *_CODES)
    if path and content and is_text(row, path, content) and (language_of_path(row[path]) or "repo" in row):
        return f"'{content}' with the '{path}' of a source file"
    return None


def _text(row: Row) -> str | None:
    key = next((key for key in _TEXTS if isinstance(row.get(key), str)), None)
    return f"'{key}' is text" if key else None


def _make_code_file(row: Row) -> Made:
    path = first_key(row, *_PATHS) or missing(row, *_PATHS)
    draft, used = _document(row, _CODES)
    language = next((row[key].lower() for key in _LANGUAGES if is_text(row, key)), None)
    put(draft, language=language or language_of_path(str(row[path])))
    draft.setdefault("source_id", str(row[path]))
    return made(draft, *used, *(path,) * (draft["source_id"] == row[path]))


def _make_text(row: Row) -> Made:
    draft, used = _document(row, _TEXTS)
    return made(draft, *used)


def _document(row: Row, names: tuple[str, ...]) -> tuple[Draft, list[str]]:
    key = first_key(row, *names) or missing(row, *names)
    content = row[key]
    if not isinstance(content, str):
        raise BadRow("wrong_type", f"'{key}' is {type(content).__name__}, not text", key)
    if not content.strip():
        raise BadRow("missing_content", f"'{key}' is empty", key)
    draft: Draft = {"kind": "text", "text": content}
    id_key = first_key(row, *_IDS)
    if id_key:
        identify(draft, row[id_key])
    return draft, [key, *([id_key] if id_key and "source_id" in draft else [])]


CODE_FILE: Final = Adapter("code_file", "source files with their path", _code_file, keeping_rest(_make_code_file))
TEXT: Final = Adapter("text", "raw text", _text, keeping_rest(_make_text))
