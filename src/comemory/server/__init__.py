"""The page and the API of a running engine: async lives here, and nowhere below.

app.py       the application              access.py   passwords, tokens, sessions, CSRF
routes/      one file for each noun       guard.py    what every request passes: host, origin, size, headers
pictures.py  snapshots to JPEG            messages.py one engine to many browsers
metrics.py   Prometheus                   server.py   listening, and the end of it
schemas.py   the JSON of the API          static/     the page, as it is sent: no build step, no CDN
"""
