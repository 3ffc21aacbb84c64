"""Synthetic scenes that the tests share; slow ones are session fixtures of tests/conftest.py."""
