"""Pseudo-anomalies: normal video into which objects are pasted that were cut out of it and behave abnormally.

They give a validation score without a label of the test set.

objects.py        moving objects, cut out, linked over time and pasted
perturbations.py  what a pasted object does
footage.py        one segment of video with its pasted objects
segments.py       which segments of the training video are held out for this
dataset.py        the data set `pseudo:KIND:PATH`
"""

PSEUDO_VERSION = 3
"""Increase it when the same video and seed give other frames: evaluations on them are then run again."""
