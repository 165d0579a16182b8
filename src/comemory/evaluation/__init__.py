"""Evaluation: a bundle and labelled video in, figures that can be trusted out.

control.py    the score without training that every model must beat    videos.py   both, over every video
places.py     score maps against pixel masks                           figures.py  the numbers of `evaluate --json`
protocols.py  what normalising and smoothing are worth                 archive.py  the scores as a file
run.py        all of it, and the report
"""
