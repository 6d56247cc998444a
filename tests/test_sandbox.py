"""The sandbox: limits, results, correct programs that other graders reject, death of any of its processes."""

# ruff: noqa: E501  (programs as text)
from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.sandbox import Limits, Process, Sandbox, SandboxError, probe, tier
from stages.sandbox.child import bpf
from stages.sandbox.child.codec import Codec, Refused
from stages.sandbox.child.syscalls import AARCH64, TABLES, X86_64
from stages.sandbox.model import Tier

FAST = Limits(cpu_s=1.0, wall_s=6.0)


@pytest.fixture(scope="module", params=["zygote", "no-namespace"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    name: Tier = request.param
    if name in probe().problems:
        pytest.skip(f"{name}: {probe().problems[name]}")
    with Sandbox(tier=name) as ready:
        yield ready


CORRECT = {
    "input": "print(input() + input())",
    "stdin.buffer": "import sys\na, b = sys.stdin.buffer.read().split()\nsys.stdout.buffer.write(a + b)",
    "for line in stdin": "import sys\nprint(''.join(line.strip() for line in sys.stdin))",
    "open(0)": "print(''.join(open(0).read().split()))",
    "dev stdin": "print(''.join(open('/dev/stdin').read().split()))",
    "os.read": "import os\nprint(''.join(os.read(0, 100).decode().split()))",
    "readline": "import sys\nr = sys.stdin.readline\nprint(r().strip() + r().strip())",
    "stdout.buffer and print": "import sys\nsys.stdout.buffer.write(b'a')\nsys.stdout.flush()\nprint('b')",
    "top-level global": "global x\nx = input()\ndef f():\n    global x\n    x += input()\nf()\nprint(x)",
    "main guard": "def main():\n    print(input() + input())\nif __name__ == '__main__':\n    main()",
    "exit": "print(input() + input())\nexit()",
    "sys.exit with zero": "import sys\nprint(input() + input())\nsys.exit(0)",
    "big recursion in a thread": (
        "import sys, threading\nsys.setrecursionlimit(1 << 20)\nthreading.stack_size(1 << 27)\n"
        "def f(n): return 0 if n == 0 else 1 + f(n - 1)\n"
        "def main():\n    assert f(100000) == 100000\n    print(input() + input())\n"
        "t = threading.Thread(target=main)\nt.start()\nt.join()"
    ),
    "pool of threads": "from concurrent.futures import ThreadPoolExecutor as P\n"
    "with P(4) as p: print(''.join(p.map(str, [input(), input()])))",
    "asyncio": "import asyncio\nasync def main():\n    await asyncio.sleep(0)\n    print(input() + input())\nasyncio.run(main())",
    "unicode": "print(input() + input(), end='')\nimport sys\nassert sys.stdout.encoding.lower() == 'utf-8'",
    "main module": "import sys, __main__\n__main__.y = input() + input()\nprint(y)",
    "dataclasses and typing": "from dataclasses import dataclass\nfrom typing import List\n@dataclass\nclass A:\n    x: str\n"
    "print(A(input() + input()).x)",
    "signal handler": "import signal\nsignal.signal(signal.SIGALRM, lambda *a: None)\nsignal.alarm(5)\nprint(input() + input())",
    "modules named like ours": "import sys\nassert 'child' not in sys.modules\nprint(input() + input())",
}  # fmt: skip


@pytest.mark.parametrize("name", CORRECT)
def test_correct_programs_run(sandbox: Sandbox, name: str) -> None:
    result = sandbox.run_python(CORRECT[name], "a\nb\n", FAST)
    assert result.status == "passed", result.err
    assert result.stdout.strip() == b"ab"


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("while True: pass", "time_limit"),
        ("import time\ntime.sleep(60)", "time_limit"),
        ("x = [0] * 10**10", "memory_limit"),
        ("while True: print('x' * 1000)", "output_limit"),
        ("1 / 0", "runtime_error"),
        ("syntax error", "runtime_error"),
        ("import os\nos._exit(3)", "runtime_error"),
        (
            "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\nimport ctypes\nctypes.string_at(0)",
            "runtime_error",
        ),
        ("raise SystemExit('no')", "runtime_error"),
        ("pass", "passed"),
    ],
)
def test_status(sandbox: Sandbox, code: str, status: str) -> None:
    limits = Limits(cpu_s=0.3, wall_s=1.5, output_bytes=1 << 20)
    found = sandbox.run_python(code, limits=limits).status
    assert found == status or (found, "SIGKILL" in code) == ("memory_limit", True)


