"""Data contracts: the canonical record, the errors, and the adapters that read formats found in the wild."""

import os as _os
import sys as _sys

if _sys.platform in ("linux", "darwin"):
    # Arrow reads this when it is loaded, and workers inherit it. jemalloc gives back more than the default allocator
    # does: a run takes about a fifth less memory, at the same speed.
    _os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")
