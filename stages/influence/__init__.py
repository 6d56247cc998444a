"""Influence of a text on a language model's loss on a target set, for any `transformers` causal language model.

    layers = find_layers(model)
    factors = estimate_factors(model, layers, sample)             # curvature: EK-FAC
    towards = directions(model, layers, factors, [target])        # H^-1 g_V, one per target set
    values = score(model, layers, towards, pool)                  # float64 [rows, targets]; positive lowers its loss

The score of a row z for a target set V is g_V^T H^-1 g_z (Koh and Liang 2017; Grosse et al. 2023; Quad, arXiv
2409.16986, section 3). No gradient of a row is ever kept. Importing this package imports torch.
"""

from stages.influence.adam import AdamState
from stages.influence.batches import Batch, Batches, encode, tokenize
from stages.influence.directions import Directions, adam_directions, directions
from stages.influence.factors import Factors, estimate_factors
from stages.influence.layers import Block, Layers, find_layers
from stages.influence.memory import Cost, Memory, cost, memory_needed
from stages.influence.passes import context_of
from stages.influence.resume import Progress
from stages.influence.scoring import Examined, examine, gradient_norms, project, score

__all__ = [
    "AdamState", "Batch", "Batches", "Block", "Cost", "Directions", "Examined", "Factors", "Layers", "Memory",
    "Progress", "adam_directions", "context_of", "cost", "directions", "encode", "estimate_factors", "examine",
    "find_layers", "gradient_norms", "memory_needed", "project", "score", "tokenize",
]  # fmt: skip
