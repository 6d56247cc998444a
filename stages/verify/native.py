"""Programs in other languages, through the same sandbox, where their toolchain is installed."""

from __future__ import annotations

import os
import re
import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from stages.sandbox import Limits, Process, Result, Sandbox

from . import runners
from .problem import Problem, Program
from .repeat import twice
from .verdict import Attempt, Outcome

_COMPILING: Final = Limits(cpu_s=60, memory_mb=2048, output_bytes=64 << 20, processes=64)
_NODE_START: Final = 512  # MiB that node itself needs besides its heap
_NODE_ENV: Final = {"OPENSSL_CONF": "/dev/null"}  # where /etc cannot be read
_BOOT: Final = """(()=>{
const fs=require('fs'),{Module}=require('module'),util=require('util');
const d=JSON.parse(fs.readFileSync(3,'utf8'));fs.closeSync(3);
const read=fs.readFileSync;fs.readFileSync=(p,...o)=>read(p==='/dev/stdin'?0:p,...o);
const write=fs.writeSync,text=JSON.stringify,load=Module._load,same=util.isDeepStrictEqual;
Module._load=function(n,...r){return n==='lodash'?{isEqual:same}:load.call(this,n,...r)};
const go=s=>{const m=new Module('/main.js');m.filename='/main.js';m.paths=[];m._compile(s,'/main.js')};
if(!d.nonce){go(d.code);return}
Object.freeze(require('assert'));Object.freeze(require('assert').strict);
let error='';try{go(d.code+'\\n'+d.tests)}catch(e){error=String((e&&e.message)||e)||'error'}
write(4,text({name:'the whole test source',ok:!error,error,nonce:d.nonce})+'\\n'+text({done:1,nonce:d.nonce})+'\\n');
})()"""
_MAIN: Final = re.compile(r"\bint\s+main\s*\([^)]*\)\s*\{")


def toolchain(language: str) -> str | None:
    """The path of what runs or compiles a language, where the sandbox can see it."""
    names = {"javascript": "node", "cpp": "g++", "c": "gcc"}
    found = shutil.which(names.get(language, "")) if language in names else None
    real = os.path.realpath(found) if found else ""
    return real if real.startswith(("/usr/", "/bin/")) else None


def run(problem: Problem, program: Program, sandbox: Sandbox, limits: Limits, stop_early: bool) -> Attempt | str:
    """A program in JavaScript, C or C++ against stdin/stdout tests or test source; or why that is not possible."""
    tool = toolchain(program.language)
    if tool is None:
        return f"no toolchain for {program.language}"
    if problem.kind not in ("stdio", "source"):
        return f"{problem.kind} tests are not run for {program.language}"
    if program.language == "javascript":
        return _javascript(problem, program, sandbox, _without_address_space(limits), tool, stop_early)
    return _compiled(problem, program, sandbox, limits, tool, stop_early)


def execute(program: Program, sandbox: Sandbox, limits: Limits) -> Callable[[bytes], Result] | str:
    """A function that runs the program with a given standard input; or why there is none. Compiles once."""
    if program.language == "python":
        return lambda data: sandbox.run_python(program.code, data, limits)
    tool = toolchain(program.language)
    if tool is None:
        return f"no toolchain for {program.language}"
    if program.language == "javascript":
        payload = {"code": program.code}
        return lambda data: sandbox.run(_node(tool, payload, data, _without_address_space(limits)))
    compiled = _compile(program.code, program.language, tool, sandbox)
    return compiled if isinstance(compiled, str) else _Binary(compiled, sandbox, limits)


def _without_address_space(limits: Limits) -> Limits:
    return replace(limits, memory_mb=limits.memory_mb + _NODE_START)


def _node(tool: str, payload: dict[str, Any], data: bytes, limits: Limits) -> Process:
    heap = f"--max-old-space-size={limits.memory_mb - _NODE_START}"
    started = {"keep": True, "argv": ["node", heap, "--stack-size=3900", "-e", _BOOT], "env": _NODE_ENV, **payload}
    return Process("native", started, data, limits, program=tool, stack_mb=8)


