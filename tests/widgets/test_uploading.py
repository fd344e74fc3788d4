"""A picture of one's own: it joins the menu and is shown, whatever it is called; what is no picture is refused in words."""

import datetime
import io

import numpy as np
import pytest
from PIL import Image

from minimllm import widgets
from minimllm.widgets.uploading import picture_of


def file(name: str, width: int, height: int, kind: str = "PNG", **options) -> dict:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, :, 0] = 255  # red above, green below
    pixels[height // 2 :, :, 1] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return uploaded(name, f"image/{kind.lower()}", buffer.getvalue())


def uploaded(name: str, kind: str, content: bytes) -> dict:
    """What the browser hands over of a file that was chosen."""
    return {
        "name": name,
        "type": kind,
        "size": len(content),
        "last_modified": datetime.datetime.now(datetime.UTC),
        "content": memoryview(content),
    }


def patches() -> widgets.Explorer:
    return widgets.patch_explorer({"ramp": np.linspace(0, 1, 112 * 112).reshape(112, 112), "dark": np.zeros((112, 112))}, (14, 56))


def test_it_joins_the_menu_and_is_shown():
    explorer = patches()
    before = explorer.picture
    explorer.upload.value = (file("my cat.png", 40, 60),)
    assert explorer.controls["picture"].options == ("ramp", "dark", "my cat") and explorer.values["picture"] == "my cat"
    assert "The picture my cat cut into 8 by 8" in explorer.picture or "The picture my cat cut into" in explorer.picture
    assert explorer.picture != before and not explorer.error
    explorer.upload.value = (file("dark.png", 9, 5),)  # a name that is taken
    assert explorer.controls["picture"].options[-1] == "dark 2" and "The picture dark 2" in explorer.picture
    explorer.set(picture="dark")
    assert "The picture dark cut" in explorer.picture


def test_in_the_tile_explorer_the_sliders_follow_its_size():
    explorer = widgets.tile_explorer({"grey": Image.new("L", (9, 9))}, (60, 280, 561, 1120))
    explorer.upload.value = (file("wide.jpg", 1200, 300, "JPEG"),)
    assert explorer.values == {"picture": "wide", "width": 1120, "height": 280} and "The photograph wide, 280 by 1120" in explorer.picture


def test_what_is_no_picture_is_refused_and_the_explorer_stays():
    explorer = patches()
    before = explorer.picture
    explorer.upload.value = (uploaded("notes.txt", "text/plain", b"no picture"),)
    assert "notes.txt is not a picture" in explorer.children[0].children[1].value
    assert explorer.picture == before and len(explorer.controls["picture"].options) == 2
    explorer.upload.value = (file("cat.png", 40, 60),)
    assert explorer.children[0].children[1].value == "" and explorer.values["picture"] == "cat"


def test_a_photograph_stands_as_its_camera_noted():
    exif = Image.Exif()
    exif[274] = 6  # to be turned by a quarter, clockwise
    turned = picture_of(bytes(file("a.jpg", 40, 20, "JPEG", exif=exif)["content"]), "a.jpg")
    assert turned.size == (20, 40) and turned.mode == "RGB"
    left, right = turned.getpixel((2, 20)), turned.getpixel((17, 20))
    assert right[0] > 200 > left[0] and left[1] > 200 > right[1]


def test_a_file_too_large_is_refused_by_its_size():
    with pytest.raises(ValueError, match="31 MB"):
        picture_of(bytes(31_000_000), "large.png")


def test_a_damaged_file_is_refused_in_words():
    content = bytearray(file("cat.png", 200, 300)["content"])
    place = content.index(b"IDAT")
    content[place : place + 4] = b"!DAT"
    explorer = patches()
    explorer.upload.value = (uploaded("cat.png", "image/png", bytes(content)),)
    assert "cat.png" in explorer.children[0].children[1].value and len(explorer.controls["picture"].options) == 2
