"""Rewriting instructions and answers with a language model that criticises them first."""
