"""Training: a recipe and ordinary video in, a bundle out.

recipe.py  what decides the outcome      cache.py      frames and flow, prepared once
loop.py    the training loop             calibrate.py  the scales, fitted on held-out video
graph.py   the model as ONNX             plot.py       the sanity report      run.py  all of it in order
"""
