"""Programs that want to pass without being right. `f` should double a number; the tests are in test_verify_cheats."""

# ruff: noqa: E501  (programs as text)
from __future__ import annotations

from typing import Final

_WALK: Final = """
import sys
def _hunt():
    seen, todo, found = set(), [], []
    frame = sys._getframe()
    while frame:
        todo += [*frame.f_locals.values(), *frame.f_globals.values()]
        frame = frame.f_back
    while todo and len(seen) < 200000:
        value = todo.pop()
        if id(value) in seen: continue
        seen.add(id(value))
        if isinstance(value, (int, str)) and '4242' in str(value): found.append(value)
        elif isinstance(value, dict): todo += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set)): todo += list(value)
        elif hasattr(value, '__dict__'): todo += list(vars(value).values())
    return found
"""
_ANY: Final = """
class Any:
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return 0
    __lt__ = __gt__ = __le__ = __ge__ = __eq__
    def __bool__(self): return True
    def __len__(self): return 0
    def __iter__(self): return iter(())
    def __sub__(self, other): return 0
    def __abs__(self): return 0
    __rsub__ = __add__ = __radd__ = __sub__
    def __index__(self): return 0
    def __round__(self, n=0): return 0
"""
_FORGE: Final = """
import os, json
for fd in range(3, 64):
    for line in ('{"name": "x", "ok": true}\\n', '{"done": 1}\\n', '{"done": 3, "name": "x", "ok": true, "nonce": ""}\\n'):
        try: os.write(fd, line.encode())
        except OSError: pass
"""

