import pytest
import torch
import torch.nn.functional as F
from support import largest_difference, unchecked

from minimllm import LearnedPositions, PatchEmbedding, interpolate_positions, patchify, unpatchify


def test_a_tiny_image_by_hand():
    image = torch.arange(16).reshape(1, 1, 4, 4)
    assert patchify(image, 2).tolist() == [[[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]]


def test_channels_come_first_in_a_patch():
    image = torch.stack([torch.zeros(2, 2), torch.ones(2, 2), torch.full((2, 2), 2.0)])[None]
    assert patchify(image, 2).tolist() == [[[0.0] * 4 + [1.0] * 4 + [2.0] * 4]]


@pytest.mark.parametrize("batch,channels,height,width,patch", [(1, 1, 4, 4, 4), (2, 3, 8, 12, 4), (3, 5, 6, 2, 1), (1, 3, 14, 28, 14)])
def test_patchify_is_torch_unfold_and_unpatchify_its_inverse(batch, channels, height, width, patch):
    images = torch.randn(batch, channels, height, width)
    patches = patchify(images, patch)
    assert torch.equal(patches, F.unfold(images, patch, stride=patch).transpose(1, 2))
    assert torch.equal(unpatchify(patches, patch, height, width), images)


@pytest.mark.parametrize("bias", [True, False])
def test_patch_embedding_is_the_strided_convolution(bias):
    embedding = PatchEmbedding(4, 3, 10, bias=bias).double()
    images = torch.randn(2, 3, 8, 12, dtype=torch.float64)
    convolved = embedding.as_convolution()(images).flatten(2).transpose(1, 2)
    assert largest_difference(embedding(images), convolved) < 1e-12


def test_positions_are_kept_on_the_same_grid_and_stretched_on_another():
    positions = LearnedPositions((2, 3), 4)
    assert torch.equal(positions(torch.zeros(1, 7, 4))[0], positions.table)
    stretched = positions(torch.zeros(1, 1 + 4 * 6, 4), grid=(4, 6))[0]
    assert torch.equal(stretched[0], positions.table[0]), "the class token has no place in the picture"
    constant = interpolate_positions(torch.full((6, 4), 0.3), (2, 3), (5, 2), extra=0)
    assert constant.shape == (10, 4) and torch.allclose(constant, torch.tensor(0.3))


def test_a_ramp_of_positions_stays_a_ramp():
    columns = torch.arange(8.0).repeat(8)[:, None]
    stretched = interpolate_positions(columns, (8, 8), (8, 16), extra=0).reshape(8, 16)
    pairs = stretched[:, 4:-4].unflatten(1, (-1, 2)).mean(-1).diff(dim=1)
    assert torch.allclose(pairs, torch.tensor(1.0), atol=1e-4), "two new columns for each old one"
    assert torch.allclose(stretched, stretched[:1].expand(8, -1), atol=1e-5), "rows stay as they are"


BAD_IMAGES = {
    "31 x 32": (torch.zeros(1, 3, 31, 32), 8, "31 x 32.*8"),
    "a side of zero": (torch.zeros(1, 3, 0, 32), 8, "0 x 32"),
    "an empty batch": (torch.zeros(0, 3, 32, 32), 8, "empty batch"),
    "no batch dimension": (torch.zeros(3, 32, 32), 8, r"\(3, 32, 32\)"),
    "patch of zero": (torch.zeros(1, 3, 32, 32), 0, "got 0"),
    "patch of a half": (torch.zeros(1, 3, 32, 32), 0.5, "got 0.5"),
}


@pytest.mark.parametrize("case", BAD_IMAGES)
def test_patchify_says_what_does_not_fit(case):
    images, patch, message = BAD_IMAGES[case]
    with unchecked(), pytest.raises(ValueError, match=message):
        patchify(images, patch)


def test_unpatchify_says_what_does_not_fit():
    with pytest.raises(ValueError, match="got 5 patches.*2 x 2 = 4"):
        unpatchify(torch.zeros(1, 5, 12), 2, 4, 4)
    with pytest.raises(ValueError, match="3 values"):
        unpatchify(torch.zeros(1, 4, 3), 2, 4, 4)
    with pytest.raises(ValueError, match="5 x 4"):
        unpatchify(torch.zeros(1, 4, 4), 2, 5, 4)


def test_patch_embedding_says_what_is_wrong_with_the_images():
    embedding = PatchEmbedding(4, 3, 10)
    with unchecked():
        with pytest.raises(ValueError, match="torch.uint8.*255"):
            embedding(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
        with pytest.raises(ValueError, match="3 channels, got 1"):
            embedding(torch.zeros(1, 1, 8, 8))
        with pytest.raises(ValueError, match="empty batch"):
            embedding(torch.zeros(0, 3, 8, 8))


def test_position_tables_of_another_size_are_refused():
    with pytest.raises(ValueError, match="10 rows.*3 x 3 with 0 extra needs 9"):
        interpolate_positions(torch.zeros(10, 4), (3, 3), (4, 4), extra=0)
    assert interpolate_positions(torch.zeros(10, 4), (3, 3), (4, 4)).shape == (17, 4)
