"""Batches from an endless stream, drawn several at a time."""

from collections.abc import Callable

from torch import Tensor

from minimllm.data.chance import check_seed


def draw_ahead(draw: Callable[[int, int], tuple[Tensor, ...]], size: int, batches: int = 8) -> Callable[[int], tuple[Tensor, ...]]:
    """Makes ``batch(step)`` of ``draw(n, start)``, which gives rows ``start`` to ``start + n - 1`` of a stream.

        def pictures(n, start):
            world = scenes(n, seed, "train", objects=1, start=start)
            return render(world), world.pair[:, 0]

        make_batch = draw_ahead(pictures, size=192)    # make_batch(0), make_batch(1), ...

    Each batch is what ``draw(size, step * size)`` alone would give, as long as a row does not depend on the rows it is drawn with; so a
    batch is still a function of its step, in whatever order steps are asked for. But drawing a few thousand rows at once costs less a row
    than drawing two hundred after each training step, which has filled the processor's caches with other things. One block of ``batches *
    size`` rows is kept.

    Raises:
        ValueError: a size or a number of batches below 1.
    """
    if check_seed(size, "size") < 1 or check_seed(batches, "batches") < 1:
        raise ValueError(f"size and batches must be 1 or more, got {size} and {batches}")
    kept: dict[int, tuple[Tensor, ...]] = {}

    def batch(step: int) -> tuple[Tensor, ...]:
        block, position = divmod(check_seed(step, "step"), batches)
        if block not in kept:
            kept.clear()
            kept[block] = draw(batches * size, block * batches * size)
        return tuple(tensor[position * size : (position + 1) * size] for tensor in kept[block])

    return batch
