"""Training: the loop, its optimizers and schedules, batches from a seed, checkpoints, the growing curve."""

from minimllm.data.seeds import derive_seed, generator_for
from minimllm.training.batches import batch_indices, to_device
from minimllm.training.loop import History, accuracy, classification_loss, train
from minimllm.training.optimizers import TrainingConfig, learning_rate_factor, make_optimizers

__all__ = [
    "History",
    "TrainingConfig",
    "accuracy",
    "batch_indices",
    "classification_loss",
    "derive_seed",
    "generator_for",
    "learning_rate_factor",
    "make_optimizers",
    "to_device",
    "train",
]
