"""The `semdedup` and `d4` stages: copies in meaning, and rows that are like many others."""
