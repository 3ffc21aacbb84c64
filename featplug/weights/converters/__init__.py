"""Converters of the authors' files: each takes a path and gives a state dict in our names."""
