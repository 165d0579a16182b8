"""Frames to clips: resizing, optical flow, its filter, and scaling. The only place where pixels become floats.

config.py       ClipSettings                  preparation.py  one frame: resize, estimate and filter the flow
builder.py      a window of frames as a Clip  layout.py       uint8 and float16 to the floats of a network
flow_filter.py  moving average of the flow    agitation.py    motion in place: waving, fighting
static_gate.py  frames in which nothing moved
"""
