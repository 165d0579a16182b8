"""Grids of trainings and evaluations, one table of rows, and the page of results rendered from it.

experiment.py  what an experiment file says          grid.py     its cells, their keys, which are chosen
run.py         what is done and what is to do        pool.py     cells over worker processes
worker.py      such a process                        cell.py     one cell: train or re-calibrate, evaluate, append
spent.py       the time a training has taken         surroundings.py  code, packages and machine
table.py       the rows, appended one by one         summary.py  rows to variants
statistics.py  means and rank correlation            page.py     the template, filled
blocks.py      what it is filled with                plots.py    its pictures
"""
