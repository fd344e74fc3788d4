"""Tensors of which every process holds a part: PyTorch's ``DTensor``, whose module loads only where there are any."""

from torch import Tensor


def is_spread(tensor: Tensor) -> bool:
    return hasattr(tensor, "full_tensor")


def whole(tensor: Tensor) -> Tensor:
    """A spread tensor, gathered; all processes have to ask for it. Others as they are."""
    return tensor.full_tensor() if is_spread(tensor) else tensor


def like(tensor: Tensor, other: Tensor) -> Tensor:
    """A whole tensor that all processes hold, spread as ``other`` is, if it is."""
    if not is_spread(other):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, other.device_mesh, other.placements, src_data_rank=None)
