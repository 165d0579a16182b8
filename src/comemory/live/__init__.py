"""Cameras watched as they happen: threads live here, and nowhere else below the page.

settings/                        one TOML for everything live    contract.py subscribers.py  what others may know and hear
reader.py connection.py          a camera, read again and again  attempts.py clock.py        how often, and when it was
pace.py slot.py                  which frames, how they wait     health.py                   frozen, black, blinded, moved
watch.py reporter.py             a camera's scores and events    zones.py feedback.py lessons.py  what may win
footage.py pictures.py journal.py  clips, pictures, lines, rows  camera.py workers.py network.py engine.py  all together
service.py                       with store, alerts and signals  doctor.py                   what is wrong here
recorder.py learn.py models.py drift.py progress.py              a camera's own model
"""
