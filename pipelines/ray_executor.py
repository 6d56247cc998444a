"""Work on a Ray cluster: the same map, over tasks that any node may run and run again."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Any

from pipelines.executor import R, Runs, T
from schemas.errors import RecipeError, RunError
from stages.contract import Needs

_RETRIES = 5
_AHEAD = 2
"""Tasks in flight per CPU of the cluster: enough to keep every worker busy, few enough to bound what waits."""


class RayExecutor:
    """Maps functions over tasks on the cluster at RAY_ADDRESS, or on a Ray of this machine's own.

    Tasks name files, so every node must see the same store and output directory (a shared filesystem) and have
    Curatrix installed. A task whose worker or node is lost is run again on another, up to five times.
    """

    def __init__(self, address: str | None = None) -> None:
        self._address = address or os.environ.get("RAY_ADDRESS")

    def __enter__(self) -> RayExecutor:
        ray = _ray()
        try:
            ray.init(self._address, log_to_driver=False, logging_level="error", configure_logging=False)
        except ConnectionError as error:
            raise RunError(f"no Ray cluster at {self._address}: {error}; start one with `ray start --head`") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _ray().shutdown()

    def map(
        self, function: Callable[[T], R], tasks: Iterable[T], runs_in: Runs = "process", needs: Needs = Needs()
    ) -> Iterator[R]:
        """Results in the order of the tasks. Raises what `function` raises, RunError if a task kept losing workers."""
        ray = _ray()
        remote = ray.remote(function).options(
            num_cpus=needs.cpus, num_gpus=needs.gpus, memory=needs.memory_mb << 20 or None, max_retries=_RETRIES,
            name=getattr(function, "__name__", "task"),
        )  # fmt: skip
        flying: deque[Any] = deque()
        try:
            for task in tasks:
                flying.append(remote.remote(task))
                if len(flying) >= _AHEAD * _cpus(ray):
                    yield _result(ray, flying.popleft())
            while flying:
                yield _result(ray, flying.popleft())
        finally:
            for reference in flying:
                ray.cancel(reference)


def _result(ray: Any, reference: Any) -> Any:
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise error.cause from error
    except ray.exceptions.RayError as error:
        raise RunError(
            f"the Ray cluster lost a task {_RETRIES} times ({type(error).__name__}), most likely for lack of memory; "
            "what was finished is kept: run the same command again"
        ) from error


def _cpus(ray: Any) -> int:
    """CPUs of the cluster as it is now; nodes come and go."""
    return max(1, int(ray.cluster_resources().get("CPU", 1)))


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise RecipeError("--executor ray needs the package ray: pip install 'curatrix[ray]'") from error
    return ray
