"""Instruction-following difficulty: how much a prompt helps a model foresee its response."""
