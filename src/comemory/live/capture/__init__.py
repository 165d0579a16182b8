"""Reading cameras: connections, decoding, clocks, and which frames are scored."""
