"""Anything that can be named."""
