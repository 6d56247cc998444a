"""rensa as its README shows it. Arguments: IN OUT THRESHOLD words|shingles RMinHash|CMinHash."""

import sys

sys.path.pop(0)  # this folder would hide the library of the same name

import pyarrow as pa
import pyarrow.parquet as pq
from rensa import CMinHashDeduplicator, RMinHashDeduplicator


def shingles(text: str) -> list[str]:
    """Runs of five words."""
    words = text.lower().split()
    return [" ".join(words[k : k + 5]) for k in range(max(len(words) - 4, 1))]


source, target, threshold, unit, kind = sys.argv[1:]
table = pq.read_table(source)
tokens = str.split if unit == "words" else shingles
pairs = ((str(k), tokens(text)) for k, text in enumerate(table["text"].to_pylist()))
if kind == "RMinHash":
    keep = RMinHashDeduplicator(threshold=float(threshold), num_perm=128, use_lsh=True).add_pairs(pairs)
else:
    keep = CMinHashDeduplicator(threshold=float(threshold), num_perm=128).add_pairs(pairs)
pq.write_table(table.filter(pa.array(keep)), target, use_dictionary=False)
