"""What CLIP learns from: of all pairs of pictures and texts in a batch, which belong together (Radford et al. 2021, figure 3).

SigLIP (Zhai et al. 2023) asks the same of every pair by itself.
"""

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from minimllm.training.parts import require_whole
from minimllm.training.processes import gather_rows


def contrastive_loss(logits: Float[Tensor, "images texts"], same: Bool[Tensor, "images texts"] | None = None) -> Float[Tensor, ""]:
    """Symmetric cross-entropy of a square similarity matrix: each image finds its text, each text its image.

    Row ``i`` is image ``i`` against all texts, and its text is number ``i``; column ``i`` is text ``i`` against all images. The loss
    is the mean of the cross-entropy over rows and the one over columns.

    Args:
        logits: similarities times the temperature's scale, as ``model(images, ids)`` gives them.
        same: True where an image and a text that are not a pair fit all the same, such as two pictures with one caption. They
            are no negatives and are left out of the sums; the diagonal stays. ``same = captions[:, None] == captions[None]``.

    Raises:
        ValueError: if the matrix is not square, is empty, or ``same`` has another shape.
    """
    check_pairs(logits, same, "contrastive_loss")
    if same is not None:
        logits = logits.masked_fill(same & ~own_pairs(logits), float("-inf"))
    pairs = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, pairs) + F.cross_entropy(logits.T, pairs)) / 2


def sigmoid_loss(logits: Float[Tensor, "images texts"], same: Bool[Tensor, "images texts"] | None = None) -> Float[Tensor, ""]:
    """Whether each image and each text are a pair, a yes or no for every cell of the matrix (Zhai et al. 2023, algorithm 1).

    ``-log(sigmoid(z * logit))``, where ``z`` is 1 on the diagonal and -1 elsewhere, summed over all cells and divided by the number of
    pairs. No cell's loss depends on another cell, so that a batch need not be together to be learnt from. Most cells are a no: without a
    bias in the logits, -10 at the start, the first steps would do nothing but learn that.

    Args:
        logits: similarities times the temperature's scale, plus the bias, as ``model(images, ids)`` gives them.
        same: as of :func:`contrastive_loss`: these cells are left out of the sum; the diagonal stays.

    Raises:
        ValueError: as :func:`contrastive_loss`.
    """
    check_pairs(logits, same, "sigmoid_loss")
    own = own_pairs(logits)
    losses = -F.logsigmoid(torch.where(own, logits, -logits))
    if same is not None:
        losses = losses.masked_fill(same & ~own, 0.0)
    return losses.sum() / len(logits)


def check_pairs(logits: Tensor, same: Tensor | None, name: str) -> None:
    """Raise a ``ValueError`` unless the matrix is square, of a whole batch, and ``same`` of its shape."""
    require_whole(name)
    if logits.ndim != 2 or logits.shape[0] != logits.shape[1] or logits.shape[0] == 0:
        raise ValueError(
            f"expected a square matrix of similarities, row i and column i a pair, got {tuple(logits.shape)}; "
            "a batch for training holds as many texts as images"
        )
    if same is not None and same.shape != logits.shape:
        raise ValueError(f"same has shape {tuple(same.shape)}, the similarities have {tuple(logits.shape)}; they must be equal")


def own_pairs(logits: Tensor) -> Bool[Tensor, "images texts"]:
    """True on the diagonal."""
    return torch.eye(len(logits), dtype=torch.bool, device=logits.device)


@torch.no_grad()
def clamp_temperature(model: nn.Module, largest: float = 100.0) -> None:
    """Keep ``exp(model.logit_scale)`` at or below ``largest``, in place; called after each training step, never in ``forward``.

    Without it the scale may run away: similarities then saturate the softmax, and single pairs take over the gradient (section 2.5).
    """
    model.logit_scale.clamp_(max=math.log(largest))


