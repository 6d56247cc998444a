"""Test source rewritten so that every assert reports by itself and the others still run."""

from __future__ import annotations

import ast
from typing import Final

_LEFT: Final = "__left__"
_RIGHT: Final = "__right__"


def instrument(tree: ast.Module) -> ast.Module:
    """`assert a == b` becomes: evaluate both sides, assert, report. Scopes and evaluation order stay as they were."""
    changed = _Asserts().visit(tree)
    return ast.fix_missing_locations(changed)  # type: ignore[no-any-return]


class _Asserts(ast.NodeTransformer):
    def visit_Assert(self, node: ast.Assert) -> list[ast.stmt]:
        """One try statement in the assert's place."""
        name = ast.unparse(node.test)[:300]
        body: list[ast.stmt] = []
        sides: list[ast.expr] = []
        test = node.test
        if isinstance(test, ast.Compare) and len(test.ops) == 1:
            body = [_assign(_LEFT, test.left), _assign(_RIGHT, test.comparators[0])]
            sides = [_load(_LEFT), _load(_RIGHT)]
            test = ast.Compare(_load(_LEFT), test.ops, [_load(_RIGHT)])
        before = (
            [_assign(_LEFT, ast.Constant("(nothing)")), _assign(_RIGHT, ast.Constant("(nothing)"))] if sides else []
        )
        caught = ast.ExceptHandler(
            type=ast.Name("BaseException", ast.Load()),
            name="__error__",
            body=[_call("__failed__", ast.Constant(name), _load("__error__"), *sides)],
        )
        whole = ast.Try([*body, ast.Assert(test, node.msg)], [caught], [_call("__passed__", ast.Constant(name))], [])
        return [ast.copy_location(statement, node) for statement in (*before, whole)]


def _load(name: str) -> ast.expr:
    return ast.Name(name, ast.Load())


def _assign(name: str, value: ast.expr) -> ast.stmt:
    return ast.Assign([ast.Name(name, ast.Store())], value)


def _call(name: str, *args: ast.expr) -> ast.stmt:
    return ast.Expr(ast.Call(_load(name), list(args), []))
