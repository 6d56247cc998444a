"""The trainer of `transformers` with what it lacks: noise by example, packs kept apart, an order that a resumed job
finds again, checkpoints that name their rows, and the time it waits for data."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers

from jobs.isolation import Method, isolation_method, packed_inputs
from jobs.neftune import Neftune
from jobs.sft_config import SftConfig
from jobs.sft_data import EpochOrder
from jobs.sft_trace import TRACE
from pipelines.files import write_json

_ALMOST = 1e-6
"""An epoch ends a rounding error below a whole number."""


@dataclass
class Clock:
    """What training cost on this rank: seconds in all, seconds waiting for batches, tokens that are no padding."""

    seconds: float = 0.0
    waiting: float = 0.0
    tokens: int = 0

    def summary(self, ranks: int) -> dict[str, float]:
        """Figures of the whole job, taking this rank for all."""
        seconds = self.seconds or 1.0
        return {
            "seconds": round(self.seconds, 3),
            "tokens_per_second": round(self.tokens * ranks / seconds, 1),
            "waiting_for_data": round(self.waiting / seconds, 6),
        }


class SftTrainer(transformers.Trainer):
    """`packing`: a line may hold several examples. RecipeError where the model cannot keep them apart."""

    def __init__(self, *, order: EpochOrder, noise: Neftune, packing: bool, **arguments: Any) -> None:
        self._order = order
        self._noise = noise
        self.clock = Clock()
        super().__init__(**arguments)
        self._method: Method | None = isolation_method(self.model, self.args.bf16) if packing else None
        self.add_callback(_Epochs(order))

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return self._order

    def compute_loss(self, model: Any, inputs: dict[str, Any], *given: Any, **named: Any) -> Any:
        """The model's own loss, with noise on the embeddings while it trains."""
        with self._noise.batch(inputs):
            if self._method is not None:
                whole: Any = self.model
                inputs = packed_inputs(inputs, self._method, whole.dtype)
            return super().compute_loss(model, inputs, *given, **named)

    def get_batch_samples(self, epoch_iterator: Any, num_batches: int, device: Any) -> Any:
        """The batches of one optimizer step; counts their tokens and the time they took."""
        started = time.perf_counter()
        batches, items = super().get_batch_samples(epoch_iterator, num_batches, device)
        self.clock.waiting += time.perf_counter() - started
        self.clock.tokens += sum(batch.pop("tokens", 0) for batch in batches)
        return batches, items

    def train_on(self, checkpoint: Path | None) -> None:
        """Train to the end, against the clock, from a checkpoint where there is one.

        From a checkpoint at the end of the training the trainer would take one step more where that is not the end of
        an epoch: there only the weights are loaded.
        """
        if checkpoint is not None:
            state = transformers.TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
            if state.global_step >= state.max_steps:
                self._load_from_checkpoint(str(checkpoint))
                self.state = state
                return
        started = time.perf_counter()
        self.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        self.clock.seconds += time.perf_counter() - started


class _Epochs(transformers.TrainerCallback):
    """Tells the order which epoch it is; the trainer's own way does not reach through all of accelerate's wrappers."""

    def __init__(self, order: EpochOrder) -> None:
        self._order = order

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        self._order.set_epoch(int((state.epoch or 0.0) + _ALMOST))


class Traces(transformers.TrainerCallback):
    """Writes the trace into every checkpoint, after all ranks have written theirs."""

    def __init__(self, trace: dict[str, Any]) -> None:
        self._trace = trace

    def on_save(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        args.distributed_state.wait_for_everyone()
        if args.process_index == 0:
            folder = Path(args.output_dir) / f"checkpoint-{state.global_step}"
            write_json(folder / TRACE, {**self._trace, "step": state.global_step})


class Lines(transformers.TrainerCallback):
    """A line per log entry on stderr."""

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **rest: Any) -> None:
        if args.process_index == 0 and logs and "loss" in logs:
            said = (
                f"step {state.global_step}/{state.max_steps}  loss {logs['loss']:.4f}  lr {logs['learning_rate']:.3g}"
            )
            print(said, file=sys.stderr, flush=True)


def training_arguments(config: SftConfig) -> transformers.TrainingArguments:
    """The job's settings in the words of `transformers`. Also joins the process group that torchrun announces."""
    cpu = config.cpu or not torch.cuda.is_available()
    bf16 = config.bf16 if config.bf16 is not None else not cpu and torch.cuda.is_bf16_supported()
    saving: dict[str, Any] = {"gradient_checkpointing": True} if config.gradient_checkpointing else {}
    return transformers.TrainingArguments(
        output_dir=str(config.out),
        per_device_train_batch_size=config.batch,
        gradient_accumulation_steps=config.accumulate,
        num_train_epochs=config.epochs,
        max_steps=config.max_steps or -1,
        learning_rate=config.lr,
        lr_scheduler_type=config.schedule,
        warmup_steps=config.warmup,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        optim=config.optimizer,
        bf16=bf16,
        use_cpu=cpu,
        save_strategy="steps",
        save_steps=config.save_steps,
        save_total_limit=config.keep_checkpoints,
        logging_steps=config.log_steps,
        logging_nan_inf_filter=False,
        seed=config.seed,
        dataloader_num_workers=config.workers,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        **saving,
    )
