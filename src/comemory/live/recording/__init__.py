"""What is written while cameras run: pictures, clips, events and scores."""
