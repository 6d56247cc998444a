"""The `targets` stage: which part of a reasoning model's output a model is trained on."""
