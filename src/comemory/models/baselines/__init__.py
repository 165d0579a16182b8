"""Baselines of the seed's table, one file each."""
