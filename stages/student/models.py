"""Loading a causal language model from a local folder: never from the network, never with code of the model's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import orjson
import xxhash

from schemas.errors import RecipeError

_NEEDED: Final = ("torch", "transformers")
_BLOCK: Final = 1 << 22
_UNBOUNDED: Final = 1 << 24
"""Tokenizers that know no limit state one of 10^30; a model that states none is held to this."""


@dataclass(frozen=True)
class Student:
    """A causal language model ready to be asked.

    Attributes:
        model: the `transformers` (or `peft`) module, in evaluation mode, on `device`. It is shared by all who load the
            same folder: whoever changes it (hooks, `requires_grad_`) changes it back.
        tokenizer: its fast tokenizer.
        context: how many tokens it can look at, at most.
        device: where it lives, as torch names it.
        fingerprint: 32 hex digits of the content it was made of; equal for equal models anywhere.
    """

    model: Any
    tokenizer: Any
    context: int
    device: str
    fingerprint: str

    @property
    def start(self) -> int:
        """The token a text without a context begins with: beginning of sequence, else end of sequence."""
        tokenizer = self.tokenizer
        return int(tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id)


def require() -> None:
    """Raise RecipeError, saying what to install, where torch or transformers is absent."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise RecipeError(f"models need {' and '.join(missing)}: pip install 'curatrix[models]'")


def check_model(path: str) -> None:
    """Raise RecipeError unless `path` can be a model for `load`; reads its configuration, not its weights."""
    require()
    folders(path)
    if not any(Path(folder, "tokenizer_config.json").is_file() for folder in folders(path)):
        raise RecipeError(f"the model in {path} has no tokenizer: save one beside it (tokenizer.save_pretrained)")


def folders(path: str) -> tuple[str, ...]:
    """The folders a model is read from: its own and, for a LoRA adapter, the base model's. For `Stage.inputs`.

    Raises RecipeError where a folder is missing or is no model.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise RecipeError(f"model {path} is not a folder; models are read from a local folder, nothing is downloaded")
    adapter = folder / "adapter_config.json"
    if adapter.is_file():
        return (path, *folders(_base(folder, orjson.loads(adapter.read_bytes()))))
    if not (folder / "config.json").is_file():
        raise RecipeError(f"{path} has no config.json: it is not a model that transformers saved")
    return (path,)


def load(path: str, device: str = "auto", dtype: str = "auto") -> Student:
    """The causal language model in a local folder, loaded once per process.

    Args:
        path: a folder that `save_pretrained` wrote, of a model or of a LoRA adapter whose base is a local folder too.
        device: as torch names it; `auto` is the first GPU, else the CPU.
        dtype: `float32`, `bfloat16`, ...; `auto` is float32 on a CPU and what the weights are stored in elsewhere.

    Raises RecipeError where the folder is missing or is no causal language model, or a library is not installed.
    """
    check_model(path)
    return _load(str(Path(path).resolve()), *_placed(device, dtype))


@lru_cache(maxsize=2)
def _load(path: str, device: str, dtype: str) -> Student:
    import transformers

    *adapter, base = folders(path)
    try:
        config = transformers.AutoConfig.from_pretrained(base, local_files_only=True, trust_remote_code=False)
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(
            base, local_files_only=True, trust_remote_code=False, dtype=dtype
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            _tokenizer_folder((*adapter, base)), local_files_only=True, trust_remote_code=False
        )
        model = _adapted(model, adapter[0]) if adapter else model
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise RecipeError(f"{path} cannot be loaded as a causal language model: {error}") from error
    if tokenizer.bos_token_id is None and tokenizer.eos_token_id is None:
        raise RecipeError(
            f"the tokenizer in {path} names no bos_token and no eos_token, one of which a text begins with"
        )
    return Student(model.to(device).eval(), tokenizer, _context(config, tokenizer), device, _fingerprint(path))


def _adapted(model: Any, adapter: str) -> Any:
    if find_spec("peft") is None:
        raise RecipeError(f"{adapter} is a LoRA adapter, which needs peft: pip install peft")
    import peft

    return peft.PeftModel.from_pretrained(model, adapter, local_files_only=True)


def _placed(device: str, dtype: str) -> tuple[str, str]:
    import torch

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device.startswith("cuda") and not torch.cuda.is_available():
        raise RecipeError(f"device {device} is not there: torch sees no GPU; use `cpu` or `auto`")
    return device, "float32" if dtype == "auto" and device == "cpu" else dtype


def _base(folder: Path, config: dict[str, Any]) -> str:
    """The base model of an adapter: relative names stand beside the adapter, or in the working directory."""
    name = str(config.get("base_model_name_or_path"))
    for candidate in (folder / name, folder.parent / name, Path(name)):
        if candidate.is_dir():
            return str(candidate)
    raise RecipeError(f"the adapter in {folder} is for {name}, which is not a local folder: copy it there")


def _tokenizer_folder(candidates: tuple[str, ...]) -> str:
    return next(folder for folder in candidates if Path(folder, "tokenizer_config.json").is_file())


def _context(config: Any, tokenizer: Any) -> int:
    """The smallest limit that the configuration or the tokenizer states."""
    text = config.get_text_config()
    stated = [getattr(text, name, None) for name in ("max_position_embeddings", "n_positions", "max_seq_len")]
    return min([int(limit) for limit in (*stated, tokenizer.model_max_length) if limit] + [_UNBOUNDED])


def _fingerprint(path: str) -> str:
    hasher = xxhash.xxh3_128()
    for folder in folders(path):
        for file in sorted(Path(folder).rglob("*")):
            if file.is_file():
                hasher.update(f"{file.relative_to(folder)}\0{file.stat().st_size}\0".encode())
                for block in _blocks(file):
                    hasher.update(block)
    return hasher.hexdigest()


def _blocks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as handle:
        while block := handle.read(_BLOCK):
            yield block
