"""Tokens per second of the fine-tuning job against TRL's SFTTrainer, and the share of time it waits for data.

    python bench/sft.py [--rows 400] [--steps 20] [--repeats 3] [--model FOLDER] [--device cpu] [--peak TFLOPS]

Both train the same model on the same conversations with the same settings: packing (best fit, longest first), a loss
on the assistant's tokens only, batch, accumulation, optimizer, precision. Without --model, a small random Llama and a
byte-level tokenizer are made. They take turns; the medians are printed as Markdown. Preparation (tokens, packing) is
timed apart from training. With --peak, the device's TFLOP/s, MFU is 6 * parameters * tokens/s over that peak.

    python bench/sft.py --lengths 1000000

packs that many lengths (log-normal, median 400, at most 8,192) and compares with first fit in order of arrival, on the
first 20,000 of them since that is quadratic.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
import transformers
import yaml
from datasets import Dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from trl import SFTConfig, SFTTrainer

from jobs.packing import pack
from jobs.sft import finetune
from jobs.sft_config import build_config
from pipelines.executor import LocalExecutor
from pipelines.exporting import export_run
from pipelines.progress import Silent
from pipelines.recipe_file import load_recipe
from pipelines.run import Settings, run
from pipelines.store import Store

TEMPLATE: Final = (
    "{% for m in messages %}<|{{ m.role }}|>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}</s>"
    "{% endgeneration %}{% else %}{{ m.content }}</s>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


class Timed(NamedTuple):
    """One training: tokens per second of wall and of CPU time, seconds before the first step, share of waiting."""

    wall: float
    cpu: float
    preparing: float
    waiting: float


class _Watch(transformers.TrainerCallback):
    """Wall and CPU time from the second step to the last: the first one warms up."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self.marks.append((time.perf_counter(), time.process_time()))


def conversations(folder: Path, rows: int) -> Path:
    """A run of made conversations whose lengths spread as real ones do."""
    rng = random.Random(0)
    words = [f"word{number}" for number in range(500)]

    def said(mean: float) -> str:
        return " ".join(rng.choices(words, k=max(2, int(rng.lognormvariate(mean, 0.7)))))

    lines = [
        {"messages": [{"role": "user", "content": said(2)}, {"role": "assistant", "content": said(3)}]}
        for _ in range(rows)
    ]
    Dataset.from_list(lines).to_json(folder / "rows.jsonl")
    recipe = {"name": "bench", "sources": [{"name": "rows", "path": "rows.jsonl"}]}
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe))
    with LocalExecutor(1) as executor:
        settings = Settings(folder / "run", Store(folder / "store"), executor, Silent(), lambda *_: {})
        run(load_recipe(folder / "recipe.yaml", ()), settings)
    return folder / "run"


def small_model(folder: Path, context: int) -> Path:
    """A random Llama of two layers, width 64."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({token: at for at, token in enumerate(["<s>", "</s>", *alphabet])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", pad_token="</s>"
    )
    tokenizer.chat_template = TEMPLATE
    config = transformers.LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=172, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=context,
    )  # fmt: skip
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def ours(directory: Path, model: Path, out: Path, given: argparse.Namespace) -> Timed:
    """The job."""
    from jobs import sft_trainer

    watch, clocks = _Watch(), []
    keep = sft_trainer.SftTrainer.train_on

    def watched(self: Any, checkpoint: Any) -> None:
        self.add_callback(watch)
        keep(self, checkpoint)
        clocks.append(self.clock)

    sft_trainer.SftTrainer.train_on = watched  # type: ignore[method-assign]
    started = time.perf_counter()
    try:
        result = finetune(directory, build_config(_settings(model, out, given)))
    finally:
        sft_trainer.SftTrainer.train_on = keep  # type: ignore[method-assign]
    preparing = time.perf_counter() - started - clocks[0].seconds
    tokens = clocks[0].tokens / result["steps"]
    return _rates(watch, tokens, preparing, clocks[0].waiting / clocks[0].seconds)


def _settings(model: Path, out: Path, given: argparse.Namespace) -> dict[str, Any]:
    return {
        "model": str(model), "out": str(out), "context": given.context, "batch": given.batch, "accumulate": 2,
        "max_steps": given.steps, "lr": 1e-4, "schedule": "constant", "warmup": 0, "save_steps": 10_000,
        "log_steps": 10_000, "cpu": given.device == "cpu",
    }  # fmt: skip


def theirs(rows: Dataset, model: Path, out: Path, given: argparse.Namespace) -> Timed:
    """TRL's trainer."""
    started = time.perf_counter()
    cuda = given.device != "cpu"
    settings = SFTConfig(
        output_dir=str(out), max_length=given.context, packing=True, assistant_only_loss=True,
        per_device_train_batch_size=given.batch, gradient_accumulation_steps=2, max_steps=given.steps,
        learning_rate=1e-4, lr_scheduler_type="constant", save_strategy="no", logging_steps=given.steps,
        report_to="none", use_cpu=not cuda, bf16=cuda, gradient_checkpointing=False, disable_tqdm=True,
    )  # fmt: skip
    watch = _Watch()
    loaded = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(model)
    trainer = SFTTrainer(loaded, settings, train_dataset=rows, processing_class=tokenizer, callbacks=[watch])
    preparing = time.perf_counter() - started
    trainer.train()
    counted = [entry["num_tokens"] for entry in trainer.state.log_history if "num_tokens" in entry]
    return _rates(watch, counted[-1] / given.steps, preparing, float("nan"))


