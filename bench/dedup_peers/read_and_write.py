"""Nothing but reading and writing, which every tool here does: what no tool can be faster than. Arguments: IN OUT."""

import sys

sys.path.pop(0)  # this folder holds scripts named after libraries

import pyarrow as pa
import pyarrow.parquet as pq

table = pq.read_table(sys.argv[1])
pq.write_table(table.filter(pa.array([True] * len(table))), sys.argv[2], use_dictionary=False)
