"""Suites: TOML files of methods and benchmarks, measured by one command that resumes."""
