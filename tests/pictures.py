"""What tests of pictures share: whether something is drawn on them, and whether they stand by themselves."""

import io
import re
from xml.etree import ElementTree

from PIL import Image

SVG = "{http://www.w3.org/2000/svg}"
LINK = "{http://www.w3.org/1999/xlink}href"


def opened(png):
    """-> the picture of a PNG file's bytes."""
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    return image.convert("RGB")


def drawn(image):
    """-> the share of pixels that are not of the ground, the colour of the upper left corner."""
    pixels = image.getdata() if not hasattr(image, "get_flattened_data") else image.get_flattened_data()
    ground = image.getpixel((0, 0))
    return sum(pixel != ground for pixel in pixels) / (image.width * image.height)


def parsed(svg):
    """Read an SVG file's bytes, which must be well-formed and lead nowhere else. -> its root"""
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    for element in root.iter():
        for name, value in element.attrib.items():
            if name in ("href", LINK, "src"):
                assert value.startswith("data:image/png;base64,"), value[:80]
            for address in re.findall(r"url\(([^)]*)\)", value):
                assert address.strip("\"'").startswith("#"), value
            assert "var(" not in value
    assert not re.search(rb"<script|<style|@import|<foreignObject", svg)
    return root


def texts(root):
    """-> all words of a picture."""
    return [element.text for element in root.iter(f"{SVG}text") if element.text]


def alone(browser, svg, folder):
    """Open an SVG file by itself in a browser that reaches nothing else. -> the picture"""
    file = folder / "alone.svg"
    file.write_bytes(svg)
    page = browser.new_page(viewport={"width": 1400, "height": 1000})
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(file.as_uri())
    image = opened(page.screenshot())
    page.close()
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()]
    return image
