"""HTML and SVG elements as text, with every string escaped unless it already is markup."""

from __future__ import annotations

import html
import re

VOID = {"br", "img", "meta"}
_NOT_TEXT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


class Markup(str):
    """Text that is already safe to put on a page."""

    __slots__ = ()


def escaped(text: object) -> Markup:
    """Any text as markup; characters that no page may hold become the replacement character.

    >>> escaped("<b> & 'c'")
    '&lt;b&gt; &amp; &#x27;c&#x27;'
    """
    if isinstance(text, Markup):
        return text
    return Markup(html.escape(_NOT_TEXT.sub("\ufffd", str(text)), quote=True))


def joined(*parts: object) -> Markup:
    """Parts one after the other, escaped where they are not markup; None is left out."""
    return Markup("".join(escaped(part) for part in parts if part is not None))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """One element. Attribute names lose a last underscore and have `-` for the others; None and False leave one out.

    >>> tag("p", "1 < 2", tag("br"), class_="note", aria_label='"x"')
    '<p class="note" aria-label="&quot;x&quot;">1 &lt; 2<br></p>'
    """
    listed = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped("" if value is True else value)}"'
        for key, value in attributes.items()
        if value is not None and value is not False
    )
    if name in VOID:
        return Markup(f"<{name}{listed}>")
    return Markup(f"<{name}{listed}>{joined(*children)}</{name}>")


def video_text(name: str) -> Markup:
    """A name from outside, kept apart from the direction of the text around it."""
    return tag("bdi", name)
