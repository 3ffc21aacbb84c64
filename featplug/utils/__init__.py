"""Helpers without a stage of their own: progress, threads, versions, diagnosis."""
