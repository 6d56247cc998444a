"""Models, rows and the other engine (kronfluence) that the benchmarks of stages/influence share."""

from __future__ import annotations

import subprocess
import sysconfig
import tempfile
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from stages.influence import Batches, Layers, encode

LENGTH, VOCABULARY = 64, 1024


def llama(hidden: int, layers: int, vocabulary: int = VOCABULARY) -> LlamaForCausalLM:
    """A small model with random weights and grouped-query attention."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=hidden * 8 // 3 // 4 * 4, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=4 * LENGTH, attn_implementation="sdpa",
    )  # fmt: skip
    return LlamaForCausalLM(config)


def random_rows(count: int, length: int, seed: int = 0) -> Batches:
    """Rows of `length` random tokens."""
    ids = np.random.default_rng(seed).integers(0, VOCABULARY, (count, length))
    return encode(list(ids), context=length, tokens=16 * length)


def joined(several: Sequence[Batches]) -> Batches:
    """The rows of all of them."""
    return encode([ids for one in several for ids in one.ids], context=4 * LENGTH)


def peer(
    folder: Path, model: LlamaForCausalLM, layers: Layers, sets: Mapping[str, Batches], repeats: int = 1
) -> Mapping[str, Any]:
    """What bench/quad_kronfluence.py finds for the same model, matrices and rows."""
    with tempfile.TemporaryDirectory() as work:
        model.save_pretrained(Path(work, "model"))
        arrays: dict[str, Any] = {}
        for name, one in sets.items():
            (batch,) = encode(one.ids, context=one.lengths.max(), tokens=one.lengths.max() * len(one))
            arrays |= {name: batch.ids[np.argsort(batch.rows)], f"{name}_real": batch.real[np.argsort(batch.rows)]}
        modules = [path for block in layers for path in block.members]
        np.savez(Path(work, "rows.npz"), **arrays, modules=modules, batch=16, repeats=repeats)
        script = Path(__file__).with_name("quad_kronfluence.py")
        subprocess.run([interpreter(folder), script, work], check=True, stdout=subprocess.DEVNULL)
        return dict(np.load(Path(work, "found.npz")))


def interpreter(folder: Path) -> Path:
    """A Python with kronfluence, and with torch and transformers of this one."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        paths = sysconfig.get_paths(vars={"base": str(folder), "platbase": str(folder)})
        Path(paths["purelib"], "outer.pth").write_text(sysconfig.get_paths()["purelib"])
        subprocess.run([python, "-m", "pip", "install", "-q", "kronfluence==1.0.1"], check=True)
    return python