def test_result_says_what_happened(sandbox: Sandbox) -> None:
    result = sandbox.run_python("import sys\nx = bytearray(200 << 20)\nsys.stderr.write('e')\nprint('o')")
    assert (result.stdout, result.stderr, result.exit_code) == (b"o\n", b"e", 0)
    assert result.peak_mb > 200
    assert 0 < result.cpu_ms < 5000
    failed = sandbox.run_python("raise ValueError('why')")
    assert "ValueError: why" in failed.err
    assert "main.py" in failed.err


def test_cpu_time_decides_not_wall_time(sandbox: Sandbox) -> None:
    waits = sandbox.run_python("import time\ntime.sleep(1.0)\nprint('done')", limits=Limits(cpu_s=0.5))
    assert waits.status == "passed"
    works = sandbox.run_python("while True: pass", limits=Limits(cpu_s=0.5))
    assert works.status == "time_limit"
    assert 500 <= works.cpu_ms < 900


def test_same_hash_seed_every_time(sandbox: Sandbox) -> None:
    seen = {sandbox.run_python("print({'a', 'b', 'c', 'd'}, hash('x'))").stdout for _ in range(4)}
    assert len(seen) == 1


def test_runs_do_not_see_each_other(sandbox: Sandbox) -> None:
    sandbox.run_python("import builtins, math\nbuiltins.len = None\nmath.pi = 3")
    assert sandbox.run_python("import math\nprint(len('ab'), math.pi)").stdout == b"2 3.141592653589793\n"


def test_pair_over_stdio(sandbox: Sandbox) -> None:
    guess = "lo, hi = 1, 100\nwhile True:\n    m = (lo + hi) // 2\n    print(m, flush=True)\n    a = input()\n    if a == '=': break\n    lo, hi = (m + 1, hi) if a == '>' else (lo, m - 1)"
    judge = "for n in range(1, 9):\n    g = int(input())\n    print('=' if g == 37 else '>' if g < 37 else '<', flush=True)\n    if g == 37: raise SystemExit(42)"
    first, second = sandbox.run_pair(Process("program", {"code": judge}), Process("program", {"code": guess}), "stdio")
    assert first.exit_code == 42
    assert second.status in ("passed", "runtime_error")  # it may still be ending when the judge is done


def test_second_process_does_not_outlive_the_first(sandbox: Sandbox) -> None:
    started = time.monotonic()
    pair = sandbox.run_pair(
        Process("program", {"code": "pass"}), Process("program", {"code": "while True: pass"}), "stdio"
    )
    assert pair[0].status == "passed"
    assert pair[1].status == "runtime_error"
    assert time.monotonic() - started < 5


def _victims(sandbox: Sandbox) -> list[int]:
    first = sandbox._all[0].pid
    assert first is not None
    below = [int(p.name) for p in Path("/proc").iterdir() if p.name.isdigit() and _parent(p) == first]
    return [first, *below]


