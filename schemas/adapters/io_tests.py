"""Tests given as data: input/output pairs and calls, in every spelling found in the wild."""

from __future__ import annotations

import ast
import base64
import binascii
import pickletools
import zlib
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from schemas.adapters.base import Row, as_json_text, first_key, to_json, without
from schemas.errors import BadRow
from schemas.record import Draft, Test, TestType

_INPUTS: Final = ("inputs", "input")
_OUTPUTS: Final = ("outputs", "output")
_NAMES: Final = ("fn_name", "func_name", "function_name")
_CALLS: Final = frozenset({"functional", "function_call", "function", "call_based"})
_FILES: Final = ("file", "input_file", "path", "input_path")
_KINDS: Final = ("testtype", "type", "test_type")
_LITERAL_LIMIT: Final = 5_000_000  # characters; a literal far beyond that would exhaust memory while it is parsed
_UNPACKED_LIMIT: Final = 256 * 1024 * 1024  # bytes of one compressed test field
_STRINGS: Final = frozenset({"SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"})
_HARMLESS: Final = frozenset(
    {"PROTO", "FRAME", "MEMOIZE", "STOP", "EMPTY_DICT", "MARK", "SETITEM", "SETITEMS", "BINPUT", "LONG_BINPUT"}
)


class Tests(NamedTuple):
    """Tests read from data, what kind they are, the function they call, and what of the data was left over."""

    tests: list[Test]
    test_type: TestType
    entry_point: str | None
    rest: Any


def decoded(value: Any, field: str) -> Any:
    """A field that may be stored as JSON text or as a Python literal, as the value it stands for."""
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        pass
    try:
        return ast.literal_eval(value) if len(value) <= _LITERAL_LIMIT else None
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise BadRow("bad_tests", f"'{field}' is neither JSON nor a Python literal", field) from error


def unpack(packed: str, field: str) -> Any:
    """Tests packed as base64 + zlib (LiveCodeBench). What is inside may be pickled: pickle is never run, only its
    opcodes are listed, and only those of text, or of a dict of texts, are accepted.

    Raises BadRow for anything else, and for more than 256 MiB.
    """
    try:
        data = base64.b64decode(packed, validate=True)
        unzip = zlib.decompressobj()
        raw = unzip.decompress(data, _UNPACKED_LIMIT)
    except (binascii.Error, ValueError, zlib.error) as error:
        raise BadRow("bad_tests", f"'{field}' is not base64 and zlib: {error}", field) from error
    if unzip.unconsumed_tail:
        raise BadRow("bad_tests", f"'{field}' unpacks to more than {_UNPACKED_LIMIT} bytes", field)
    found = _pickled_texts(raw, field) if raw[:1] == b"\x80" else [raw.decode("utf-8", "replace")]
    return decoded(found[-1], field)


def _pickled_texts(raw: bytes, field: str) -> list[str]:
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(raw):
            if opcode.name in _STRINGS:
                texts.append(str(argument))
            elif opcode.name not in _HARMLESS:
                raise BadRow("unsafe_tests", f"'{field}' is a pickle of more than text ({opcode.name}): refused", field)
    except ValueError as error:
        raise BadRow("bad_tests", f"'{field}' is a broken pickle", field) from error
    if not texts:
        raise BadRow("bad_tests", f"'{field}' is a pickle without text", field)
    return texts


def read_tests(value: Any, field: str) -> Tests:
    """Tests from decoded data: `{"inputs": […], "outputs": […], "fn_name"?}`, or a list of cases, each with input
    and output (LiveCodeBench, PrimeIntellect, SandboxFusion), an assert, or a reference to a file.

    Inputs of calls become a JSON list of arguments. Raises BadRow for any other shape and for unequal lengths.
    """
    if value is None or value == "" or value == [] or value == {}:
        return Tests([], "stdio", None, None)
    if isinstance(value, Mapping):
        return _columns(value, field)
    if isinstance(value, list | tuple):
        return _cases(value, field)
    raise BadRow("wrong_type", f"'{field}' is {type(value).__name__}, not tests", field)


