"""Video in and out: anything into Frames, one resize for all of comemory, pictures and videos written."""
