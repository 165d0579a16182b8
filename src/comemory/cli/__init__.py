"""The command line: parse the options, call the library, print the result.

Each module adds its commands to the application; what a command needs is imported when it runs, so that a help is quick.

application.py  the application, its help and its exit codes    options.py       options that several commands have
score.py        score, evaluate                                 live_options.py  options and log of the live commands
train.py        train                                           terminal.py      tables, progress, plain text
live.py         watch, learn, doctor                            bundles.py       export, info
serve.py        serve                                           data.py          data check
demo.py         demo                                            bench.py         bench
archive.py      query; score --cluster
reproduce.py    reproduce                                       store.py         store check, adopt, backup, restore
"""

from comemory.cli import archive, bench, bundles, data, demo, live, reproduce, score, serve, store, train
from comemory.cli.application import app, main

__all__ = [
    "app",
    "archive",
    "bench",
    "bundles",
    "data",
    "demo",
    "live",
    "main",
    "reproduce",
    "score",
    "serve",
    "store",
    "train",
]
