"""What a training step holds and sends, counted from sizes: by one process, by several with whole models, or with their blocks spread."""

from dataclasses import dataclass

from minimllm.inspection.costs import LayerCost


def block_kept(tokens: int, dim: int, mlp_dim: int, heads: int, recomputed: bool = False) -> int:
    """Numbers that an :class:`~minimllm.layers.blocks.EncoderBlock` keeps of ``tokens`` tokens for the way back.

    Of every token eight vectors of width ``dim`` (the input, its norm, query, key, value, what attention mixed, the sum behind it and its
    norm), two of width ``mlp_dim`` (before and behind GELU), a number for each head (its softmax's divisor) and two for each norm (mean
    and spread). ``recomputed``: its input alone; the rest is there for one block at a time, while that block goes back.

    Raises:
        ValueError: for a count or a width below 1.
    """
    if min(tokens, dim, mlp_dim, heads) < 1:
        raise ValueError(f"counts must be at least 1, got tokens={tokens}, dim={dim}, mlp_dim={mlp_dim}, heads={heads}")
    return tokens * dim if recomputed else tokens * (8 * dim + 2 * mlp_dim + heads + 4)


@dataclass(frozen=True)
class Spread:
    """What each of several processes holds and sends that train one model with AdamW.

    Attributes:
        parameters: of the model.
        processes: how many.
        sharded: whether weights, gradients and moments are spread over the processes (``fully_shard``, ZeRO-3), or whole in each (DDP).
        trained: how many of the parameters learn; ``None``: all.
        whole: how many of the parameters stay whole in each process although the others are spread; all of them learn.
        bytes_per_number: 4 in float32.

    Raises:
        ValueError: for counts that do not fit together.
    """

    parameters: int
    processes: int = 1
    sharded: bool = False
    trained: int | None = None
    whole: int = 0
    bytes_per_number: int = 4

    def __post_init__(self):
        if self.processes < 1 or not 0 <= self.whole <= self.learning <= self.parameters:
            raise ValueError(
                f"expected at least one process, and whole <= trained <= parameters; got {self.processes} processes, "
                f"{self.whole} whole, {self.learning} trained of {self.parameters} parameters"
            )

    @property
    def learning(self) -> int:
        return self.parameters if self.trained is None else self.trained

    def held(self) -> dict[str, int]:
        """Bytes in each process: ``weights``, ``gradients``, and AdamW's two ``moments``; a part that does not divide is rounded up."""
        weights, gradients = self._own(self.parameters), self._own(self.learning)
        sizes = {"weights": weights, "gradients": gradients, "moments": 2 * gradients}
        return {name: count * self.bytes_per_number for name, count in sizes.items()}

    def messages(self) -> dict[str, int]:
        """Bytes of a step's messages, each counted once as the whole that it carries.

        ``all_reduce`` sums gradients that all processes hold. ``all_gather`` brings the weights of each block together, once for the way
        forth and once for the way back; ``reduce_scatter`` sums their gradients, each process receiving its own part.
        """
        if self.processes == 1:
            return {"all_reduce": 0, "all_gather": 0, "reduce_scatter": 0}
        spread = self.parameters - self.whole if self.sharded else 0
        summed = self.whole if self.sharded else self.learning
        scattered = self.learning - self.whole if self.sharded else 0
        counts = {"all_reduce": summed, "all_gather": 2 * spread, "reduce_scatter": scattered}
        return {name: count * self.bytes_per_number for name, count in counts.items()}

    def sent(self) -> float:
        """Bytes that each process sends in a step, in a ring (Patarasuk and Yuan 2009).

        Of a message that is gathered or scattered it is the share of the others, ``(processes - 1) / processes``; of one that is summed for
        all, twice that.
        """
        messages = self.messages()
        return (2 * messages["all_reduce"] + messages["all_gather"] + messages["reduce_scatter"]) * (self.processes - 1) / self.processes

    def _own(self, count: int) -> int:
        return self.whole + -(-(count - self.whole) // self.processes) if self.sharded else count


def training_operations(forward: LayerCost | int, trained: bool = True, gradient: bool = True) -> int:
    """Floating-point operations of a training step, two for each multiply-add of the forward pass.

    A linear layer (a number of multiply-adds) costs as much again for the gradient of what came in (``gradient``: whether anything before
    it learns) and once more for that of its weights (``trained``). A layer with attention (a :class:`~minimllm.inspection.costs.LayerCost`)
    that learns costs three forward passes, even as the first, since its own norm asks for a gradient; frozen behind something that learns,
    two, and the pairs of tokens once more, which have no weights: both scores and shares want a gradient. Frozen and first: one.
    """
    if not isinstance(forward, LayerCost):
        return 2 * forward * (1 + trained + gradient)
    back = 2 * forward.total if trained else gradient * (forward.linear + 2 * forward.attention)
    return 2 * (forward.total + back)
