"""The command line: parse, call, print. Heavy imports stay inside the commands.

application.py  the application, and its exit codes      options.py   what commands share
training.py     demo, train                              watching.py  score, evaluate
bundles.py      export, info                             data.py      data check
bench.py        bench                                    reproducing.py  reproduce
live.py         watch, learn, doctor                     serving.py   serve
live_options.py  what these share
"""

from comemory.cli import bench, bundles, data, live
from comemory.cli import reproduce as reproducing
from comemory.cli import score as watching
from comemory.cli import serve as serving
from comemory.cli import train as training
from comemory.cli.application import app, main

__all__ = ["app", "bench", "bundles", "data", "live", "main", "reproducing", "serving", "training", "watching"]
