"""The page and the API of a running engine. Asynchronous code is in this package only.

app.py            the application                     auth.py, auth_file.py   passwords, tokens, roles, sessions, CSRF
routes/           one file for each noun of the API   login_throttle.py       waits after wrong passwords
schemas.py        the JSON of the API                 middleware.py           checks of requests, security headers
openapi.py        its description                     http_protocol.py        limits on connections
broadcaster.py    live messages to many browsers      serve.py                listening, TLS, shutdown
live_pictures.py  frames as JPEG                      audit.py                who changed what
metrics.py        Prometheus                          static/                 the page: no build step, nothing from elsewhere
"""
