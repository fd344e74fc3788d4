"""Llama 3.2 Vision: equal to transformers, and to Meta's code where the two depart, with every gate open and every norm its own."""

from dataclasses import replace
from functools import partial

import pytest
import torch
from support import largest_difference
from tiny_llama_vision import FOUR, IMAGE, ONE, TALL, TILE, TWO, WIDE, batch, inputs_of, picture, theirs

from minimllm import LlamaVision, Tiles, prepare_tiles
from minimllm.models.llama_vision.tiles import arrangements
from minimllm.models.llama_vision.vision import TileEncoder

REFERENCES = ["meta", "transformers"]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Theirs and ours by reference; both of ours are read from the same folder, which transformers has written."""
    folder = tmp_path_factory.mktemp("mllama")
    theirs().save_pretrained(folder)
    return {reference: (theirs(reference), LlamaVision.from_pretrained(folder, reference=reference)) for reference in REFERENCES}


CASES = {
    "one tile": batch(("tIttt", [ONE])),
    "two by two tiles": batch(("tIttt", [FOUR])),
    "four tiles in a row": batch(("tIttt", [WIDE])),
    "four tiles in a column": batch(("tIttt", [TALL])),
    "two tiles": batch(("tIttt", [TWO])),
    "one pixel": batch(("ItIt", [picture(1, 1), picture(1, 1, seed=1)])),
    "a line of pixels": batch(("tItt", [picture(1, 500)])),
    "text before the picture": batch(("tttttItt", [TWO])),
    "the picture last": batch(("tttI", [FOUR])),
    "nothing but a picture": batch(("I", [TWO])),
    "nothing but pictures": batch(("III", [ONE, TWO, FOUR])),
    "three pictures among text": batch(("tIttItIttt", [ONE, FOUR, TWO])),
    "two pictures side by side": batch(("tIItt", [TWO, FOUR])),
    "twice two side by side": batch(("tIItII", [TWO, TALL, FOUR, ONE])),
    "pictures alone and side by side": batch(("tIttIItI", [ONE, TWO, TALL, ONE])),
    "one picture and two, padded right": batch(("tItt", [FOUR]), ("tItttItt", [TWO, ONE])),
    "one picture and two, padded left": batch(("tItt", [FOUR]), ("tItttItt", [TWO, ONE]), side="left"),
    "a row of text alone, padded left": batch(("ttt", []), ("tIttt", [TWO]), ("ItIttt", [ONE, WIDE]), side="left"),
    "a row of text alone, padded right": batch(("ttt", []), ("tIttt", [TWO]), ("ItIttt", [ONE, WIDE])),
    "the last row of text alone": batch(("tIttt", [TALL]), ("tt", [])),
    "many rows": batch(*[("t" * n + "I" + "t" * (5 - n), [picture(8 + 9 * n, 50 - 7 * n)]) for n in range(6)], side="left"),
}


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("case", CASES)
def test_logits_equal_the_reference(pairs, case, reference):
    other, ours = pairs[reference]
    ids, mask, tiles = CASES[case]
    with torch.no_grad():
        got, expected = ours(ids, tiles, mask), other(**inputs_of(ids, mask, tiles)).logits
        assert got.shape == (*ids.shape, IMAGE) and got.isfinite().all()
        assert largest_difference(got[mask.bool()], expected[mask.bool()]) < 1e-5
        assert largest_difference(ours(ids, tiles, mask, only_last=True), got[:, -1:]) < 1e-5
    assert got[mask.bool()].abs().max() > 1, "large enough that 1e-5 means something"


@pytest.mark.parametrize("reference", REFERENCES)
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_features_of_all_arrangements_equal_the_reference_in_every_tile(pairs, reference, attention):
    ours, other = pairs[reference][1].vision, theirs(reference, attention).model.vision_model
    grids = arrangements()
    pictures = [picture(rows * TILE, columns * TILE) for rows, columns in grids]
    tiles = prepare_tiles([pictures], TILE)
    assert tiles.aspect_ratio_ids.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8]]
    with_absent = prepare_tiles([[], pictures], TILE)
    for each in (tiles, with_absent):
        with torch.no_grad():
            expected = other(each.pixel_values, each.aspect_ratio_ids, each.aspect_ratio_mask).last_hidden_state.flatten(0, 1)
            got = ours(each.pixel_values.flatten(0, 1), each.aspect_ratio_ids.flatten(), each.aspect_ratio_mask.flatten(0, 1))
        assert got.shape == (len(grids) * len(each.num_tiles), 4, 17, 96)
        assert largest_difference(got, expected) < 1e-4 and expected.abs().max() > 10


def note(states, block, args, output):
    states.append({"before": args[0], "after": output})


def test_collected_states_are_interleaved_and_stand_before_or_after_their_blocks(pairs):
    _, _, tiles = CASES["two by two tiles"]
    inputs = tiles.pixel_values[0], tiles.aspect_ratio_ids[0], tiles.aspect_ratio_mask[0]
    for reference, moment in (("meta", "before"), ("transformers", "after")):
        vision, states = pairs[reference][1].vision, []
        hooks = [block.register_forward_hook(partial(note, states)) for block in vision.blocks]
        with torch.no_grad():
            features = vision(*inputs)
        for hook in hooks:
            hook.remove()
        for place, number in enumerate(vision.config.collected):
            state = states[number][moment].unflatten(1, (4, 24))[:, :, :17]
            assert torch.equal(features[..., 32 + place :: 2], state)


def test_states_before_a_block_are_those_after_the_one_before_it(pairs):
    _, ours = pairs["meta"]
    _, _, tiles = CASES["two by two tiles"]
    inputs = tiles.pixel_values[0], tiles.aspect_ratio_ids[0], tiles.aspect_ratio_mask[0]
    config = replace(ours.vision.config, collected=(0, 2))
    earlier = TileEncoder(config, reference="transformers").eval()
    earlier.load_state_dict(ours.vision.state_dict())
    with torch.no_grad():
        assert torch.equal(ours.vision(*inputs), earlier(*inputs)), "(1, 3) before is (0, 2) after"


@pytest.mark.parametrize("reference", REFERENCES)
def test_text_alone_is_the_language_model_alone(pairs, reference):
    other, ours = pairs[reference]
    ids, mask, _ = batch(("ttttt", []), ("tt", []), side="left")
    with torch.no_grad():
        got = ours(ids, None, mask)
        assert torch.equal(got, ours.language_model.logits(ours.language_model.decode(ours.language_model.tokens(ids), mask)))
        assert largest_difference(got[mask.bool()], other(input_ids=ids, attention_mask=mask).logits[mask.bool()]) < 1e-5


def test_closed_gates_make_pictures_invisible_and_open_ones_do_not(pairs):
    _, ours = pairs["meta"]
    ids, mask, tiles = CASES["three pictures among text"]
    gates = [gate for block in ours.cross_blocks for gate in (block.attention_gate, block.mlp_gate)]
    with torch.no_grad():
        open_ = ours(ids, tiles, mask)
        values = [gate.clone() for gate in gates]
        try:
            for gate in gates:
                gate.zero_()
            closed = ours(ids, tiles, mask)
        finally:
            for gate, value in zip(gates, values, strict=True):
                gate.copy_(value)
        alone = ours.language_model.logits(ours.language_model.decode(ours.language_model.tokens(ids), mask))
    assert torch.equal(closed, alone) and largest_difference(open_, closed) > 0.1


@pytest.mark.parametrize("side", ["left", "right"])
def test_every_row_of_a_batch_comes_out_as_it_would_alone(pairs, side):
    _, ours = pairs["meta"]
    rows = [("ttt", []), ("tItt", [FOUR]), ("tItItttt", [TWO, ONE]), ("IIt", [ONE, TALL])]
    ids, mask, tiles = batch(*rows, side=side)
    with torch.no_grad():
        together = ours(ids, tiles, mask)
        for row, (_, pictures) in enumerate(rows):
            real = mask[row].bool()
            alone = ours(ids[row : row + 1, real], prepare_tiles([pictures], TILE))
            assert largest_difference(together[row, real], alone[0]) < 1e-5


def test_in_transformers_a_text_in_a_mixed_batch_sees_the_pictures_of_its_neighbours_slots(pairs):
    ids, mask, tiles = batch(("tttt", []), ("tItt", [FOUR]))
    with torch.no_grad():
        for reference, leaks in (("meta", False), ("transformers", True)):
            _, ours = pairs[reference]
            difference = largest_difference(ours(ids, tiles, mask)[:1], ours(ids[:1]))
            assert (difference > 1e-2) == leaks and (leaks or difference < 1e-5)


def test_a_later_picture_changes_nothing_before_it_and_an_earlier_one_is_seen_through_the_text(pairs):
    _, ours = pairs["meta"]
    ids, _, tiles = batch(("tIttItt", [ONE, TWO]))
    _, _, other_second = batch(("tIttItt", [ONE, picture(12, 30, seed=7)]))
    _, _, other_first = batch(("tIttItt", [picture(10, 12, seed=7), TWO]))
    with torch.no_grad():
        logits = ours(ids, tiles)
        moved = (ours(ids, other_second) - logits).abs().amax(-1)[0]
        assert (moved[:4] == 0).all() and (moved[4:] > 1e-3).all()
        moved = (ours(ids, other_first) - logits).abs().amax(-1)[0]
        assert (moved[:1] == 0).all() and (moved[1:] > 1e-4).all()


def test_empty_tiles_are_hidden_from_the_text_but_not_from_the_other_tiles(pairs):
    _, ours = pairs["meta"]
    _, _, tiles = CASES["one tile"]
    inputs = tiles.pixel_values[0], tiles.aspect_ratio_ids[0], tiles.aspect_ratio_mask[0]
    changed = inputs[0].clone()
    changed[0, 2] += 1.0
    with torch.no_grad():
        before, after = ours.vision(*inputs), ours.vision(changed, *inputs[1:])
    assert (before - after)[0, 0].abs().max() > 1e-2, "a real tile attends to an empty one"


@pytest.mark.parametrize("side", ["left", "right"])
def test_what_stands_under_padding_does_not_matter(pairs, side):
    ids, mask, tiles = batch(("tItt", [FOUR]), ("tItItttt", [TWO, ONE]), side=side)
    for reference in REFERENCES:
        _, ours = pairs[reference]
        with torch.no_grad():
            got, other = ours(ids, tiles, mask), ours(ids.masked_fill(mask == 0, 7), tiles, mask.bool())
        assert largest_difference(got[mask.bool()], other[mask.bool()]) == 0


def test_rows_cut_out_of_a_batch_keep_their_empty_places(pairs):
    _, ours = pairs["meta"]
    ids, mask, tiles = batch(("tttttttt", []), ("tItItttt", [TWO, ONE]), ("tItttttt", [FOUR]))
    with torch.no_grad():
        whole = ours(ids, tiles, mask)
        for rows in (slice(0, 1), slice(1, 2), slice(2, 3), slice(0, 3, 2)):
            part = Tiles(tiles.pixel_values[rows], tiles.aspect_ratio_ids[rows], tiles.aspect_ratio_mask[rows], tiles.num_tiles[rows])
            assert largest_difference(ours(ids[rows], part, mask[rows]), whole[rows]) < 1e-5
