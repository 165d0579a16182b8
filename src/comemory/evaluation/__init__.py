"""Evaluation: a detector and labelled video in; metrics, a report and a file of scores out.

evaluate.py         every test video scored, the results computed, the report filled in
video_scores.py     the model and the motion baseline on one video
motion_baseline.py  a score without training, which every model must beat
results.py          the object that `evaluate --json` writes
localisation.py     score maps against pixel masks
protocols.py        the same scores under the normalisations and smoothings of published protocols
scores_file.py      per-frame scores as a file
released_scores.py  the reader of such files, and of scores as the authors of other networks release them
report/             one HTML page
"""
