"""Evaluation: a bundle and labelled video in, figures that can be trusted out.

control.py  the score without training that every model must beat    videos.py   both, over every video
figures.py  the numbers of `evaluate --json`                          run.py      all of it, and the report
"""
