"""The consumers of what the pipelines write: fine-tuning, and a reward function."""
