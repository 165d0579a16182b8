"""Cameras watched as they happen: threads live here, and nowhere else below the page.

settings.py  one TOML for everything live      contract.py  what others may know of a running engine
"""
