"""The `quad` stage: rows chosen by their influence on a target, few of which need scoring (Quad, arXiv 2409.16986)."""
