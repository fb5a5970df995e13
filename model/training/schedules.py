"""Schedules over training steps: pure functions of the step."""

import math


def learning_rate(step: int, steps: int, peak: float, warmup_steps: int) -> float:
    """Linear warm-up to `peak`, then half a cosine down to a hundredth of it."""
    warm = min(1.0, (step + 1) / max(1, warmup_steps))
    return peak * warm * (0.01 + 0.99 * (1 + math.cos(math.pi * step / steps)) / 2)


def momentum(step: int, ceiling: float) -> float:
    """EMA momentum: (1 + step) / (10 + step) until it meets `ceiling`, so that a short run forgets its random start."""
    return min(ceiling, (1 + step) / (10 + step))


def random_start_share(steps: int, ceiling: float) -> float:
    """How much of the target encoder's random start is left after `steps` steps."""
    return math.prod(momentum(step, ceiling) for step in range(steps))
