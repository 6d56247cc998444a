"""Deduplication: see `stages.dedup.stage`."""

from stages.dedup.stage import Dedup

__all__ = ["Dedup"]
