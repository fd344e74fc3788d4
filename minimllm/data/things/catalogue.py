"""Which things there are: the functions that draw each, what colours each may have, and how far each may be turned."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from minimllm.data.things import animals, buildings, creatures, fruit, household, meals, pets, tools, vehicles
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
    "cat": Kind((pets.cat_face, pets.cat_sitting), ("orange", "brown", "black", "grey", "white", "yellow")),
    "dog": Kind((pets.dog_face, pets.dog_standing), ("orange", "brown", "black", "grey", "white", "yellow")),
    "rabbit": Kind((pets.rabbit_face, pets.rabbit_side), ("brown", "grey", "white", "black")),
    "pig": Kind((pets.pig_face, pets.pig_side), ("pink",)),
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
    "apple": Kind((fruit.apple,), ("red", "green", "yellow"), 20),
    "banana": Kind((fruit.banana, fruit.bananas), ("yellow", "green"), 60),
    "pear": Kind((fruit.pear,), ("green", "yellow"), 25),
    "cherry": Kind((fruit.cherry,), ("red",), 15),
    "strawberry": Kind((fruit.strawberry,), ("red",), 25),
    "watermelon": Kind((fruit.watermelon, fruit.watermelon_wedge), ("red",), 20),
    "pineapple": Kind((fruit.pineapple,), ("yellow", "orange"), 25),
    "carrot": Kind((fruit.carrot,), ("orange",), 180),
    "mushroom": Kind((fruit.mushroom,), ("red", "brown", "orange", "grey"), 15),
    "pizza": Kind((meals.pizza,), ("yellow",), 50),
    "hamburger": Kind((meals.hamburger,), ("orange",), 10),
    "ice cream": Kind((meals.ice_cream, meals.ice_cream_soft), ("pink", "white", "brown", "yellow", "green"), 20),
    "donut": Kind((meals.donut,), ("pink", "brown", "white", "blue", "purple"), 30),
    "cake": Kind((meals.cake, meals.cake_slice), ("pink", "white", "brown", "yellow", "blue"), 8),
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
    "hammer": Kind((tools.hammer,), ("brown", "red", "yellow", "black", "blue"), 180),
    "saw": Kind((tools.saw,), ("brown", "red", "orange", "yellow", "blue", "black"), 60),
    "scissors": Kind((tools.scissors,), ("red", "orange", "yellow", "green", "blue", "black"), 180),
    "key": Kind((tools.key,), ("yellow", "grey", "orange", "brown"), 180),
    "pencil": Kind((tools.pencil,), ("red", "orange", "yellow", "green", "blue", "purple"), 180),
    "umbrella": Kind((tools.umbrella,), _PAINTED[:-1] + ("black",), 25),
    "clock": Kind((tools.clock,), ("red", "yellow", "green", "blue", "brown", "black", "grey"), 12),
    "light bulb": Kind((tools.light_bulb,), ("yellow", "white", "orange"), 30),
    "guitar": Kind((household.guitar, household.guitar_electric), ("brown", "orange", "red", "yellow", "blue", "black"), 60),
    "trumpet": Kind((household.trumpet,), ("yellow", "orange", "grey"), 30),
    "drum": Kind((household.drum,), ("red", "blue", "green", "orange", "purple"), 12),
    "bell": Kind((household.bell,), ("yellow", "orange", "grey"), 25),
    "book": Kind((household.book, household.book_closed), ("red", "orange", "green", "blue", "purple", "brown", "black"), 20),
    "chair": Kind((household.chair,), ("red", "yellow", "green", "blue", "brown", "orange", "black"), 8),
}

THINGS: tuple[str, ...] = tuple(KINDS)
"""The names of the things, by their numbers: animals, food, vehicles and buildings, tools and what else is in a house, 14 of each."""

VARIANTS = np.array([len(kind.drawings) for kind in KINDS.values()])
"""How many drawings each thing has."""

HAS_COLOUR = np.array([[colour in kind.colours for colour in COLOURS] for kind in KINDS.values()])
"""Which colours each thing may have, ``(things, colours)``."""
