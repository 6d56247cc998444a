"""Names in code that no renaming changes: keywords, and the builtins that programs lean on, of common languages."""

from __future__ import annotations

from typing import Final

_PYTHON: Final = """
False None True and as assert async await break class continue def del elif else except finally for from global if
import in is lambda nonlocal not or pass raise return try while with yield self cls
abs all any bin bool bytes chr dict divmod enumerate filter float frozenset hash hex int isinstance iter len list map
max min next object open ord pow print range repr reversed round set slice sorted str sum super tuple type zip
Any Dict Iterable List Optional Set Tuple Union ValueError TypeError KeyError IndexError Exception math re collections
"""
_OTHERS: Final = """
abstract auto bool boolean byte case catch char const default delete do double enum export extends extern false final
float fn func function goto impl implements instanceof int interface let long loop match mod mut namespace new null
nullptr override package private protected pub public ref short signed sizeof static struct switch template this throw
throws trait true type typedef typeof undefined union unsigned unsafe use using var virtual void volatile where
String Math System Array Object Vec Option Some Ok Err vector string map std include console
"""

KEPT: Final = frozenset(f"{_PYTHON} {_OTHERS}".split())
"""Names that stand for themselves; every other name stands for a variable."""
