"""Decontamination: see `stages.decontaminate.stage`."""

from stages.decontaminate.stage import Decontaminate

__all__ = ["Decontaminate"]
