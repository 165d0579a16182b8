"""Frames of one camera to scores and events."""
