"""Training on the footage of a camera, activating the new model, and learning from verdicts."""
