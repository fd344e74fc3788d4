"""Questions about scenes, with their answers: nine kinds, drawn for a whole batch at once.

Every question names its objects so that only one can be meant, and can be answered from the scene alone. Answers are balanced, so that a
model which does not look gains little: see :data:`KINDS`.
"""

import dataclasses

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from minimllm.data import chance
from minimllm.data.grammar import WRITERS, Facts, phrase_table
from minimllm.data.words import ORDINALS, WORDS
from minimllm.data.world import Scenes

KINDS: dict[str, str] = {
    "colour": "what colour is the star ?",
    "shape": "what shape is the red object ? | what shape is the object at the top left ?",
    "size": "what size is the star ?",
    "count": "how many objects are there ?",
    "count_colour": "how many red objects are there ?",
    "where": "where is the star ?",
    "exists": "is there a red star ?",
    "relation": "is the star left of the heart ?",
    "comparison": "is the star the same colour as the heart ? | is the star the same size as the heart ?",
}
"""The kinds, each with what its questions look like.

* ``colour``, ``shape``, ``size`` and ``where`` ask about one object, each of the scene's equally likely. An object is called by its shape;
  where a crowded scene has several of that shape, by colour and shape, or by its place when the colour is what is asked.
* ``count_colour`` asks for colours that the scene lacks, has once, and has more often.
* ``exists``: one half yes. The pair asked for is one that the scene's split may show, whichever the answer, so that the words alone say
  nothing; a missing pair shares its shape or its colour with an object that is there, as far as possible.
* ``relation``: left of, right of, above, below, of two objects that do differ that way; one half yes.
* ``comparison``: one half yes, for colour and for size. Colours are compared only where the answer is open: in scenes of two objects, half
  of which are of one colour, and in scenes with both an equal and an unequal pair.
"""


@dataclasses.dataclass(frozen=True)
class Questions:
    """Questions about a batch of scenes, in words of ``WORDS`` by index, padded at the end with -1.

    Attributes:
        question, answer: the words, ``(scenes, questions, words)``.
        kind: index into ``KINDS``, ``(scenes, questions)``; -1 where a scene has no question of the kind wanted.
    """

    question: Int[Tensor, "scenes questions words"]
    answer: Int[Tensor, "scenes questions answer_words"]
    kind: Int[Tensor, "scenes questions"]

    def texts(self) -> list[list[tuple[str, str, str]]]:
        """Per scene a list of (question, answer, kind) as texts."""
        names = list(KINDS)
        rows = zip(self.question.tolist(), self.answer.tolist(), self.kind.tolist(), strict=True)
        return [
            [(_text(q), _text(a), names[k]) for q, a, k in zip(questions, answers, kinds, strict=True) if k >= 0]
            for questions, answers, kinds in rows
        ]


def _text(words: list[int]) -> str:
    return " ".join([WORDS[word] for word in words if word >= 0])


def questions(scenes: Scenes, *, seed: int = 0) -> list[list[tuple[str, str, str]]]:
    """One question of each kind about each scene, with its answer.

    Returns per scene a list of (question, answer, kind), in the order of ``KINDS``; kinds that a scene does not admit are left out: a
    single object has no ``relation`` and no ``comparison``, and a grid of one cell no ``where``. Another ``seed`` asks other questions;
    each scene's own are the same in any batch.
    """
    every_kind = np.broadcast_to(np.arange(len(KINDS)), (len(scenes), len(KINDS)))
    return _ask(scenes, np.where(_askable(scenes), every_kind, -1), _luck(scenes, len(KINDS), seed)).texts()


