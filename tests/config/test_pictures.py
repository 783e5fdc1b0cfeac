"""The pictures in the guide to the console: one of each page that is photographed in each look, and no other."""

import re

from scripts.screenshot_pages import IMAGES, LOOKS, PICTURES

GUIDE = (IMAGES.parent / "console.md").read_text()
FILES = {f"{picture.name}-{look.name}.webp" for picture in PICTURES for look in LOOKS}


def test_there_is_a_picture_of_each_page_in_each_theme() -> None:
    assert {path.name for path in IMAGES.iterdir()} == FILES


def test_the_guide_shows_each_picture_with_an_alternative_text() -> None:
    assert set(re.findall(r"images/([\w-]+\.webp)", GUIDE)) == FILES
    texts = re.findall(r'<img alt="([^"]*)"', GUIDE)
    assert len(texts) == len(FILES) // 2, (
        "each shows the light one, or the dark one where the reader's system is dark"
    )
    assert all(texts)
