"""Layouts of data sets as their users have them on disk."""
