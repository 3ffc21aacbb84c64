"""Weights files: registry, loading, download, import of the authors' checkpoints."""
