"""Hostile programs and the machinery that runs them."""
