"""Reading cameras: connections, decoding, clocks, and the choice of the frames to score."""