def sample_questions(scenes: Scenes, per_scene: int, *, seed: int = 0, weights: dict[str, float] | None = None) -> Questions:
    """Draws ``per_scene`` questions about each scene, with their answers: what training calls at every step.

    Args:
        scenes: what to ask about.
        per_scene: how many questions about each scene; the same question may come twice.
        seed: another one asks other questions about the same scenes.
        weights: how often to ask each kind, in any unit; kinds left out are not asked, all equally by default. Kinds that a scene does
            not admit give their share to the others.

    Raises:
        ValueError: an unknown kind, a negative weight, no weight above 0, a scene that admits none of the kinds.
    """
    per_scene = chance.check_seed(per_scene, "per_scene")
    weights = dict.fromkeys(KINDS, 1.0) if weights is None else weights
    unknown = sorted(set(weights) - set(KINDS))
    if unknown:
        raise ValueError(f"unknown kind of question {unknown[0]!r}; choose from {', '.join(KINDS)}")
    if not weights or min(weights.values()) < 0 or not 0 < sum(weights.values()) < float("inf"):
        raise ValueError(f"weights must be 0 or more, finite and not all 0, got {weights}")
    shares = _askable(scenes) * np.array([weights.get(kind, 0.0) for kind in KINDS])
    reach = shares.cumsum(1)
    if len(scenes) and reach[:, -1].min() == 0:
        row = int(reach[:, -1].argmin())
        asked = ", ".join(kind for kind in weights if weights[kind])
        raise ValueError(f"scene {row}, of {int(scenes.count[row])} objects on a {scenes.grid} grid, admits no question of kind {asked}")
    luck = _luck(scenes, per_scene, seed)
    kind = (reach[:, None] <= luck[..., -1:] * reach[:, None, -1:]).sum(2)
    return _ask(scenes, kind, luck)


def _luck(scenes: Scenes, per_scene: int, seed: int) -> np.ndarray:
    """Five uniform numbers per question."""
    keys = chance.mix(scenes.key.numpy().view(np.uint64) ^ np.uint64(chance.check_seed(seed)))
    return chance.uniform(keys, per_scene * 5, purpose=6).reshape(len(scenes), per_scene, 5)


def _askable(scenes: Scenes) -> np.ndarray:
    """bool (scenes, kinds)."""
    single = (scenes.count == 1).numpy()
    no = {"where": scenes.grid == (1, 1), "relation": single, "comparison": single}
    return np.stack([np.broadcast_to(~np.asarray(no.get(kind, False)), len(scenes)) for kind in KINDS], axis=1)


def _ask(scenes: Scenes, kind: np.ndarray, luck: np.ndarray) -> Questions:
    """Writes a question of each ``kind (scenes, questions)``, by ``luck (scenes, questions, 5)``."""
    facts = Facts.about(scenes)
    written = []
    for index, name in enumerate(KINDS):
        scene, position = np.nonzero(kind == index)
        if len(scene):
            written.append((scene, position, *WRITERS[name](facts.of(scene), luck[scene, position])))
    lengths = [max((w[part].shape[1] for w in written), default=1) for part in (2, 3)]
    filled = [np.full((*kind.shape, length), -1) for length in lengths]
    for scene, position, *texts in written:
        for target, text in zip(filled, texts, strict=True):
            target[scene, position, : text.shape[1]] = text
    return Questions(torch.from_numpy(filled[0]), torch.from_numpy(filled[1]), torch.from_numpy(kind.astype(np.int64)))


def in_pictures(questions: Questions, pictures: int) -> Questions:
    """Turns questions about single scenes into questions about one of several pictures shown together.

    Scenes ``0 .. pictures - 1`` are the first sample's pictures, in this order, the next ones the second's, and so on; to draw them,
    ``rearrange(render(scenes), "(samples pictures) c h w -> samples pictures c h w", pictures=pictures)``. Each question then begins with
    the picture that it is about, ``in the second picture , what colour is the star ?``, and each sample has those of all its pictures.

    Raises:
        ValueError: fewer than one or more than four pictures, or a number of scenes that it does not divide.
    """
    scenes, each, _ = questions.question.shape
    if not 1 <= pictures <= len(ORDINALS) or scenes % pictures:
        raise ValueError(f"pictures must be 1 to {len(ORDINALS)} and divide the number of scenes, got {pictures} and {scenes} scenes")
    prefixes = torch.from_numpy(phrase_table([f"in the {ordinal} picture ," for ordinal in ORDINALS[:pictures]]))
    prefix = prefixes[torch.arange(scenes) % pictures][:, None].expand(-1, each, -1)
    prefix = prefix.masked_fill((questions.kind < 0)[..., None], -1)
    words = torch.cat([prefix, questions.question], dim=2)
    samples = scenes // pictures
    return Questions(
        words.reshape(samples, pictures * each, -1),
        questions.answer.reshape(samples, pictures * each, -1),
        questions.kind.reshape(samples, pictures * each),
    )
