"""One's own photograph in a widget: a button that opens the browser's choice of files."""

import html
import io
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

import ipywidgets
from PIL import Image

from minimllm.data.photos import read_picture
from minimllm.data.pictures import to_rgb

from .explorer import Explorer

MOST_BYTES = 30_000_000


def picture_of(content: bytes, name: str) -> Image.Image:
    """A picture from the bytes of a file, in RGB, the way up that its camera noted.

    Raises:
        ValueError: too many bytes, and what :func:`~minimllm.data.photos.read_picture` refuses.
    """
    if len(content) > MOST_BYTES:
        raise ValueError(f"{name} has {len(content) / 1e6:.0f} MB; up to {MOST_BYTES / 1e6:.0f} are taken")
    return to_rgb(read_picture(io.BytesIO(content), name))


def own_picture(explorer: Explorer, control: str, take: Callable[[str, Image.Image], Mapping[str, Any]]) -> Explorer:
    """Puts a button above an explorer that adds a picture of one's own to the menu ``control``, and chooses it.

    The file goes to the kernel and nowhere else; nothing of it is stored.

    Args:
        explorer: with a menu of names as its control ``control``.
        take: called with the name under which the menu will offer it, and the picture; gives what the controls are set to beside.
    """
    menu = explorer.controls[control]
    upload = ipywidgets.FileUpload(accept="image/*", description="Your own picture", layout={"width": "auto"})
    said = ipywidgets.HTML()

    def add(change: Mapping[str, Any]) -> None:
        for file in change["new"]:
            taken, stem = [*menu.options], PurePath(file["name"]).stem or "mine"
            name = next(each for each in (stem, *(f"{stem} {number}" for number in range(2, 1000))) if each not in taken)
            try:
                values = take(name, picture_of(bytes(file["content"]), file["name"]))
            except ValueError as error:
                said.value = f'<span role="alert" style="color:#B34700">{html.escape(str(error))}</span>'
                continue
            said.value = ""
            with explorer.paused():
                menu.options = [*taken, name]
            explorer.set(**{**values, control: name})

    upload.observe(add, "value")
    row = ipywidgets.HBox([upload, said], layout={"flex_flow": "row wrap", "align_items": "center"})
    explorer.upload, explorer.children = upload, (row, *explorer.children)
    return explorer
