"""An address as a QR picture: for a page, and in the signs of a terminal."""

import io

QUIET_ZONE = 4  # modules of white around it, which ISO/IEC 18004 asks for
ERROR = "m"  # up to 15% of it may be hidden


def svg(text: str) -> str:
    """Draw a text as SVG, dark on light whatever the page's theme is: many cameras read no other."""
    import segno

    drawn: str = segno.make(text, error=ERROR, micro=False).svg_inline(
        border=QUIET_ZONE, dark="#000", light="#fff", svgclass="wl-qr", lineclass=None, omitsize=True
    )
    return drawn


def terminal(text: str) -> str:
    """Write a text as lines of half blocks, light and dark turned over by the terminal's own colours."""
    import segno

    lines = io.StringIO()
    segno.make(text, error=ERROR, micro=False).terminal(lines, border=2, compact=True)
    return lines.getvalue()