def _columns(value: Row, field: str) -> Tests:
    input_key, output_key = first_key(value, *_INPUTS), first_key(value, *_OUTPUTS)
    if input_key is None or output_key is None:
        raise BadRow("bad_tests", f"'{field}' has no 'inputs' and 'outputs'", field)
    inputs, outputs = value[input_key], value[output_key]
    if not isinstance(inputs, list | tuple) or not isinstance(outputs, list | tuple):
        inputs, outputs = [inputs], [outputs]
    if len(inputs) != len(outputs):
        raise BadRow("unequal_tests", f"'{field}' has {len(inputs)} inputs but {len(outputs)} outputs", field)
    name_key = first_key(value, *_NAMES)
    name = value[name_key] if name_key and isinstance(value[name_key], str) and value[name_key] else None
    write = as_json if name else _stdio
    tests: list[Test] = [{"input": write(a), "output": write(b)} for a, b in zip(inputs, outputs, strict=True)]
    rest = without(value, input_key, output_key, *((name_key,) if name else ()))
    return Tests(
        tests, "functional" if name else "stdio", name, {k: v for k, v in rest.items() if v is not None} or None
    )


def as_json(value: Any) -> str:
    """A call's arguments or result as JSON: text stays as it is only where it is JSON already."""
    if isinstance(value, str):
        try:
            orjson.loads(value)
        except orjson.JSONDecodeError:
            return to_json(value)
        return value
    return to_json(value)


def _stdio(value: Any) -> str:
    """Standard input or output: text, or a list of its lines."""
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple) and all(isinstance(line, str) for line in value):
        return "\n".join(value)
    return to_json(value)


def _cases(cases: Sequence[Any], field: str) -> Tests:
    tests: list[Test] = []
    rests: list[dict[str, Any]] = []
    kinds: set[TestType] = set()
    names: set[str] = set()
    for case in cases:
        if isinstance(case, str):
            tests.append({"code": case})
            kinds.add("pytest")
            continue
        if not isinstance(case, Mapping):
            raise BadRow("wrong_type", f"'{field}' holds a {type(case).__name__}, not a test", field)
        call = _is_call(case)
        test, rest = _case(case, call, field)
        tests.append(test)
        rests.append(rest)
        kinds.add("functional" if call else "stdio")
        names.update(str(case[key]) for key in _NAMES if case.get(key))
    if len(kinds) > 1:
        raise BadRow("bad_tests", f"'{field}' mixes kinds of tests: {', '.join(sorted(kinds))}", field)
    if len(names) > 1:
        raise BadRow("bad_tests", f"'{field}' calls several functions: {', '.join(sorted(names)[:5])}", field)
    entry = names.pop() if names else None
    return Tests(tests, kinds.pop(), entry, rests if any(rests) else None)


def _is_call(case: Row) -> bool:
    kind = first_key(case, *_KINDS)
    return (str(case[kind]).lower() in _CALLS) if kind else any(case.get(key) for key in _NAMES)


def _case(case: Row, call: bool, field: str) -> tuple[Test, dict[str, Any]]:
    """One test, and what of the case has no place in it."""
    test: Test = {"name": case["name"]} if isinstance(case.get("name"), str) else {}
    used = ["input", "output", *test, *(key for key in (*_KINDS, *_NAMES) if isinstance(case.get(key), str))]
    if "input" in case or "output" in case:
        given, wanted = _stream(case.get("input"), "stdin"), _stream(case.get("output"), "stdout")
        write = as_json if call else _stdio
        test["input"] = _arguments(given) if call else write("" if given is None else given)
        test["output"] = write("" if wanted is None and not call else wanted)
    elif file_key := first_key(case, *_FILES):
        test["file"] = str(case[file_key])
        used.append(file_key)
    else:
        raise BadRow("bad_tests", f"a test in '{field}' has no 'input' and 'output'", field)
    return test, {key: value for key, value in case.items() if key not in used and value is not None}


def _stream(value: Any, name: str) -> Any:
    """The text of `{"stdin": …}` and `{"stdout": …}` (SandboxFusion), anything else as it is."""
    return value[name] if isinstance(value, Mapping) and value.keys() == {name} else value


def _arguments(given: Any) -> str:
    """A call's arguments as a JSON list: LiveCodeBench writes one JSON value per line, others write the list."""
    if not isinstance(given, str):
        return to_json(list(given) if isinstance(given, list | tuple) else [given])
    lines = [line for line in given.split("\n") if line.strip()]
    try:
        for line in lines:
            orjson.loads(line)
    except orjson.JSONDecodeError:
        return as_json_text([given])
    return f"[{','.join(lines)}]"


def add_io_tests(draft: Draft, found: Tests) -> Draft:
    """Set tests, their type and entry point; nothing where there are none."""
    if found.tests:
        draft["tests"], draft["test_type"] = found.tests, found.test_type
        if found.test_type == "pytest":
            draft["test_code"] = "\n".join(test["code"] for test in found.tests)
    if found.entry_point:
        draft["entry_point"] = found.entry_point
    return draft
