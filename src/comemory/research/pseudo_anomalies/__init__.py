"""Pseudo-anomalies: ordinary video in which objects cut out of it do what they never did.

objects.py    what moves, cut out and pasted       acts.py     what a pasted object does
footage.py    one stretch with its acts            stretches.py  which stretches there are
holdout.py    what is kept back                    dataset.py  `pseudo:KIND:PATH`
"""

PSEUDO = 3
"""Raised whenever another picture comes out of the same video and seed."""
