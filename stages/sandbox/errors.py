"""What the sandbox raises. Standard library only, so that the sandbox works without the rest of Curatrix."""

from __future__ import annotations

from schemas.errors import RunError


class SandboxError(RunError):
    """The sandbox cannot run here, or could not be brought back to life."""
