"""Which things there are: the functions that draw each, what colours each may have, and how far each may be turned."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minimllm.data.things import animals, buildings, creatures, food, objects, vehicles
from minimllm.data.things.paints import COLOURS
from minimllm.data.things.sketch import Sketch


@dataclass(frozen=True)
class Kind:
    """A thing: its drawings, each as likely as the others, the names of its colours, and its largest turn either way in degrees."""

    drawings: tuple[Callable[[Sketch], None], ...]
    colours: tuple[str, ...]
    turn: float = 12.0


_PAINTED = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "white")
_FUR = ("orange", "brown", "black", "grey", "white")

KINDS: dict[str, Kind] = {
    "cat": Kind((animals.cat_face, animals.cat_sitting), ("orange", "brown", "black", "grey", "white", "yellow")),
    "dog": Kind((animals.dog_face, animals.dog_standing), ("orange", "brown", "black", "grey", "white", "yellow")),
    "rabbit": Kind((animals.rabbit_face, animals.rabbit_side), ("brown", "grey", "white", "black")),
    "pig": Kind((animals.pig_face, animals.pig_side), ("pink",)),
    "elephant": Kind((animals.elephant,), ("grey",)),
    "giraffe": Kind((animals.giraffe,), ("yellow", "orange")),
    "owl": Kind((animals.owl,), ("brown", "grey", "orange", "white")),
    "penguin": Kind((animals.penguin, animals.penguin_side), ("black", "blue", "grey")),
    "duck": Kind((animals.duck,), ("yellow", "white", "green", "brown")),
    "fish": Kind((creatures.fish,), ("red", "orange", "yellow", "green", "blue", "purple"), 25),
    "whale": Kind((creatures.whale,), ("blue", "grey", "black"), 20),
    "turtle": Kind((creatures.turtle,), ("green", "brown")),
    "snail": Kind((creatures.snail,), ("orange", "brown", "yellow", "pink", "purple", "red")),
    "butterfly": Kind((creatures.butterfly,), ("red", "orange", "yellow", "green", "blue", "purple", "pink"), 40),
    "apple": Kind((food.apple,), ("red", "green", "yellow"), 20),
    "banana": Kind((food.banana, food.bananas), ("yellow", "green"), 60),
    "pear": Kind((food.pear,), ("green", "yellow"), 25),
    "cherry": Kind((food.cherry,), ("red",), 15),
    "strawberry": Kind((food.strawberry,), ("red",), 25),
    "watermelon": Kind((food.watermelon, food.watermelon_wedge), ("red",), 20),
    "pineapple": Kind((food.pineapple,), ("yellow", "orange"), 25),
    "carrot": Kind((food.carrot,), ("orange",), 180),
    "mushroom": Kind((food.mushroom,), ("red", "brown", "orange", "grey"), 15),
    "pizza": Kind((food.pizza,), ("yellow",), 50),
    "hamburger": Kind((food.hamburger,), ("orange",), 10),
    "ice cream": Kind((food.ice_cream, food.ice_cream_soft), ("pink", "white", "brown", "yellow", "green"), 20),
    "donut": Kind((food.donut,), ("pink", "brown", "white", "blue", "purple"), 30),
    "cake": Kind((food.cake, food.cake_slice), ("pink", "white", "brown", "yellow", "blue"), 8),
    "car": Kind((vehicles.car, vehicles.car_front), ("red", "orange", "yellow", "green", "blue", "black", "grey", "white"), 10),
    "bus": Kind((vehicles.bus, vehicles.bus_front), ("red", "orange", "yellow", "green", "blue", "white"), 8),
    "truck": Kind((vehicles.truck,), ("red", "orange", "yellow", "green", "blue", "grey", "white"), 8),
    "tractor": Kind((vehicles.tractor,), ("red", "orange", "yellow", "green", "blue"), 8),
    "bicycle": Kind((vehicles.bicycle,), ("red", "yellow", "green", "blue", "black", "purple"), 8),
    "train": Kind((vehicles.train, vehicles.train_front), ("red", "green", "blue", "black", "grey", "orange"), 8),
    "airplane": Kind((vehicles.airplane, vehicles.airplane_side), ("grey", "white", "blue", "red", "yellow"), 60),
    "helicopter": Kind((vehicles.helicopter,), ("red", "orange", "yellow", "green", "blue", "grey"), 15),
    "sailboat": Kind((vehicles.sailboat,), ("red", "yellow", "blue", "brown", "green"), 12),
    "rocket": Kind((vehicles.rocket,), ("white", "grey", "red", "blue", "yellow"), 60),
    "house": Kind((buildings.house,), ("red", "yellow", "white", "orange", "blue", "green", "pink"), 6),
    "castle": Kind((buildings.castle,), ("grey", "brown", "yellow", "pink"), 6),
    "church": Kind((buildings.church,), ("white", "grey", "yellow", "brown"), 6),
    "tent": Kind((buildings.tent, buildings.tent_ridge), ("red", "orange", "yellow", "green", "blue", "purple"), 8),
    "hammer": Kind((objects.hammer,), ("brown", "red", "yellow", "black", "blue"), 180),
    "saw": Kind((objects.saw,), ("brown", "red", "orange", "yellow", "blue", "black"), 60),
    "scissors": Kind((objects.scissors,), ("red", "orange", "yellow", "green", "blue", "black"), 180),
    "key": Kind((objects.key,), ("yellow", "grey", "orange", "brown"), 180),
    "pencil": Kind((objects.pencil,), ("red", "orange", "yellow", "green", "blue", "purple"), 180),
    "umbrella": Kind((objects.umbrella,), _PAINTED[:-1] + ("black",), 25),
    "clock": Kind((objects.clock,), ("red", "yellow", "green", "blue", "brown", "black", "grey"), 12),
    "light bulb": Kind((objects.light_bulb,), ("yellow", "white", "orange"), 30),
    "guitar": Kind((objects.guitar, objects.guitar_electric), ("brown", "orange", "red", "yellow", "blue", "black"), 60),
    "trumpet": Kind((objects.trumpet,), ("yellow", "orange", "grey"), 30),
    "drum": Kind((objects.drum,), ("red", "blue", "green", "orange", "purple"), 12),
    "bell": Kind((objects.bell,), ("yellow", "orange", "grey"), 25),
    "book": Kind((objects.book, objects.book_closed), ("red", "orange", "green", "blue", "purple", "brown", "black"), 20),
    "chair": Kind((objects.chair,), ("red", "yellow", "green", "blue", "brown", "orange", "black"), 8),
}

THINGS: tuple[str, ...] = tuple(KINDS)
"""The names of the things, by their numbers: animals, food, vehicles and buildings, tools and what else is in a house, 14 of each."""

VARIANTS = np.array([len(kind.drawings) for kind in KINDS.values()])
"""How many drawings each thing has."""

HAS_COLOUR = np.array([[colour in kind.colours for colour in COLOURS] for kind in KINDS.values()])
"""Which colours each thing may have, ``(things, colours)``."""
