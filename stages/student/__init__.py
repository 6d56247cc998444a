"""Local causal language models that stages ask for losses, gradients and cost.

Nothing here imports torch or transformers before a model is needed:

    student = load("models/tiny-llama")                     # models.py: a local folder, or a LoRA adapter's
    student = from_state(state)                             # builtin.py: the one a stage's `fit` trained on its pool
    found = exchanges(batch)                                # turns.py: each record's last answer and what led to it
    pairs = [Pair(asked(student, e), e.response) for e in found if isinstance(e, Exchange)]
    losses(student, pairs).mean                             # loss.py: mean negative log-likelihood per target, in nats
    cost(student), speed(student)                           # cost.py: parameters, bytes, FLOPs and tokens per second
"""
