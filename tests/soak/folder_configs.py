"""Malformed folders: what config.json and the files beside it say."""

import json
import random
from pathlib import Path
from typing import Any

from soak.folders import ABSURD, NO_NUMBERS, Damage, every_option, flip, kind, take_the_place


def of_an_option(rng: random.Random, folder: Path, choices: tuple[Any, ...], number: bool = False, name: str = "config.json") -> Damage:
    values = json.loads((folder / name).read_text())

    def at(way):
        part = values
        for key in way:
            part = part[key]
        return part

    ways = every_option(values)
    if number:
        ways = [way for way in ways if isinstance(at(way), int | float) and not isinstance(at(way), bool)]
    *way, last = rng.choice(ways)
    at(way)[last] = rng.choice(choices)
    (folder / name).write_text(json.dumps(values))
    return Damage(folder, option=(*way, last), file=name)


@kind()
def an_option_of_another_kind(rng, folder):
    return of_an_option(rng, folder, NO_NUMBERS)


@kind()
def a_number_of_another_kind(rng, folder):
    return of_an_option(rng, folder, NO_NUMBERS, number=True)


@kind()
def an_absurd_number(rng, folder):
    return of_an_option(rng, folder, ABSURD, number=True)


@kind()
def many_absurd_numbers(rng, folder):
    for _ in range(rng.randint(2, 6)):
        of_an_option(rng, folder, ABSURD, number=True)


@kind()
def an_option_that_is_missing(rng, folder):
    values = json.loads((folder / "config.json").read_text())
    *way, last = rng.choice([way for way in every_option(values) if isinstance(way[-1], str)])
    part = values
    for key in way:
        part = part[key]
    del part[last]
    (folder / "config.json").write_text(json.dumps(values))
    return Damage(folder, option=(*way, last))


@kind()
def an_option_more(rng, folder):
    values = json.loads((folder / "config.json").read_text())
    name = rng.choice(["", "extra", "é\n", "__class__", "a" * 10_000, "quantization_config", "rope_scaling", "auto_map", "type", "self"])
    values[name] = rng.choice([None, 1, {"a": {}}, [[]], "x" * 100_000])
    (folder / "config.json").write_text(json.dumps(values))
    return Damage(folder, option=(name,))


@kind()
def another_type_of_model(rng, folder):
    values = json.loads((folder / "config.json").read_text())
    name = "type" if "type" in values else "model_type"
    kinds = [
        "vit",
        "clip",
        "llama",
        "llava",
        "mllama",
        "bert",
        "",
        None,
        7,
        [],
        "LLAMA",
        "ViTConfig",
        "CLIPConfig",
        "TextConfig",
        "RotaryScaling",
        "object",
    ]
    values[name] = rng.choice([each for each in kinds if each != values[name]])
    (folder / "config.json").write_text(json.dumps(values))
    return Damage(folder, must="refused")


@kind()
def a_config_that_is_no_json(rng, folder):
    path = folder / "config.json"
    text = path.read_text()
    half = text[: rng.randrange(1, len(text) - 2)]
    texts = [
        "",
        " ",
        "null",
        "[]",
        "7",
        '"x"',
        "{",
        "{}",
        half,
        text + "}",
        "{'a': 1}",
        "// x\n" + text,
        text.replace(":", "=", 1),
        "NaN",
        "[" * 100_000,
    ]
    texts += [
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        '{"hidden_size": ' + "9" * 5000 + "}",
        "9" * 5000,
        '{"model_type": "\\ud800"}',
        "\0" + text,
    ]
    path.write_text(rng.choice(texts))
    return Damage(folder, must="refused")


@kind()
def a_config_in_another_encoding(rng, folder):
    path = folder / "config.json"
    text = path.read_text()
    path.write_bytes(
        rng.choice(
            [text.encode("utf-8-sig"), text.encode("utf-16"), text.encode("utf-32"), text.encode() + b"\xff", bytes(8) + text.encode()]
        )
    )


@kind()
def flipped_bytes_in_the_config(rng, folder):
    flip(rng, folder / "config.json", 0, 10**9, most=4)
    return Damage(folder, must="whatever its config says")


@kind()
def a_config_twice_in_one(rng, folder):
    """Each name twice in one object, as JSON allows; the last one counts, as everywhere in Python."""
    path = folder / "config.json"
    text = path.read_text().strip()
    path.write_text(text[:-1] + "," + text[1:])
    return Damage(folder, must="right")


@kind()
def no_file_in_place_of_the_config(rng, folder):
    take_the_place(rng, folder / "config.json")
    return Damage(folder, must="refused")


@kind("clip", "llava", "mllama", "llava in shards")
def options_of_pictures(rng, folder):
    choices = (*NO_NUMBERS, *ABSURD[:6], "center", {"height": -1, "width": 10**9})
    return of_an_option(rng, folder, choices, name="preprocessor_config.json")


@kind("clip", "llava", "mllama")
def options_of_pictures_that_cannot_be_read(rng, folder):
    path = folder / "preprocessor_config.json"
    if rng.random() < 0.5:
        take_the_place(rng, path)
    else:
        path.write_text(rng.choice(["", "null", "[]", "{", "[" * 100_000, '{"image_mean": [' + "9" * 5000 + "]}"]))


@kind("llama", "llava", "mllama")
def options_of_generation(rng, folder):
    path = folder / "generation_config.json"
    if rng.random() < 0.3:
        path.touch()
        take_the_place(rng, path)
    else:
        ends = ["x", [], [[]], [None], True, 1.5, -1, 2**70, {"a": 1}, None]
        path.write_text(rng.choice(["", "[]", "{", "[" * 100_000, *(json.dumps({"eos_token_id": end}) for end in ends)]))
