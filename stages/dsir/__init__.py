"""The `dsir` stage: importance resampling by hashed n-grams, and the n-gram features that `zipfit` shares."""
