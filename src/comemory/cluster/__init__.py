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
placement.py          which node watches which camera, and when a node is lost or back
fleet.py              the process that places the cameras; fleet_engine.py shows them as one engine
fleet_ray.py          the connection to Ray; fleet_keeper.py keeps the group of a node running, fleet_claim.py makes it one
fleet_group.py        the cameras of one node, in a process of its own
fleet_files.py        the plan and the heartbeats on the shared path
"""
