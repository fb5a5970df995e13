"""The policies that are compared: how each learns, from what, and by what it plays."""

from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.play.clones import imitate
from benchmarks.play.forecast import Forecast
from benchmarks.play.games import BuiltIn, Policy, Random, Recording, Task
from benchmarks.play.points import AGAINST
from benchmarks.play.views import Embeddings, View, state, state_and_inputs


def policies(
    task: Task, recordings: Sequence[Recording], embeddings: Embeddings, delay: int
) -> dict[str, Callable[[], Policy]]:
    """Name of a policy → how it is made. Without a delay nothing is in flight and nothing is ahead, and those are left
    out that would be equal to others."""

    def imitated(learner: str, view: View) -> Callable[[], Policy]:
        return lambda: imitate(recordings, learner, view, delay)

    def undelayed(learner: str, view: View, ahead: View) -> Callable[[], Policy]:
        """Imitates the player as if there were no delay, and plays by what it will see when its input lands."""
        return lambda: replace(imitate(recordings, learner, view, delay=0), view=ahead)

    made: dict[str, Callable[[], Policy]] = {
        AGAINST: imitated("linear", state_and_inputs),
        "linear, embedding": imitated("linear", embeddings.now),
        "trees, state + inputs": imitated("trees", state_and_inputs),
        "network, state + inputs": imitated("network", state_and_inputs),
    }
    if delay:
        forecast = Forecast(recordings, delay)
        made |= {
            "linear, state": imitated("linear", state),
            "linear, embedding + inputs": imitated("linear", embeddings.now_and_inputs),
            "linear, ahead": imitated("linear", embeddings.ahead),
            "linear of no delay, ahead": undelayed("linear", embeddings.now, embeddings.ahead),
            "linear of no delay, forecast state": undelayed("linear", state, forecast),
            "network of no delay, forecast state": undelayed("network", state, forecast),
        }
    return made | {"random": lambda: Random(task), "built-in": lambda: BuiltIn(task)}
