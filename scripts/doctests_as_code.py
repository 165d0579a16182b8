"""Show the doctests of a docstring as code in the reference: they stand outside of a section `Examples:` in the source."""

from __future__ import annotations

import re
from typing import Any

import griffe

DOCTEST = re.compile(r"^(?P<indent> *)(?P<lines>>>> .*(?:\n(?P=indent)\S.*|\n(?P=indent) +\S.*)*)", re.MULTILINE)


class DoctestsAsCode(griffe.Extension):
    """Puts each doctest in a fenced block."""

    def on_object(self, *, obj: griffe.Object, loader: griffe.GriffeLoader, **kwargs: Any) -> None:
        """Change the text of the docstring, before it is parsed."""
        if obj.docstring is not None:
            obj.docstring.value = DOCTEST.sub(
                r"\g<indent>```pycon\n\g<indent>\g<lines>\n\g<indent>```", obj.docstring.value
            )
