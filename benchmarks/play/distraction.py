"""Columns of noise that are mixed with those of a state by a random rotation, the same in all games."""

import numpy as np

from benchmarks.play.views import Values

NOISE_COLUMNS = 8
# How much of its last value a column of noise keeps from frame to frame.
NOISE_MEMORY = 0.9
MAX_FRAMES = 3001


class Distraction:
    """Standardised states [n, C], and noise of the same size, rotated: [n, C + NOISE_COLUMNS]."""

    def __init__(self, states: Values) -> None:
        self._mean, self._std = states.mean(0), states.std(0) + 1e-6
        width = states.shape[1] + NOISE_COLUMNS
        self._rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((width, width)))[0]
        # One game's noise is the same whenever it is played: [MAX_FRAMES, NOISE_COLUMNS].
        self._noise: dict[int, Values] = {}

    def of_game(self, states: Values, seed: int) -> Values:
        """The states of one game from its beginning."""
        return self._mixed(states, self._of(seed)[: len(states)])

    def __call__(self, states: Values, seeds: list[int], frame: int) -> Values:
        """States of several games after so many frames."""
        return self._mixed(states, np.array([self._of(seed)[frame] for seed in seeds]))

    def _mixed(self, states: Values, noise: Values) -> Values:
        mixed = np.concatenate([(states - self._mean) / self._std, noise], axis=1) @ self._rotation
        seen: Values = mixed.astype(np.float32)
        return seen

    def _of(self, seed: int) -> Values:
        if seed not in self._noise:
            noise = np.random.default_rng(seed).standard_normal((MAX_FRAMES, NOISE_COLUMNS))
            # So that its variance stays 1.
            noise[1:] *= (1 - NOISE_MEMORY**2) ** 0.5
            for frame in range(1, MAX_FRAMES):
                noise[frame] += NOISE_MEMORY * noise[frame - 1]
            self._noise[seed] = noise.astype(np.float32)
        return self._noise[seed]
