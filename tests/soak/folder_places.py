"""Malformed folders: tokenizer, card, and the folder itself."""

import json
import os
from pathlib import Path

from soak.folders import NO_NUMBERS, SHIPPED, Damage, every_option, flip, kind, take_the_place

# ---- tokenizer and card -----------------------------------------------------------------------------------------------

WITH_TEXT = SHIPPED[1:]


@kind(*WITH_TEXT)
def a_tokenizer_with_damage(rng, folder):
    path = folder / "tokenizer.json"
    deed = rng.choice(["cut", "flip", "text", "place", "missing"])
    if deed == "cut":
        os.truncate(path, rng.randrange(path.stat().st_size))
    elif deed == "flip":
        flip(rng, path, 0, path.stat().st_size)
    elif deed == "text":
        path.write_text(
            rng.choice(["", "{}", "null", "[" * 100_000, '{"version": "1.0"}', '{"model": {"type": "BPE", "vocab": {}, "merges": []}}'])
        )
    elif deed == "missing":
        path.unlink()
    else:
        take_the_place(rng, path)


@kind(*WITH_TEXT)
def a_tokenizer_with_other_values(rng, folder):
    choices = (*NO_NUMBERS, -1, 2**40, 10**30, "<pad>")
    values = json.loads((folder / "tokenizer.json").read_text())
    ways = [way for way in every_option(values) if way[:2] != ("model", "vocab") or rng.random() < 0.1]
    *way, last = rng.choice(ways)
    part = values
    for key in way:
        part = part[key]
    part[last] = rng.choice(choices)
    (folder / "tokenizer.json").write_text(json.dumps(values))


@kind(*SHIPPED)
def a_card_with_damage(rng, folder):
    path = folder / "card.json"
    if rng.random() < 0.6:
        take_the_place(rng, path)
    else:
        path.write_text(rng.choice(["", "[]", "{", "7", "[" * 100_000]))
    return Damage(folder, must="the card")


# ---- the folder itself ------------------------------------------------------------------------------------------------


@kind()
def a_folder_elsewhere(rng, folder):
    """By another name, or through a link: the same folder."""
    names = ["new\nline", "%s {} 'x'", "é", "a" * 250, os.fsdecode(b"\xff\xfe"), "-r", "x.safetensors", " "]
    there = folder.with_name(rng.choice(names))
    if rng.random() < 0.5:
        there.symlink_to(folder.name)
    else:
        folder.rename(there)
    utf8 = there.name.isprintable() or "\n" in there.name  # the safetensors library takes no other names
    return Damage(there, must="right" if utf8 else "either")


@kind()
def files_elsewhere(rng, folder):
    """Every file a link to another place, as in the cache of the Hugging Face hub."""
    blobs = folder.with_name("blobs")
    blobs.mkdir()
    for number, path in enumerate(sorted(folder.iterdir())):
        path.rename(blobs / str(number))
        path.symlink_to(Path("..") / "blobs" / str(number))
    return Damage(folder, must="right")


@kind()
def no_folder(rng, folder):
    beside = folder.with_name("beside")
    deed = rng.choice(["file", "pipe", "loop", "nowhere", "empty", "hub", "strange"])
    if deed == "file":
        beside.write_text("x")
    elif deed == "pipe":
        os.mkfifo(beside)
    elif deed == "loop":
        beside.symlink_to("beside")
    elif deed == "empty":
        beside.mkdir()
    elif deed == "hub":
        return Damage("nobody/nothing", must="refused")
    elif deed == "strange":
        return Damage(rng.choice(["x\0y", "a" * 300, "a/" * 3000, "", "..", "x" * 200 + "/" + "y" * 200, "/dev/null", "~"]), must="refused")
    return Damage(beside, must="refused")
