"""What is known of a training run, in its checkpoint and in bundle.json."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

METRICS = ("objective", "loss", "loss_ratio", "std", "rankme")


@dataclass
class TrainingSummary:
    """What a run learned from and how it went. Networks that no run has trained have the defaults."""

    rows: int = 0
    episodes: int = 0
    seconds: float = 0.0
    half_precision: bool = False  # whether matrices were multiplied as bfloat16
    random_start_share: float = 1.0  # how much of the target encoder's random start is left at the end
    metrics: dict[str, float] = field(default_factory=dict)  # METRICS of the last report
    loss_quantiles: dict[str, list[float]] = field(default_factory=dict)  # by horizon: 0 … 100 % of the held-out loss
    best: dict[str, float] = field(default_factory=dict)  # "step" and "objective" of the best report so far
    history: dict[str, list[float]] = field(default_factory=dict)  # "step" and METRICS, of every report
    licence: str = ""
    data: dict[str, str] = field(default_factory=dict)  # where it comes from

    def record(self, step: int, metrics: Mapping[str, float]) -> None:
        """Keeps the METRICS of a report, and four digits of each for the curves."""
        self.metrics = {name: metrics[name] for name in METRICS}
        self.history.setdefault("step", []).append(step)
        for name, value in self.metrics.items():
            self.history.setdefault(name, []).append(float(f"{value:.4g}"))

    def improves(self, step: int, objective: float) -> bool:
        """Whether a report is better than all before it, and now the best."""
        better = not self.best or objective < self.best["objective"]
        if better:
            self.best = {"step": step, "objective": objective}
        return better

    def reports_since_best(self) -> int:
        return sum(step > self.best["step"] for step in self.history["step"]) if self.best else 0

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingSummary":
        """The summary that `as_dict` described; TypeError for a key it does not know."""
        return cls(**values)

    def as_dict(self) -> dict[str, Any]:
        """What JSON can hold; what is not known yet is left out."""
        optional = ("metrics", "loss_quantiles", "best", "history")
        return {name: value for name, value in asdict(self).items() if value or name not in optional}