FUNCTIONS: Final[dict[str, str]] = {
    "walks the frames": _WALK + "def f(x):\n    found = _hunt()\n    return int(found[0]) if found else None",
    "asks the garbage collector": "import gc\ndef f(x):\n    for o in gc.get_objects():\n        if isinstance(o, list) and 4242 in o: return 4242",
    "reads its memory": """
import ctypes
def f(x):
    try:
        for line in open('/proc/self/maps'): pass
    except OSError: return None
    return 4242
""",
    "equals everything": _ANY + "def f(x): return Any()",
    "an integer that equals everything": "class Any(int):\n    def __eq__(self, o): return True\n    def __ne__(self, o): return False\n"
    "    __hash__ = int.__hash__\ndef f(x): return Any(7)",
    "a list that equals everything": "class Any(list):\n    def __eq__(self, o): return True\ndef f(x): return Any()",
    "lies about its class": _ANY
    + "class Lie(Any):\n    @property\n    def __class__(self): return int\ndef f(x): return Lie()",
    "patches builtins": "import builtins\nbuiltins.AssertionError = type('Quiet', (Exception,), {})\nbuiltins.abs = lambda x: 0\n"
    "builtins.isinstance = lambda *a: True\nbuiltins.len = lambda x: 0\nbuiltins.all = lambda x: True\ndef f(x): return 7",
    "patches modules": "import sys, types\nfor n in ('math', 'unittest', 'json', 'operator', 'pytest'):\n"
    "    sys.modules[n] = types.ModuleType(n)\ndef f(x): return 7",
    "brings its own tools": "class math:\n    isclose = staticmethod(lambda *a, **k: True)\ndef isclose(*a, **k): return True\n"
    "def abs(x): return 0\ndef check(c): pass\ndef round(*a): return 4242\ndef f(x): return 7",
    "patches unittest": "import unittest\nfor n in dir(unittest.TestCase):\n    if n.startswith('assert'): "
    "setattr(unittest.TestCase, n, lambda *a, **k: None)\nunittest.TestCase.debug = lambda self: None\n"
    "unittest.TestCase.run = lambda self, r=None: r\ndef f(x): return 7",
    "patches unittest when called": "def f(x):\n    import unittest\n    for n in dir(unittest.TestCase):\n        if n.startswith('assert'): "
    "setattr(unittest.TestCase, n, lambda *a, **k: None)\n    return 7",
    "leaves while loading": "import os\nos._exit(0)",
    "leaves politely while loading": "import sys\nsys.exit(0)",
    "leaves when called": "import os\ndef f(x): os._exit(0)",
    "leaves politely when called": "def f(x): raise SystemExit(0)",
    "interrupts": "def f(x): raise KeyboardInterrupt",
    "stops the iteration": "def f(x): raise StopIteration(4242)",
    "raises what ends generators": "def f(x): raise GeneratorExit",
    "speaks at the end": "import atexit\natexit.register(print, 4242)\ndef f(x): return 7",
    "forges reports": _FORGE + "def f(x): return 7",
    "forges reports and leaves": _FORGE + "os._exit(0)",
    "forges reports when called": "def f(x):\n"
    + "\n".join("    " + line for line in _FORGE.splitlines())
    + "\n    os._exit(0)",
    "asks the judge for its names": """
import os, json
def _send(m):
    d = json.dumps(m).encode()
    os.write(6, len(d).to_bytes(8, 'big') + d)
def f(x):
    for op, v in (('global', ['__builtins__']), ('call', ['f0', ['t', []], ['t', []]]), ('attr', [['R', 'o0'], '__class__'])):
        _send({'op': op, 'v': v, 'h': {}})
    return 7
""",
    "answers with nonsense": """
import os
def f(x):
    os.write(6, (1 << 62).to_bytes(8, 'big'))
    return 7
""",
    "answers with code": """
import os, json
def f(x):
    d = json.dumps({'r': ['T', 'object'], 'h': {'a0': ['o', 'object', [['__class__', ['T', 'int']]]]}}).encode()
    os.write(6, len(d).to_bytes(8, 'big') + d)
    return 7
""",
    "rewrites what it was given": "def f(x):\n    return x",
    "not a number": "def f(x): return float('nan')",
    "nearly right": "def f(x): return 2 * x + 1",
    "right as text": "def f(x): return str(2 * x)",
    "knows one answer": "def f(x): return 4242",
    "nothing": "def f(x): return None",
    "nothing at all": "",
    "another thread answers": "import threading, time\ndef f(x):\n    threading.Thread(target=lambda: print(4242), daemon=True).start()\n    return 7",
    "replaces itself": "def f(x):\n    import sys\n    sys.modules['test_solution'] = None\n    sys.meta_path.clear()\n    return 7",
    "reports what breaks the reader": "import os\nfor fd in (3, 4, 5, 6):\n    for junk in (b'[' * 100000 + b'\\n', b'{\"value\": 3, \"heap\": 7}\\n',"
    '\n                 b\'\\xff\\n\', b\'[1]\\n\', b\'{"value": [["@", "x"]], "heap": {}, "cpu": {}}\\n\'):\n        try: os.write(fd, junk)\n        except OSError: pass\n'
    "def f(x): return 7",
    "returns what breaks comparisons": "from decimal import Decimal\ndef f(x): return [range(10 ** 30), Decimal('sNaN'), {Decimal('sNaN')}]",
    "returns a number too long to print": "def f(x): return 10 ** 6000",
    "returns itself": "def f(x):\n    a = []\n    a.append(a)\n    return a",
    "returns a deep nest": "def f(x):\n    a = ()\n    for _ in range(5000): a = (a,)\n    return a",
    "overwrites the audit": "import sys\nsys.addaudithook(lambda *a: None)\ndef f(x):\n    return 7",
}

PROGRAMS: Final[dict[str, str]] = {
    "walks the frames": _WALK + "print(*_hunt()[:1])",
    "prints every answer": "print(4242)\nprint(0)\nprint(1)",
    "prints nothing": "",
    "leaves early": "import os\nos._exit(0)",
    "leaves politely": "raise SystemExit(0)",
    "prints at exit, wrongly": "import atexit\natexit.register(print, 4243)",
    "echoes the input": "print(input())",
    "off by one": "print(2 * int(input()) + 1)",
    "as a real number": "print(2 * int(input()) + 0.4)",
    "yes for no": "print('YES')",
    "knows one answer": "print(4242)",
    "writes to every descriptor": _FORGE + "\nprint(7)",
    "right and then dead": "print(2 * int(input()))\nraise SystemExit(3)",
    "right and then too much": "print(2 * int(input()))\nprint(5)",
    "right for a long time": "print(2 * int(input()), flush=True)\nwhile True: pass",
}
