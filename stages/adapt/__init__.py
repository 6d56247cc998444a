"""The `adapt` stage: rows for the next round of tuning, from a pool that does not grow (Adapt-inf)."""
