"""Matchers for hloc, one file per method, as its ``dynamic_load`` wants them."""
