"""What is written while cameras run: events, scores, thumbnails, heat maps and clips."""
