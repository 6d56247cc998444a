"""text-dedup: its MinHash command. Arguments: IN OUT THRESHOLD."""

import runpy
import sys
import tempfile
from pathlib import Path

sys.path.pop(0)  # this folder would hide the library of the same name

source, target, threshold = sys.argv[1:4]


def main() -> None:
    """Run the module as its README does, then gather its Arrow files into one Parquet file."""
    with tempfile.TemporaryDirectory() as name:
        sys.argv = [
            "minhash", "--path", "parquet", "--data_files", source, "--split", "train", "--column", "text",
            "--output", f"{name}/out", "--cache_dir", f"{name}/cache", "--num_perm", "128", "--ngram", "5",
            "--threshold", threshold, "--batch_size", "10000",
        ]  # fmt: skip
        try:
            runpy.run_module("text_dedup.minhash", run_name="__main__")
        except SystemExit as error:
            if error.code:
                raise
        from datasets import load_from_disk

        load_from_disk(str(Path(name, "out"))).select_columns(["text"]).to_parquet(target)


if __name__ == "__main__":
    main()
