"""Supervised fine-tuning of a causal language model on a finished run: `python -m jobs.sft JOB.yaml --data RUN`.

Reads the run's Parquet, applies the tokenizer's own chat template with a loss on what the assistant says, packs the
examples without letting them see each other, and trains with the trainer of `transformers`, fully or with LoRA. On
several GPUs: `torchrun --nproc-per-node 8 -m jobs.sft JOB.yaml`. A job that was killed goes on where it was.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobs.sft_config import SftConfig, load_config
from jobs.sft_data import Collator, EpochOrder, PackedRows, packed_rows
from jobs.sft_source import Source, open_source, open_tokens, tokens_key, units, write_tokens
from jobs.sft_trace import TRACE, claim, forget, newest, trace_of
from pipelines.files import write_json
from pipelines.formats.tokens import load_tokenizer
from schemas.errors import CuratrixError, RecipeError, RunError

if TYPE_CHECKING:
    from jobs.sft_trainer import SftTrainer

RESULT = "training.json"
MODEL = "model"


def finetune(directory: Path | None, config: SftConfig) -> dict[str, Any]:
    """Fine-tune on the run in `directory` (default: `config.data`).

    `config.out` gets `checkpoint-*`, the final `model` and `training.json`, which is also what is returned: `trace`
    (the run's fingerprint, the digests of its manifest and data, the settings), `data` (what became of the rows),
    `steps`, `loss` (the log), `speed`. Called again, it goes on from the newest checkpoint.

    Raises RecipeError for wrong settings, folders or models; RunError where the machine cannot do it.
    """
    from jobs.sft_trainer import training_arguments

    source = open_source(_directory(directory, config))
    tokenizer = load_tokenizer(config.tokenizer or config.model, config.chat_template)
    arguments = training_arguments(config)
    if arguments.n_gpu > 1:
        raise RunError(
            f"{arguments.n_gpu} GPUs and one process: start it with `torchrun --nproc-per-node {arguments.n_gpu} -m "
            "jobs.sft …`, or show it one GPU with CUDA_VISIBLE_DEVICES"
        )
    key = tokens_key(source, tokenizer, config.split, config.when_unstable)
    trace = trace_of(source, config, key, arguments.world_size)
    if arguments.process_index == 0:
        claim(config.out, trace)
    rows = _rows(config, arguments, tokenizer, source, key)
    trainer = _trainer(config, arguments, tokenizer, rows, trace)
    trainer.train_on(_checkpoint(config, arguments))
    return _finish(config, trainer, rows, trace)


def _directory(directory: Path | None, config: SftConfig) -> Path:
    found = directory or config.data
    if found is None:
        raise RecipeError("no run to learn from: give 'data' in the job or --data")
    return found


def _rows(config: SftConfig, arguments: Any, tokenizer: Any, source: Source, key: str) -> PackedRows:
    """Token files, written by all ranks together and mapped by each; packs, which each rank works out alike."""
    chosen = units(source, config.split)
    folder = config.out / "tokens" / key
    write_tokens(chosen, folder, tokenizer, config.when_unstable, arguments.process_index, arguments.world_size)
    arguments.distributed_state.wait_for_everyone()
    sequences = open_tokens(folder, len(chosen))
    if arguments.process_index == 0:
        for line in sequences.explained():
            print(line, file=sys.stderr)
    return packed_rows(sequences, config.context, config.overlong, config.overlong_filter, config.packing)


def _trainer(config: SftConfig, arguments: Any, tokenizer: Any, rows: PackedRows, trace: dict[str, Any]) -> SftTrainer:
    import transformers

    from jobs.neftune import Neftune
    from jobs.sft_model import load_model, pad_token
    from jobs.sft_trainer import Lines, SftTrainer, Traces

    transformers.set_seed(config.seed)  # adapters begin at random
    model, flat = load_model(config, arguments)
    noise = Neftune(config.neftune_alpha)
    noise.attach(model)
    trainer = SftTrainer(
        model=model,
        args=arguments,
        train_dataset=rows,
        data_collator=Collator(pad_token(tokenizer), config.packing, flat and config.packing),
        processing_class=tokenizer,
        callbacks=[Traces(trace), Lines()],
        order=EpochOrder(len(rows), config.seed),
        noise=noise,
        packing=config.packing,
    )
    trainer.remove_callback(transformers.PrinterCallback)
    return trainer


def _checkpoint(config: SftConfig, arguments: Any) -> Path | None:
    """The checkpoint to go on from; all ranks see the same."""
    if arguments.process_index == 0:
        newest(config.out) if config.resume else forget(config.out)
    arguments.distributed_state.wait_for_everyone()
    return newest(config.out)


def _finish(config: SftConfig, trainer: SftTrainer, rows: PackedRows, trace: dict[str, Any]) -> dict[str, Any]:
    trainer.save_model(str(config.out / MODEL))
    result = {
        "trace": trace,
        "data": rows.summary(),
        "steps": trainer.state.global_step,
        "loss": [
            {"step": entry["step"], "loss": entry["loss"]} for entry in trainer.state.log_history if "loss" in entry
        ],
        "speed": trainer.clock.summary(trainer.args.world_size),
    }
    if trainer.args.process_index == 0:
        write_json(config.out / MODEL / TRACE, trace)
        write_json(config.out / RESULT, result)
    return result


def main(words: Sequence[str] | None = None) -> int:
    """The command. Returns its exit status: 0, 1 where the job failed, 2 where it is wrong."""
    parser = argparse.ArgumentParser(prog="python -m jobs.sft", description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("job", type=Path, help="the job's YAML file")
    parser.add_argument("--data", type=Path, help="the run's directory")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a key of the job")
    given = parser.parse_args(words)
    try:
        config = load_config(given.job, given.set)
        result = finetune(given.data, config)
    except CuratrixError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_status
    print(json.dumps({key: result[key] for key in ("steps", "speed", "data")}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
