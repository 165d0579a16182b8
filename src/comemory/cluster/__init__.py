"""Beyond one machine: archives, fleets of cameras and training on several nodes.

archive.py            the driver: which files are left, who scores them, what failed
archive_task.py       one file, or one segment of a long one, as a task; and its outcome
archive_scorer.py     scores a task: loads the model once, writes one Parquet file a video
archive_worker.py     the scorer as a process of the local pool
archive_pool.py       the local pool
archive_ray.py        the same pool on Ray
archive_manifest.py   what is done, so that a restart skips it
archive_results.py    the Parquet files
archive_query.py      DuckDB over them
archive_layout.py     camera and time of a recording, from its path
paths.py              files on this machine or in an object store
seams.py              where a long file is split
"""
