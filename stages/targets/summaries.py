"""Mode r3: summaries from a model, asked for ahead of need and given in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from stages.llm.client import Client
from stages.llm.endpoint import Budget, Endpoint
from stages.llm.journal import Journal
from stages.llm.ordered import in_order
from stages.llm.request import Reply, or_stop
from stages.targets.choose import Settings, choose, result
from stages.targets.prompts import Template, request
from stages.targets.response import Row


class Summariser(NamedTuple):
    """Who is asked for summaries, how, and what for at most."""

    endpoint: Endpoint
    budget: Budget
    template: Template
    max_words: int
    replay: tuple[str, ...]

    def stream(
        self, batches: Iterator[pa.RecordBatch], settings: Settings, folder: Path
    ) -> Iterator[list[dict[str, Any]]]:
        """Result columns for every row of every batch, one list per batch.

        Raises RunError or GateError (budget) where no further reply can be had in this run; what came so far has been
        handed out or lies in the journal in `folder`.
        """
        sizes: deque[int] = deque()

        def rows() -> Iterator[Row]:
            for batch in batches:
                sizes.append(batch.num_rows)
                yield from batch.to_pylist()

        with Journal(folder, [Path(path) for path in self.replay]) as journal:
            client = Client(self.endpoint, journal, self.budget)

            async def work(row: Row) -> dict[str, Any]:
                return await self._result(row, settings, client)

            done: list[dict[str, Any]] = []
            for found in in_order(rows(), work, 4 * self.endpoint.concurrency, [client]):
                done.append(found)
                if len(done) == sizes[0]:
                    sizes.popleft()
                    yield done
                    done = []

    async def _result(self, row: Row, settings: Settings, client: Client) -> dict[str, Any]:
        choice = choose(row, settings)
        if choice.status is not None or choice.response is None:
            return result(choice, settings)
        wanted = request(self.template, choice.response, self.max_words)
        reply = or_stop(await client.ask(replace(wanted, about=row["content_hash"])))
        paid: dict[str, Any] = {"prompt_version": self.template.version, "model": self.endpoint.model}
        if isinstance(reply, Reply):
            paid |= {"tokens_in": reply.tokens_in, "tokens_out": reply.tokens_out, "cost": reply.cost}
        return {**result(choice, settings, reply), **paid}
