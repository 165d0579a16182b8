"""Video in and out: sources of frames, one resize for all of comemory, annotated images, and video files.

source.py     opens anything as a Source    container.py     video files and streams
formats.py    the formats that are read     image_folder.py  folders of frames
resize.py     the one resize                writer.py        H.264 files and single images
overlay.py    draws score, box and heat map on a frame
"""
