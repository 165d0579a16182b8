"""Cameras watched as they happen: threads live here, and nowhere else below the page.

settings.py   one TOML for everything live     contract.py  what others may know of a running engine
reader.py     a camera's connection            pace.py slot.py   which frames, and how they wait
watch.py      a camera's scores and events     health.py    frozen, black, blinded, moved
zones.py feedback.py lessons.py  what may win  footage.py pictures.py journal.py  clips, pictures, lines and rows
camera.py engine.py network.py   all together  service.py   with store, alerts and signals
learn.py models.py drift.py      a camera's own model            doctor.py    what is wrong here
"""
