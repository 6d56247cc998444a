"""The `less` stage: rows whose Adam update points where the target's gradient does (LESS, arXiv 2402.04333)."""
