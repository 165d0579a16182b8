"""The health of cameras and of the service: image faults, score drift, statistics, watchdog."""
