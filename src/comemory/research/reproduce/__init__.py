"""Experiments: grids of trainings and evaluations, one row of results for each, and a page rendered from the rows.

experiment.py   what an experiment file says        grid.py         the runs it asks for, and their keys
reproduce.py    which runs are done, and the rest   pool.py         runs over worker processes
worker.py       a worker process                    run.py          one run: train or calibrate, evaluate, append a row
timing.py       the time that a training took       environment.py  code, packages and machine
baselines.py    cached motion baseline scores       rows.py         the table of rows
summary.py      rows grouped into variants          statistics.py   means and rank correlations
page.py         the template, filled in             tables.py       its tables
plots.py        its plots
"""
