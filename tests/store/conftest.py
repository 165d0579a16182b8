"""The fixtures of real services."""

from services import *  # noqa: F403
