"""Matchers, one file per method, its confs next to its class."""
