"""Data contracts: the canonical record, the errors, and the adapters that read formats found in the wild."""
