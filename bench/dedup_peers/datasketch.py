"""datasketch: MinHash over runs of five words, MinHashLSH, first come first kept. Arguments: IN OUT THRESHOLD."""

import sys

sys.path.pop(0)  # this folder would hide the library of the same name

import pyarrow as pa
import pyarrow.parquet as pq
from datasketch import MinHash, MinHashLSH

source, target, threshold = sys.argv[1:4]
table = pq.read_table(source)


def shingles(text: str) -> list[bytes]:
    """Runs of five words."""
    words = text.lower().split()
    return [" ".join(words[k : k + 5]).encode() for k in range(max(len(words) - 4, 1))]


lsh = MinHashLSH(threshold=float(threshold), num_perm=128)
keep = []
for row, sketch in enumerate(MinHash.generator((shingles(t) for t in table["text"].to_pylist()), num_perm=128)):
    keep.append(not lsh.query(sketch))
    if keep[-1]:
        lsh.insert(row, sketch)
pq.write_table(table.filter(pa.array(keep)), target, use_dictionary=False)
