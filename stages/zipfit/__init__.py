"""The `zipfit` stage: rows that compress well together with a target."""
