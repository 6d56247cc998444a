"""Programmatic verification: does a problem have tests that its own solution passes?"""

from __future__ import annotations

from .engine import LIMITS, VERSION, verify_code, verify_problem
from .verdict import Attempt, Outcome, Verdict

__all__ = ["LIMITS", "VERSION", "Attempt", "Outcome", "Verdict", "verify_code", "verify_problem"]
