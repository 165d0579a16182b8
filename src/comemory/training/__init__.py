"""Training: a configuration and normal video in, a bundle out.

config.py      what decides the outcome           loop.py         the training loop
split.py       training and calibration frames    checkpoint.py   resuming after an interruption
cache.py       frames and flow, prepared once     calibrate.py    scales, fitted on held-out video
graph.py       the model as ONNX                  plot.py         losses and use of the memories
train.py       all of it in order                 recalibrate.py  another scoring for a trained network
"""
