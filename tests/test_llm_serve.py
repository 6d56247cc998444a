"""The client against `transformers serve` with a tiny random model: a real server, offline."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import pytest

from stages.llm import Client, Endpoint, Journal, NoReply, Reply, Request, in_order, reachable

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SCHEMA = {"type": "object", "properties": {"answer": {"type": "string"}}, "required": ["answer"]}


def make_model(folder: Path) -> Path:
    """A Llama of two layers with random weights, and a tokenizer trained here."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(0)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "</s>", "<|user|>", "<|assistant|>", "<|system|>"]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(["What is the sum of two and two? It is four."] * 20, trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="</s>")
    fast.chat_template = TEMPLATE
    fast.save_pretrained(folder)
    config = LlamaConfig(
        vocab_size=len(fast), hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The server's base URL and the model's folder, which is its name too."""
    model = make_model(tmp_path_factory.mktemp("tiny-llama"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", "--host", "127.0.0.1", "--port", str(port)]
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    log = (model / "serve.log").open("wb")
    process = subprocess.Popen([*command, "--device", "cpu"], env=os.environ | offline, stdout=log, stderr=log)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, model / "serve.log")
        yield f"http://127.0.0.1:{port}/v1", model
    finally:
        process.terminate()
        process.wait(20)
        log.close()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(2000):
        assert process.poll() is None, log.read_text()[-2000:]
        try:
            with urlopen(url, timeout=1):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise AssertionError(log.read_text()[-2000:])


def ask(number: int, schema: bool = False) -> Request:
    text = f"What is the sum of {number} and two?"
    return Request(({"role": "user", "content": text},), "t@1", max_tokens=12, json_schema=SCHEMA if schema else None)


def run(end: Endpoint, folder: Path, requests: Sequence[Request]) -> tuple[list[Reply | NoReply], Client]:
    with Journal(folder) as journal:
        client = Client(end, journal)
        return list(in_order(requests, client.ask, 64, [client])), client


@pytest.mark.parametrize("schema", [False, True])
def test_a_real_server_answers(served: tuple[str, Path], tmp_path: Path, schema: bool) -> None:
    url, model = served
    end = Endpoint(url=url, model=str(model), concurrency=8, timeout_s=120)
    reachable(end)  # its /models may answer 500 offline: it is there all the same
    requests = [ask(number, schema) for number in range(24)]
    found, client = run(end, tmp_path, requests)
    assert [one for one in found if isinstance(one, NoReply) and one.kind != "empty"] == []
    replies = [one for one in found if isinstance(one, Reply)]
    assert len(replies) >= 20
    for one in replies:
        assert one.text
        assert one.finish_reason in ("stop", "length")
        assert 0 < one.tokens_out <= 12
        assert 5 < one.tokens_in < 120
    assert client.usage.answered == len(replies)
    assert client.usage.estimated == 0
    lines = (tmp_path / "journal-0001.jsonl").read_bytes().splitlines()
    assert len([line for line in lines if json.loads(line)["ok"]]) == len(replies)
    again, second = run(Endpoint(model=str(model)), tmp_path, requests)
    assert [one.text for one in again if isinstance(one, Reply)] == [one.text for one in replies]
    assert second.usage.answered == 0


def test_a_model_that_is_not_there(served: tuple[str, Path], tmp_path: Path) -> None:
    url, model = served
    end = Endpoint(url=url, model=str(model / "nothing"), timeout_s=60, max_attempts=2)

    async def main() -> Reply | NoReply:
        async with Client(end) as client:
            return await client.ask(ask(1))

    answer = asyncio.run(main())
    assert isinstance(answer, NoReply)
    assert answer.detail
