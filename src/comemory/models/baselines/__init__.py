"""Baselines of the thesis' table, one file each."""
