"""What a training run leaves behind, beside the model."""

import dataclasses


@dataclasses.dataclass
class History:
    """What a run went through. ``dataclasses.asdict(history)`` is plain JSON, and ``History(**that)`` is the history again.

    Attributes:
        losses: the loss of each step's batch, before the update.
        metrics: by name, the metric of each step's batch.
        evaluations: what ``evaluate`` returned, each with its ``step`` (the number of steps done).
        seconds: spent on the steps themselves, without evaluations, checkpoints and drawing; goes on counting after a resume.
    """

    losses: list[float] = dataclasses.field(default_factory=list)
    metrics: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    evaluations: list[dict[str, float]] = dataclasses.field(default_factory=list)
    seconds: float = 0.0

    @property
    def steps(self) -> list[int]:
        """The numbers of the steps done, from 1: the horizontal axis of a loss curve."""
        return list(range(1, len(self.losses) + 1))
