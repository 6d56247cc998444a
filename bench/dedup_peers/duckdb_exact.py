"""Exact copies with DuckDB: the first row of every hash of a text. Arguments: IN OUT."""

import sys

sys.path.pop(0)  # this folder holds scripts named after libraries

import duckdb

source, target = sys.argv[1:]
con = duckdb.connect(config={"threads": 2})
con.execute(
    f"COPY (SELECT t.* FROM '{source}' t JOIN (SELECT min(row) AS row FROM '{source}' GROUP BY md5(text)) USING (row)"
    f" ORDER BY row) TO '{target}' (FORMAT parquet, COMPRESSION snappy)"
)
