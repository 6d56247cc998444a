"""Stages: pure decisions about records. A stage does no writing, knows no Prefect and no command line."""
