"""What a run tells machines: JSON lines, and OpenTelemetry over HTTP to a collector of the test's own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from makes import alpaca_rows, write_jsonl, write_recipe

Received = list[tuple[str, bytes]]


@pytest.fixture
def collector() -> Iterator[tuple[str, Received]]:
    """Its address, and what it has received as (path, body)."""
    received: Received = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append((self.path, self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()


def _run(folder: Path, **settings: str) -> str:
    write_jsonl(folder / "rows.jsonl", alpaca_rows(20))
    recipe = write_recipe(folder, stages=["dedup"])
    environment = {**os.environ, "CURATRIX_STORE": str(folder / "store"), **settings}
    command = [sys.executable, "-m", "cli", "run", str(recipe), "--out", str(folder / "out")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=True).stderr


def test_spans_and_counters_reach_the_collector(tmp_path: Path, collector: tuple[str, Received]) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    address, received = collector
    _run(tmp_path, OTEL_EXPORTER_OTLP_ENDPOINT=address, OTEL_EXPORTER_OTLP_COMPRESSION="none")
    spans = b"".join(body for path, body in received if path == "/v1/traces")
    metrics = b"".join(body for path, body in received if path == "/v1/metrics")
    assert all(step in spans for step in (b"ingest", b"dedup", b"export", b"20 in, 20 kept"))
    assert b"curatrix.rows" in metrics


def test_json_lines(tmp_path: Path) -> None:
    events = [json.loads(line) for line in _run(tmp_path, CURATRIX_LOG="json").splitlines() if line.startswith("{")]
    assert [(event["event"], event["step"]) for event in events] == [
        (kind, step) for step in ("ingest", "dedup", "export") for kind in ("start", "finish")
    ]
    assert all(event["seconds"] >= 0 for event in events if event["event"] == "finish")
