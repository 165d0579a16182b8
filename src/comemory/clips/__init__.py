"""Frames to clips: resizing, optical flow, filtering and scaling. The only place where pixels become floats."""
