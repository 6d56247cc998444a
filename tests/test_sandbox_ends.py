"""How programs end, and what annotations are: as in an interpreter of one's own."""

# ruff: noqa: E501  (programs as text)
from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import pytest

from stages.sandbox import Limits, Sandbox

ENDS = {
    "atexit after another stdout": "import atexit, io, sys\nbuffer = io.StringIO()\nsys.stdout = buffer\n"
    "@atexit.register\ndef write():\n    sys.__stdout__.write(buffer.getvalue())\nprint(3)",
    "__stdout__ written": "import io, sys\nsys.stdout = io.StringIO()\nprint(3)\nsys.__stdout__.write(sys.stdout.getvalue())",
    "old stdout written": "import io, sys\nold = sys.stdout\nsys.stdout = io.StringIO()\nold.write('3')",
    "old stdout, none left": "import sys\nold = sys.stdout\nsys.stdout = sys.__stdout__ = None\nold.write('3')",
    "fdopen": "import os\nout = os.fdopen(1, 'w')\nout.write('3')",
    "open by number": "out = open(1, 'w')\nprint(3, file=out)",
    "open, used in functions": "out = open(1, 'w')\ndef main():\n    out.write('3')\nmain()",
    "open, kept in an object": "class A:\n    def __init__(self): self.me, self.out = self, open(1, 'w')\na = A()\na.out.write('3')",
    "open, kept by a module": "import builtins\nbuiltins.out = open(1, 'w')\nout.write('3')",
    "layers of io": "import io\nout = io.TextIOWrapper(io.BufferedWriter(io.FileIO(1, 'w')))\nout.write('3')",
    "bytes alone": "import io\nout = io.BufferedWriter(io.FileIO(1, 'w'))\nout.write(b'3')",
    "order of streams": "print(1)\nout = open(1, 'w', closefd=False)\nout.write('2\\n')\nprint(3)",
    "finalizer": "text = [3]\nclass A:\n    def __del__(self): print(text[0])\na = A()",
    "finalizer in a cycle, no collector": "import gc\ngc.disable()\nclass A:\n    def __del__(self): print(3)\na = A()\na.me = a",
    "finalizer that raises": "class A:\n    def __del__(self):\n        print(3)\n        raise SystemExit(5)\na = A()",
    "suspended generator": "def g():\n    try:\n        yield 1\n    finally:\n        print(3)\nx = g()\nnext(x)",
    "weak reference": "import weakref\nclass A: pass\na = A()\nweakref.finalize(a, print, 3)",
    "thread": "import threading, time\nout = open(1, 'w')\ndef f():\n    time.sleep(0.02)\n    out.write('3')\n"
    "threading.Thread(target=f).start()",
    "detached": "import io, sys\nsys.stdout = io.TextIOWrapper(sys.stdout.detach())\nprint(3)",
    "closed": "import sys\nprint(3)\nsys.stdout.close()",
    "none": "import sys\nprint(3)\nsys.stdout = None",
    "deleted": "import sys\nprint(3)\ndel sys.stdout",
    "cannot be flushed": "import sys\nprint(3)\nsys.stdout = type('X', (), {'write': len})()",
    "exit with more to write": "import sys\nout = open(1, 'w')\nout.write('3')\nsys.exit(0)",
    "error with more to write": "out = open(1, 'w')\nout.write('3')\n1 / 0",
    "leaves at once": "import os\nout = open(1, 'w')\nout.write('3')\nos._exit(0)",
}  # fmt: skip
ANNOTATIONS = {
    "undefined": "def f(a: List[int]): pass\nprint(3)",
    "raises": "def f(a: 1 / 0): pass\nprint(3)",
    "signature": "import inspect\ndef f(x: int): pass\nprint(inspect.signature(f).parameters['x'].annotation)",
    "dataclass": "from dataclasses import dataclass, fields\n@dataclass\nclass C:\n    a: int\nprint(fields(C)[0].type)",
    "asked for": "from __future__ import annotations\ndef f(a: List[int]): pass\nprint(f.__annotations__)",
    "in exec": "exec('def f(a: int): pass')\nprint(f.__annotations__)",
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as ready:
        yield ready


@pytest.mark.parametrize("code", [*ENDS.values(), *ANNOTATIONS.values()], ids=[*ENDS, *ANNOTATIONS])
def test_a_program_says_what_it_says_in_an_interpreter_of_its_own(sandbox: Sandbox, code: str) -> None:
    real = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, check=False)
    ours = sandbox.run_python(code, limits=Limits(cpu_s=2.0))
    assert (ours.stdout, ours.exit_code == 0) == (real.stdout, real.returncode == 0), ours.err


def test_finalizers_have_no_more_time_than_the_program(sandbox: Sandbox) -> None:
    code = "class A:\n    def __del__(self):\n        print(3, flush=True)\n        while True: pass\na = A()"
    assert sandbox.run_python(code, limits=Limits(cpu_s=0.3)).status == "time_limit"


def test_no_finalizer_makes_a_failure_a_success(sandbox: Sandbox) -> None:
    code = "class A:\n    def __del__(self): raise SystemExit(0)\na = A()\n1 / 0"
    assert sandbox.run_python(code).status == "runtime_error"