def _javascript(
    problem: Problem, program: Program, sandbox: Sandbox, limits: Limits, tool: str, stop_early: bool
) -> Attempt:
    if problem.kind == "stdio":
        payload = {"code": program.code}
        return runners.stdio(problem, lambda data: sandbox.run(_node(tool, payload, data, limits)), sandbox, stop_early)
    nonce = secrets.token_hex(16)
    payload = {"code": program.code, "tests": problem.test_code, "nonce": nonce}
    return twice(sandbox, lambda: runners.whole_source(sandbox.run(_node(tool, payload, b"", limits)), nonce))


class _Binary:
    """A compiled program, kept in memory for as long as it is needed."""

    def __init__(self, image: bytes, sandbox: Sandbox, limits: Limits) -> None:
        self.fd = _sealed(image)
        self.sandbox = sandbox
        self.limits = limits

    def __call__(self, data: bytes) -> Result:
        payload = {"argv": ["program"], "env": {}}
        return self.sandbox.run(Process("native", payload, data, self.limits, binary=self.fd, stack_mb=512))

    def __del__(self) -> None:
        os.close(self.fd)


def _sealed(image: bytes) -> int:
    """A read-only descriptor: a file that somebody could still write to cannot be executed."""
    fd = os.memfd_create("program", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(fd), "wb") as file:
            file.write(image)
        return os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        os.close(fd)


def _compile(code: str, language: str, tool: str, sandbox: Sandbox) -> bytes | str:
    """The program's image, or the compiler's first complaint."""
    source, standard = ("main.c", "-std=c17") if language == "c" else ("main.cpp", "-std=c++17")
    argv = [tool, "-O2", standard, "-w", "-o", "program", source, "-lm"]
    payload = {"files": {source: code}, "argv": argv, "made": "program"}
    result = sandbox.run(Process("compile", payload, limits=_COMPILING, stack_mb=64))
    if result.status == "passed" and result.returned:
        return result.returned
    errors = [line for line in result.err.splitlines() if "error" in line]
    return "it does not compile: " + (errors[0] if errors else result.detail)


def _compiled(
    problem: Problem, program: Program, sandbox: Sandbox, limits: Limits, tool: str, stop_early: bool
) -> Attempt:
    nonce = secrets.token_hex(16)
    code = program.code if problem.kind == "stdio" else _with_tests(problem, program.code, nonce)
    image = _compile(code, program.language, tool, sandbox)
    if isinstance(image, str):
        total = max(1, len(problem.checks))
        return Attempt((Outcome("compilation", "runtime_error", detail=image),), total)
    binary = _Binary(image, sandbox, limits)
    if problem.kind == "stdio":
        return runners.stdio(problem, binary, sandbox, stop_early)
    return twice(sandbox, lambda: runners.whole_source(binary(b""), nonce))


def _with_tests(problem: Problem, code: str, nonce: str) -> str:
    """Program and tests in one source file; after the tests, a report that carries the nonce."""
    name = problem.entry
    tests = problem.test_code
    code = _MAIN.sub("static int main_of_program_() {", code, count=1)
    complete = bool(name) and re.search(rf"\b{re.escape(name)}\s*\(", code) is not None
    if complete:
        includes = [line for line in problem.prompt.splitlines() if line.startswith(("#include", "using "))]
        code = "\n".join([*includes, code])
        tests = re.sub(r"^\s*\}", "", tests, count=1)
    else:
        code = problem.prompt + code
    tests = _MAIN.sub("static int tests_main_() {", tests, count=1)
    at = tests.rfind("}")
    report = "".join(
        f'{{\\"{key}\\":{value},\\"nonce\\":\\"{nonce}\\"}}\\n'
        for key, value in (('name\\":1,\\"ok', "true"), ("done", 1))
    )
    body = f'tests_main_(); const char r[] = "{report}"; return write(4, r, sizeof r - 1) < 0;'
    end = f"\n#include <unistd.h>\nint main() {{ {body} }}"
    return f"#undef NDEBUG\n{code}\n{tests[:at]}\nreturn 0;\n{tests[at:]}{end}\n"
