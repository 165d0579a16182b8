"""Sources to tables, events and annotated video: what `comemory score` writes.

run.py  sources one after the other    watching.py  one source    film.py  its annotated video
"""

from __future__ import annotations

from comemory.batch.score_file import Scored
from comemory.batch.score_files import COLUMNS, score_sources

__all__ = ["COLUMNS", "Scored", "score_sources"]
