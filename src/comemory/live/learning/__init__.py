"""Training on the footage of a camera, and swapping in the new model."""