def _parent(folder: Path) -> int:
    try:
        return int((folder / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return -1


@pytest.mark.parametrize("which", [0, -1])
def test_survives_the_death_of_its_processes(sandbox: Sandbox, which: int) -> None:
    """First the process the host started, then (with namespaces) the fork server below it."""
    assert sandbox.run_python("print(1)").stdout == b"1\n"
    os.kill(_victims(sandbox)[which], signal.SIGKILL)
    time.sleep(0.1)
    assert sandbox.run_python("print(2)").stdout == b"2\n"


def test_survives_death_in_the_middle_of_a_run(sandbox: Sandbox) -> None:
    def kill() -> None:
        time.sleep(0.3)
        os.kill(_victims(sandbox)[-1 if sandbox.tier == "zygote" else 0], signal.SIGKILL)

    threading.Thread(target=kill).start()
    result = sandbox.run_python("import time\ntime.sleep(1)\nprint('again')")
    assert result.stdout == b"again\n"


def test_a_stopped_fork_server_is_replaced(sandbox: Sandbox) -> None:
    sandbox.run_python("pass")
    for pid in _victims(sandbox):
        os.kill(pid, signal.SIGSTOP)
    started = time.monotonic()
    assert sandbox.run_python("print(3)", limits=Limits(cpu_s=1, wall_s=0.5)).stdout == b"3\n"
    assert time.monotonic() - started < 20


def test_parallel_use_by_threads_and_forks() -> None:
    with Sandbox(workers=2) as sandbox:
        codes = [f"print({n} * 2)" for n in range(24)]
        with ThreadPoolExecutor(6) as pool:
            found = list(pool.map(lambda code: sandbox.run_python(code).stdout, codes))
        assert found == [f"{n * 2}\n".encode() for n in range(24)]
        pid = os.fork()
        if pid == 0:
            os._exit(0 if sandbox.run_python("print('child')").stdout == b"child\n" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        assert sandbox.run_python("print('parent')").stdout == b"parent\n"


def test_nothing_is_left_when_it_is_closed() -> None:
    with Sandbox() as sandbox:
        sandbox.run_python("pass")
        pids = _victims(sandbox)
    time.sleep(0.2)
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_extra_packages(tmp_path: Path) -> None:
    (tmp_path / "extra.py").write_text("value = 7")
    tmp_path.chmod(0o755)
    with Sandbox(packages=[tmp_path]) as sandbox:
        assert sandbox.run_python("import extra\nprint(extra.value)").stdout == b"7\n"
    with Sandbox() as sandbox:
        assert "ModuleNotFoundError" in sandbox.run_python("import extra").err


def test_probe_and_tier() -> None:
    assert tier() == probe().tier
    assert set(probe().problems) <= {"zygote", "no-namespace"}


def test_refuses_where_no_tier_works(monkeypatch: pytest.MonkeyPatch) -> None:
    from stages.sandbox import probe as module

    found = sys.modules[module.__module__]
    monkeypatch.setattr(found, "_try", lambda name: f"{name} is not for you")
    probe.cache_clear()
    with pytest.raises(SandboxError, match=r"no sandbox works here \(zygote: zygote is not for you.*Landlock"):
        Sandbox()
    probe.cache_clear()


def test_refuses_with_the_way_to_mend_it() -> None:
    with pytest.raises(SandboxError, match="no interpreter"):
        Sandbox(python="/nowhere/python")


def test_filters_exist_for_both_machines() -> None:
    assert set(TABLES) == {"x86_64", "aarch64"}
    for machine in TABLES:
        for kind in ("python", "native", "compiler"):
            program = bpf.program(machine, 1, kind)
            assert len(program) % 8 == 0
            assert len(program) // 8 < 4096
    assert set(AARCH64) < set(X86_64)


def _verdict(program: bytes, arch: int, number: int, args: tuple[int, ...] = ()) -> int:
    """Interpret a filter as the kernel does."""
    import struct

    data = struct.pack("=IIQ6Q", number, arch, 0, *(args + (0,) * (6 - len(args))))
    code = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at, a = 0, 0
    while True:
        op, jt, jf, k = code[at]
        at += 1
        if op == 0x20:
            a = struct.unpack_from("=I", data, k)[0]
        elif op == 0x54:
            a &= k
        elif op == 0x05:
            at += k
        elif op in (0x15, 0x35):
            at += jt if (a == k if op == 0x15 else a >= k) else jf
        else:
            assert op == 0x06
            return k


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filters_allow_exactly_what_they_should(machine: str) -> None:
    numbers, arch = TABLES[machine]
    allow, refuse, missing, kill = 0x7FFF0000, 0x50001, 0x50026, 0x80000000
    python = bpf.program(machine, 77, "python")
    plain = set(bpf._PLAIN)
    conditional = {"fcntl", "ioctl", "prctl", "prlimit64", "kill", "tgkill", "socketpair", "sendto", "clone"}
    by_number = {number: name for name, number in numbers.items()}
    for number in range(600):
        name = by_number.get(number, "")
        if name in conditional:
            continue
        wanted = allow if name in plain else missing if name in ("clone3", "openat2") else refuse
        assert _verdict(python, arch, number) == wanted, (number, name)
    assert _verdict(python, arch ^ 1, 0) == kill
    assert _verdict(python, arch, 0x40000000) == kill
    for name, args, wanted in (
        ("clone", (0x00010100,), allow),
        ("clone", (17,), refuse),
        ("clone", (0x00010000,), refuse),
        ("kill", (77, 9), allow),
        ("kill", (1, 9), refuse),
        ("kill", ((1 << 32) - 1, 9), refuse),
        ("fcntl", (0, 8), refuse),
        ("fcntl", (0, 1030), allow),
        ("ioctl", (0, 0x5412), refuse),
        ("socketpair", (1, 1), allow),
        ("socketpair", (1, 2), refuse),
        ("socketpair", (2, 1), refuse),
        ("sendto", (3, 0, 0, 0, 0), allow),
        ("sendto", (3, 0, 0, 0, 1 << 40), refuse),
        ("sendto", (3, 0, 0, 0, 4096), refuse),
    ):
        assert _verdict(python, arch, numbers[name], args) == wanted, (name, args)
    native = bpf.program(machine, 1, "native")
    assert _verdict(native, arch, numbers["execveat"], (bpf.EXEC_FD, 0, 0, 0, 0x1000)) == allow
    assert _verdict(native, arch, numbers["execveat"], (3, 0, 0, 0, 0x1000)) == refuse
    assert _verdict(native, arch, numbers["execve"]) == refuse


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.integers(min_value=1 << 5000, max_value=1 << 5001)
    | st.floats(allow_nan=False) | st.text() | st.binary() | st.complex_numbers(allow_nan=False)
    | st.decimals(allow_nan=False) | st.fractions() | st.datetimes() | st.timedeltas(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner)
    | st.sets(st.integers()) | st.frozensets(st.text()),
    max_leaves=20,
)  # fmt: skip


def _refuse(value: object) -> Any:
    raise Refused(str(value))


@given(PLAIN)
@settings(max_examples=200, deadline=None)
def test_values_travel_unchanged(value: Any) -> None:
    import json

    encoded, heap = Codec("a", _refuse, _refuse).encode([value])
    message = json.loads(json.dumps([encoded, heap]))
    back = Codec("b", _refuse, _refuse).decode(*message)[0]
    assert back == value
    assert type(back) is type(value)


def test_identity_and_cycles_travel() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    shared = [0]
    encoded, heap = Codec("a", _refuse, _refuse).encode([loop, (shared, shared)])
    first, pair = Codec("b", _refuse, _refuse).decode(encoded, heap)
    assert first[1] is first
    assert pair[0] is pair[1]


@pytest.mark.parametrize(
    "bad",
    [
        [["@", "x"]],
        [["?"]],
        [["o"]],
        [["T", "eval"]],
        [["t", 3]],
        [["b", "zz"]],
        [["n", "A", []]],
        [["r", 1, 2, 0]],
        [[]],
    ],
)
def test_nonsense_is_refused(bad: list[Any]) -> None:
    with pytest.raises(Refused):
        Codec("b", _refuse, _refuse).decode(bad, {})


def test_an_answer_cannot_change_what_an_object_is() -> None:
    codec = Codec("b", _refuse, _refuse)
    codec.shared = {"Node": type("Node", (), {})}
    with pytest.raises(Refused):
        codec.decode([["@", "x"]], {"x": ["o", "Node", [["__class__", ["T", "int"]]]]})
