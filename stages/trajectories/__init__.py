"""The `trajectories` stage: agent runs that were right and did not waste their steps."""
