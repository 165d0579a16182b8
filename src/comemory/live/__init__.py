"""Live cameras: capture, scoring, recording, monitoring and learning. All threads of the project are in this package.

config/      settings of a live system, from one TOML file
capture/     connections, clocks, sampling, the queue between reader and workers
scoring/     scores and events of a camera, zones, suppressed events
recording/   events, thumbnails, heat maps and clips, written in the background
monitoring/  image faults, score drift, statistics, watchdog
learning/    training on a camera's own footage; verdicts
contract.py  what the page and the API may use          subscribers.py  messages to them
camera.py workers.py engine.py service.py               from one camera to the whole system
doctor.py    checks whether a live system can run on this machine
"""
