"""Operations on objects that live in the other process, by name."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final

BINARY: Final = (
    "add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor", "lshift", "rshift", "matmul",
)  # fmt: skip
INPLACE: Final = ("iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "iand", "ior", "ixor")
COMPARE: Final = ("eq", "ne", "lt", "le", "gt", "ge")
UNARY: Final = ("neg", "pos", "abs", "invert", "index")

OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    **{name: getattr(operator, name) for name in (*BINARY, *INPLACE, *COMPARE, *UNARY)},
    "getitem": operator.getitem,
    "setitem": operator.setitem,
    "delitem": operator.delitem,
    "contains": operator.contains,
    "len": len,
    "iter": iter,
    "next": next,
    "reversed": reversed,
    "str": str,
    "repr": repr,
    "hash": hash,
    "bool": bool,
    "int": int,
    "float": float,
    "round": round,
    "format": format,
    "dir": dir,
    "attr": getattr,
    "setattr": setattr,
    "delattr": delattr,
}
