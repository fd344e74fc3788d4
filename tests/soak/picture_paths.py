"""Malformed pictures: paths, links, pipes and devices, and files that change behind one's back."""

import io
import os
import socket
from pathlib import Path

from PIL import Image
from soak.pictures import Subject, kind, stored, written


@kind
def a_strange_name(rng, folder):
    names = [
        "new\nline.png",
        "quote'\".png",
        " .png",
        "-r.png",
        "%s{}.png",
        "é\u0301.png",
        "..png",
        "a\tb.png",
        "\\.png",
        "$(x).png",
        "a" * 250 + ".png",
    ]
    names += [os.fsdecode(b"\xff\xfe.png"), "\U0001f600.png", "con.png", "*.png"]
    return Subject(stored(rng, folder, "RGB", rng.choice(names), format="PNG"))


@kind
def a_strange_name_of_no_picture(rng, folder):
    names = ["new\nline.png", "%s{}.png", os.fsdecode(b"\xff\xfe.png"), "é.png"]
    return written(folder / rng.choice(names), rng.randbytes(20), must="refused")


@kind
def a_link_to_a_picture(rng, folder):
    (folder / "there").mkdir()
    path = folder / "x.png"
    path.symlink_to(stored(rng, folder / "there", "RGB", "y.png"))
    return Subject(path)


@kind
def a_place_without_a_file(rng, folder):
    (folder / "x.png").symlink_to(rng.choice(["x.png", "nowhere.png", "x.png/x.png"]))
    (folder / "file").write_text("")
    paths = [
        folder / "x.png",
        folder / "file" / "x.png",
        folder / "nowhere" / "x.png",
        Path("a" * 300 + ".png"),
        Path("a/" * 3000),
        Path("x\0.png"),
    ]
    return Subject(rng.choice(paths), must="refused", missing=True)


@kind
def a_folder_in_place_of_a_file(rng, folder):
    (folder / "x.png").mkdir()
    return Subject(rng.choice([folder / "x.png", folder, Path("."), Path("/"), folder / "x.png" / ".."]), must="refused")


@kind
def a_device_in_place_of_a_file(rng, folder):
    devices = [name for name in ("/dev/zero", "/dev/null", "/dev/full", "/dev/urandom", "/proc/self/mem") if os.path.exists(name)]
    (folder / "x.png").symlink_to(rng.choice(devices))
    return Subject(folder / "x.png", must="refused")


@kind
def a_pipe_in_place_of_a_file(rng, folder):
    """Nobody ever writes into it: to open it is to wait for ever."""
    if rng.random() < 0.7:
        os.mkfifo(folder / "x.png")
    else:
        with socket.socket(socket.AF_UNIX) as end:
            end.bind("x.png")  # a short name; the folder's own may be too long for a socket

    def opened():
        raise OSError("a user who opens a pipe waits")

    return Subject(folder / "x.png", opened, must="refused")


@kind
def cut_after_it_was_opened(rng, folder):
    path = stored(rng, folder, "RGB", rng.choice(["x.png", "x.bmp", "x.jpg"]))
    content = path.read_bytes()
    left = rng.choice([0, 20, len(content) // 2])

    def opened():
        path.write_bytes(content)
        picture = Image.open(path)
        os.truncate(path, left)
        return picture

    return Subject(path, opened, must="either")


@kind
def closed_before_it_was_given(rng, folder):
    path = stored(rng, folder, "RGB", "x.png")

    def opened():
        picture = Image.open(io.BytesIO(path.read_bytes()))
        picture.close()
        return picture

    return Subject(None, opened, must="refused")


@kind
def folders_that_contain_themselves(rng, folder):
    path = stored(rng, folder, "RGB", "x.png")

    def loops(classes: Path) -> None:
        for number in range(rng.randint(1, 3)):
            (classes / "a" / f"again{number}").symlink_to(rng.choice(["..", ".", "../a", "../../root"]))

    return Subject(path, folder=loops)