def clip_loss(
    model: nn.Module, batch: tuple[Tensor, Tensor, Tensor | None, Tensor | None], gather: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """What one training step of CLIP computes, for :func:`minimllm.training.train`: the loss, and how many pairs are found.

    It has two halves, ``clip_loss.embed`` and ``clip_loss.compare``, by which :func:`minimllm.training.train` computes the loss of a whole
    batch whose rows lie in several processes, or do not fit into the memory at once.

    Args:
        model: a :class:`~minimllm.models.clip.CLIP`.
        batch: normalised images, token ids, their mask, and the table ``same`` of :func:`contrastive_loss`; the last two may be ``None``.
        gather: whether to compare with the pairs of all processes in a loop of one's own, see :func:`gather_embeddings`; ``same`` is then
            of all pairs.

    Returns:
        The loss, and the share of images whose most similar text is true of them, as ``accuracy``.

    Raises:
        ValueError: a text without an end token, which the model would read at its first token, and so learn nothing of the text;
            as many texts as images are needed; errors as of the model.
    """
    return compare_by_softmax(model, *embed_pairs(model, batch, gather))


def siglip_loss(
    model: nn.Module, batch: tuple[Tensor, Tensor, Tensor | None, Tensor | None], gather: bool = False
) -> tuple[Tensor, dict[str, Tensor]]:
    """As :func:`clip_loss`, with :func:`sigmoid_loss` in place of the softmax.

    Raises:
        ValueError: a model without ``logit_bias``; and as :func:`clip_loss`.
    """
    return compare_by_sigmoid(model, *embed_pairs(model, batch, gather))


def embed_pairs(model: nn.Module, batch: tuple[Tensor, Tensor, Tensor | None, Tensor | None], gather: bool = False) -> tuple[Tensor, ...]:
    """The embeddings of images and texts, ``(rows, embed_dim)`` each, and the rows of ``same``, if there are any.

    With ``gather`` the embeddings of all processes; errors as of :func:`clip_loss`.
    """
    images, ids, mask, same = batch
    check_ends(ids, model.config.text.eos_token_id)
    embeddings = model.encode_image(images), model.encode_text(ids, mask)
    embeddings = tuple(map(gather_embeddings, embeddings)) if gather else embeddings
    return embeddings if same is None else (*embeddings, same)


def compare_by_softmax(model: nn.Module, image: Tensor, text: Tensor, same: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and metrics of :func:`clip_loss` from the embeddings of a whole batch."""
    logits = model.compare(image, text)
    return contrastive_loss(logits, same), found_pairs(logits, same)


def compare_by_sigmoid(model: nn.Module, image: Tensor, text: Tensor, same: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and metrics of :func:`siglip_loss` from the embeddings of a whole batch."""
    if model.logit_bias is None:
        raise ValueError(
            "this model has no logit_bias, which the sigmoid loss needs; CLIPConfig(..., initial_logit_bias=-10.0, "
            "initial_logit_scale=math.log(10)) starts as SigLIP does"
        )
    logits = model.compare(image, text)
    return sigmoid_loss(logits, same), found_pairs(logits, same)


clip_loss.embed, clip_loss.compare = embed_pairs, compare_by_softmax
siglip_loss.embed, siglip_loss.compare = embed_pairs, compare_by_sigmoid


def found_pairs(logits: Tensor, same: Tensor | None) -> dict[str, Tensor]:
    """The share of images whose most similar text is true of them."""
    found, own = logits.argmax(dim=1), torch.arange(len(logits), device=logits.device)
    right = found == own if same is None else same[own, found] | (found == own)
    return {"accuracy": right.float().mean()}


def check_ends(ids: Tensor, eos_token_id: int) -> None:
    """Raise a ``ValueError`` that names the first text without an end token."""
    without = (ids != eos_token_id).all(dim=1)
    if eos_token_id != 2 and without.any():  # 2 is the old rule: the highest id is the end
        row = int(without.int().argmax())
        raise ValueError(
            f"text {row} of the batch has no end token (id {eos_token_id}): {ids[row].tolist()}; a tokenizer adds it, "
            "and cutting a long text off behind must keep it"
        )


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(context, local: Tensor, sizes: list[int]) -> Tensor:
        context.sizes = sizes
        return gather_rows(local, sizes)

    @staticmethod
    def backward(context, gradient: Tensor) -> tuple[Tensor, None]:
        # Every process computed a loss with our rows in it, so every process holds a part of their gradient.
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        return gradient.split(context.sizes)[dist.get_rank()], None


def gather_embeddings(local: Float[Tensor, "batch dim"]) -> Float[Tensor, "all_batches dim"]:
    """The embeddings of all processes, one after the other by rank: a batch larger than one device holds.

    Each process encodes its own part of the batch, gathers the embeddings of the others (a few hundred numbers a sample, against
    millions of activations), and computes the loss over all of them. Gradients flow back to the process that each row came from,
    summed over the processes; with ``DistributedDataParallel``, which averages over them, training equals one process with the
    whole batch. The parts may be of unequal size. Without ``torch.distributed``, or with one process, the embeddings come back as they are.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return local
    sizes = [torch.zeros_like(torch.tensor([len(local)], device=local.device)) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, torch.tensor([len(local)], device=local.device))
    return _Gather.apply(local, [int(size) for size in sizes])
