"""Attacks on the software, many trials each, outside ``make test``; see docs/reliability.md.

Each is a module: ``python -m tests.attacks hdf5 --trials 500`` prints one line of the table, and
ends with exit code 1 if a trial failed.
"""
