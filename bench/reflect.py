"""`reflect` on real instructions from end to end: which records are rewritten, and why the others are not.

    python bench/reflect.py rules FILE            the rules in pipelines/demo/teacher.py answer
    python bench/reflect.py transformers FILE     `transformers serve` answers, with a tiny random Llama made here

FILE: instruction data in any format `curate` reads. The command prints one JSON object: statuses (without their
particulars), requests, replies per second, and CPU seconds of the run's own process. A random model writes nothing that
can be used: what its figures show is that every gate and every failure ends in a status, and the run in a dataset.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from pipelines.demo.teacher import serving
from pipelines.executor import LocalExecutor
from pipelines.progress import Silent
from pipelines.recipe_file import load_recipe
from pipelines.run import Settings, run
from pipelines.store import Store
from reports.catalog import open_views
from reports.manifest import load, run_dir

PORT = 8791
TEMPLATE = "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}assistant: "


def main() -> None:
    """Run, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("teacher", choices=["rules", "transformers"])
    parser.add_argument("file", type=Path)
    parser.add_argument("--records", type=int, default=1000)
    parser.add_argument("--concurrency", type=int, default=32)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with serving() if given.teacher == "rules" else transformers_server(folder / "model", given.file) as url:
            model = "rules" if given.teacher == "rules" else str(folder / "model")
            endpoint = {"url": url, "model": model, "concurrency": given.concurrency, "max_tokens": 2048}
            endpoint |= {} if given.teacher == "rules" else {"max_tokens": 16, "structured": "off"}
            print(json.dumps(measured(folder, given.file.resolve(), given.records, endpoint), indent=1))


def measured(folder: Path, file: Path, records: int, endpoint: dict[str, Any]) -> dict[str, Any]:
    """One run of a recipe with nothing but `reflect`."""
    recipe = folder / "recipe.yaml"
    sources = [{"name": "rows", "path": str(file)}]
    recipe.write_text(yaml.safe_dump({"sources": sources, "stages": [{"reflect": {"endpoint": endpoint}}]}))
    store = Store(folder / "store")
    before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
    with LocalExecutor(1) as executor:
        run(load_recipe(recipe, []), Settings(folder / "out", store, executor, Silent(), lambda *_: {}, records))
    wall, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    with open_views(run_dir(folder / "out"), load(folder / "out")) as catalog:
        reasons = Counter(
            row["reason"].partition(";")[0]
            for row in catalog.rows("SELECT reason FROM decisions WHERE stage = 'reflect'")
        )
    replies = sum(1 for path in store.journal("reflect").glob("*.jsonl") for _ in path.open("rb"))
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {
        "records": reasons.total(), "statuses": dict(reasons.most_common()), "requests": replies,
        "per_second": round(replies / wall, 1), "cpu_s": round(cpu, 2),
    }  # fmt: skip


@contextmanager
def transformers_server(folder: Path, file: Path) -> Iterator[str]:
    """`transformers serve` with a random two-layer Llama and a tokenizer trained on `file`."""
    make_model(folder, file)
    command = [str(Path(sys.executable).parent / "transformers"), "serve", "--port", str(PORT), "--device", "cpu"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{PORT}/health", process)
        yield f"http://127.0.0.1:{PORT}/v1"
    finally:
        process.terminate()
        process.wait()


def wait_for(url: str, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    """Wait until something answers at `url`."""
    for _ in range(int(seconds * 5)):
        if process.poll() is not None:
            raise SystemExit(f"the server ended with status {process.returncode}")
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except OSError as error:
            if hasattr(error, "code"):  # it answers, if only to say that there is no such page
                return
        time.sleep(0.2)
    raise SystemExit(f"nothing answers at {url}")


def make_model(folder: Path, file: Path) -> None:
    """A random Llama and its tokenizer."""
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    from pipelines.readers import decode, read_chunks, sniff

    sniffed = sniff(str(file), "auto")
    rows = [row.raw.decode() for chunk in read_chunks(str(file), sniffed) for row in decode(chunk)]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=4096, special_tokens=["<s>", "</s>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(rows, trainer)
    fast = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    fast.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(fast), hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=8192, eos_token_id=fast.eos_token_id, bos_token_id=fast.bos_token_id,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    fast.save_pretrained(folder)


if __name__ == "__main__":
    main()
