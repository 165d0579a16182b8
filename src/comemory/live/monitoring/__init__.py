"""The health of cameras and of the service."""
