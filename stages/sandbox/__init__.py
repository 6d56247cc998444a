"""A sandbox for untrusted programs: `from stages.sandbox import Sandbox, Limits`.

with Sandbox() as sandbox:
    result = sandbox.run_python("print(int(input()) * 2)", "21\\n", Limits(cpu_s=2))
    result.status, result.stdout          # 'passed', b'42\\n'
"""

from __future__ import annotations

from .errors import SandboxError
from .host import Sandbox, default_workers
from .model import Limits, Process, Result, Status, Tier, shorten
from .probe import Probe, probe, tier

__all__ = [
    "Limits",
    "Probe",
    "Process",
    "Result",
    "Sandbox",
    "SandboxError",
    "Status",
    "Tier",
    "default_workers",
    "probe",
    "shorten",
    "tier",
]