def _rates(watch: _Watch, per_step: float, preparing: float, waiting: float) -> Timed:
    (first, first_cpu), (last, last_cpu) = watch.marks[0], watch.marks[-1]
    tokens = per_step * (len(watch.marks) - 1)
    return Timed(tokens / (last - first), tokens / (last_cpu - first_cpu), preparing, waiting)


def packing(count: int, context: int = 8192) -> None:
    """Print time and efficiency of packing."""
    lengths = np.clip(np.random.default_rng(0).lognormal(6, 1.2, count), 8, context).astype(int)
    pack(lengths[:2], context)  # compiled
    started = time.process_time()
    packs = pack(lengths, context)
    seconds = time.process_time() - started
    few = lengths[:20_000]
    rooms: list[int] = []
    for length in few.tolist():
        at = next((at for at, room in enumerate(rooms) if room >= length), None)
        if at is None:
            rooms.append(context - length)
        else:
            rooms[at] -= length
    fitted = few.sum() / (len(rooms) * context)
    print(f"{count:,} lengths in {seconds:.2f} CPU seconds, efficiency {packs.efficiency:.4%}")
    print(f"{len(few):,} lengths: {pack(few, context).efficiency:.4%}; first fit: {fitted:.4%}")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    for name, default in (("rows", 400), ("steps", 20), ("repeats", 3), ("context", 512), ("batch", 4)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--lengths", type=int, help="only pack this many lengths")
    parser.add_argument("--model", type=Path)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--peak", type=float, help="the device's TFLOP/s in the precision used")
    given = parser.parse_args()
    if given.lengths:
        packing(given.lengths)
        return
    torch.set_num_threads(1 if given.device == "cpu" else torch.get_num_threads())
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        directory = conversations(folder, given.rows)
        model = given.model or small_model(folder / "model", given.context)
        export_run(directory, "messages", folder / "messages", lines=True)
        rows = Dataset.from_json(str(folder / "messages/data/*.jsonl")).select_columns(["messages"])
        both: dict[str, list[Timed]] = {"jobs/sft.py": [], "TRL SFTTrainer": []}
        for turn in range(given.repeats):
            both["jobs/sft.py"].append(ours(directory, model, folder / f"ours{turn}", given))
            both["TRL SFTTrainer"].append(theirs(rows, model, folder / f"theirs{turn}", given))
        _print(both, model, given)


def _print(both: dict[str, list[Timed]], model: Path, given: argparse.Namespace) -> None:
    shape = f"{given.steps} steps, {given.batch} x 2 packs of {given.context} tokens, {given.device}"
    print(f"{shape}; medians of {given.repeats}\n")
    print(
        "| | tokens/s | tokens per CPU second | preparation, s | waiting for data |" + (" MFU |" if given.peak else "")
    )
    print("|---|---|---|---|---|" + ("---|" if given.peak else ""))
    size = transformers.AutoModelForCausalLM.from_pretrained(model).num_parameters()
    for name, times in both.items():
        wall, cpu, preparing, waiting = (statistics.median(values) for values in zip(*times, strict=True))
        share = "–" if waiting != waiting else f"{waiting:.2%}"
        mfu = f" {6 * size * wall / (given.peak * 1e12):.1%} |" if given.peak else ""
        print(f"| {name} | {wall:,.0f} | {cpu:,.0f} | {preparing:.2f} | {share} |{mfu}")


if __name__ == "__main__":
    main()
