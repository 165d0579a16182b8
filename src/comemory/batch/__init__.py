"""Files in; scores, events and annotated video out: what `comemory score` writes.

score_files.py      several sources, one after the other
score_file.py       one source
annotated_video.py  its annotated video
"""

from __future__ import annotations

from comemory.batch.score_file import BatchResult
from comemory.batch.score_files import COLUMNS, score_sources

__all__ = ["COLUMNS", "BatchResult", "score_sources"]
