"""Research: tools for experiments. Nothing that detects, watches or serves imports them.

pseudo_anomalies/   validation data without test labels: normal video with objects that behave abnormally
reproduce/          grids of trainings and evaluations, and the page of results rendered from their rows
"""
