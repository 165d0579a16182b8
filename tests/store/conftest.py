"""The fixtures of real services."""

from object_stores import bucket, s3_server  # noqa: F401
from services import *  # noqa: F403
