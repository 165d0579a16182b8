"""`python -m comemory`: the command line."""

from __future__ import annotations

from comemory.cli import main

main()
