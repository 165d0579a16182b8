"""A procedural walkway in front of a fixed camera: what `synthetic` shows.

`camera` maps metres to pixels and draws, `bodies` are the people and things, `ground` is what stands still and
`traffic` says who is where at which frame.
"""
