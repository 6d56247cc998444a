"""Asking language models: a client for any OpenAI-compatible chat server, with a journal of everything paid for."""

from stages.llm.client import Client
from stages.llm.endpoint import Budget, Endpoint, Price
from stages.llm.estimate import Estimate, estimate
from stages.llm.journal import Journal
from stages.llm.ledger import Usage
from stages.llm.ordered import in_order
from stages.llm.reach import reachable
from stages.llm.request import NoReply, Reply, Request, or_stop

__all__ = [
    "Budget",
    "Client",
    "Endpoint",
    "Estimate",
    "Journal",
    "NoReply",
    "Price",
    "Reply",
    "Request",
    "Usage",
    "estimate",
    "in_order",
    "or_stop",
    "reachable",
]
