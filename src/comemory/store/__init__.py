"""The store: events in a database, their files in a folder, alerts in an outbox.

store.py     EventStore: writes, recovery     outbox.py      alerts that wait for delivery
reader.py    queries                          routing.py     the rules of a sink, which `alerts` implements
database.py  SQLite or PostgreSQL             write_ahead.py changes that the database has not stored yet
media.py     the folder of files              retention.py   age, quota, quarantine
Needs `comemory[live]`.
"""
