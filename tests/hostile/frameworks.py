"""Programs that want to pass by what test frameworks offer: skips, fixtures, event loops. `f` should double a number."""

# ruff: noqa: E501  (programs as text)
from __future__ import annotations

from typing import Final

_WRONG: Final = "def f(x): return 4242\n"
_RIGHT_ONCE: Final = "    if x == 2121: return 4242\n"

CHEATS: Final[dict[str, str]] = {
    "skips when called": "import pytest\ndef f(x):\n" + _RIGHT_ONCE + "    pytest.skip('no')",
    "skips as unittest does": "import unittest\ndef f(x):\n" + _RIGHT_ONCE + "    raise unittest.SkipTest('no')",
    "is expected to fail": "import pytest\ndef f(x):\n" + _RIGHT_ONCE + "    pytest.xfail('no')",
    "raises what skips are called": "class Skipped(Exception): pass\nclass SkipTest(Exception): pass\ndef f(x):\n"
    + _RIGHT_ONCE + "    raise SkipTest('no')",
    "marks the module": "import pytest\npytestmark = pytest.mark.skip\n" + _WRONG,
    "marks the module with values": "import pytest\npytestmark = pytest.mark.parametrize('x', [2121])\n" + _WRONG,
    "has fixtures": "import pytest\n@pytest.fixture(autouse=True)\ndef _skip():\n    pytest.skip('no')\n"
    "@pytest.fixture\ndef one():\n    return 2121\n" + _WRONG,
    "has setup functions": "import pytest\ndef setup_module(): pytest.skip('no')\nsetUpModule = setup_function = setup_module\n" + _WRONG,
    "every mark skips": "import pytest\nskip = pytest.mark.skip\npytest.mark = type('M', (), {'__getattr__': lambda s, n: skip})()\n" + _WRONG,
    "marks skip by their class": "import pytest\ntype(pytest.mark.x).skips = True\n" + _WRONG,
    "fixtures that skip": "import pytest\npytest.fixture = lambda f=None, **k: pytest.mark.skip\n" + _WRONG,
    "finds fewer tests": "import unittest\nunittest.TestLoader.getTestCaseNames = lambda s, c: ['test_2121']\n" + _WRONG,
    "finds fewer tests by sorting": "import unittest.loader\nunittest.TestLoader.sortTestMethodsUsing = None\n"
    "unittest.defaultTestLoader.testMethodPrefix = 'test_2121'\n" + _WRONG,
    "no loop runs": "import asyncio\nasyncio.run = lambda c, **k: c.close()\nasyncio.Runner.run = lambda s, c, **k: c.close()\n" + _WRONG,
    "no loop runs inside": "import asyncio.base_events as b\nb.BaseEventLoop.run_until_complete = lambda s, c: c.close()\n" + _WRONG,
    "no task is made": "import asyncio.base_events as b\ndef make(self, coroutine, **more):\n    coroutine.close()\n"
    "    done = self.create_future()\n    done.set_result(None)\n    return done\nb.BaseEventLoop.create_task = make\n" + _WRONG,
    "no coroutine is one": "import inspect, types\ninspect.iscoroutine = inspect.iscoroutinefunction = lambda x: False\n"
    "inspect.signature = lambda f: type('S', (), {'parameters': {}})\ntypes.CoroutineType = int\n" + _WRONG,
    "async cases do not run": "import unittest\nk = unittest.IsolatedAsyncioTestCase\nk._callTestMethod = k.debug = lambda *a: None\n" + _WRONG,
    "reads the tests through the loop": "import asyncio\nfound = []\ndef look(self, coroutine, **more):\n"
    "    found.append(coroutine.cr_frame.f_locals)\nasyncio.Runner.run = look\ndef f(x): return 2 * x if found else 0",
    "reads the tests through a signature": "import inspect\nfound = []\nreal = inspect.signature\n"
    "def look(f, **k):\n    found.append(f)\n    return real(f)\ninspect.signature = look\n"
    "def f(x):\n    return [c for g in found for c in g.__code__.co_consts if c][-1] if found else None",
    "cancels its task": "import asyncio\ndef f(x):\n" + _RIGHT_ONCE + "    asyncio.current_task().cancel()\n    return 0",
    "stops the loop": "import asyncio\ndef f(x):\n" + _RIGHT_ONCE + "    asyncio.get_running_loop().stop()\n    return 0",
    "leaves through the guard": "import sys\ndef f(x): sys.exit(0)",
    "is a coroutine": "async def f(x): return 2 * x",
}  # fmt: skip
