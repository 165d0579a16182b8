"""The renderer of the `synthetic` data set: a procedural walkway in front of a fixed camera.

camera.py    maps metres to pixels, and draws      bodies.py    people and things that move
ground.py    everything that does not move         plants.py    trees and hedges
traffic.py   where everybody is at each frame      stage.py     renders the frames of a clip
day.py       light and crowd over a day            settings.py  the settings of a scene
"""
