"""The horizons that the games of a recording are long enough for."""

from model.data.frames import Frames
from model.data.splits import split_rows
from model.data.timeline import Timeline
from model.training.recipe import Recipe

# Of the training rows, this many must have a frame that much later.
MIN_SHARE = 0.5


def within_reach(frames: Frames, recipe: Recipe) -> tuple[Recipe, str | None]:
    """The recipe without those of its horizons that most training rows do not reach, and a sentence that says so if
    there are any; the shortest horizon always stays."""
    if frames.frame is None:
        return recipe, None
    rows, _ = split_rows(frames, seed=recipe.seed)
    timeline = Timeline(frames.episode, frames.frame)
    reached = [each for each in recipe.horizons if len(timeline.with_later_rows(rows, [each])) >= MIN_SHARE * len(rows)]
    horizons = tuple(reached) or recipe.horizons[:1]
    left_out = [each for each in recipe.horizons if each not in horizons]
    if not left_out:
        return recipe, None
    some, rest = (", ".join(map(str, each)) for each in (left_out, horizons))
    note = (
        f"horizons {some} are left out: most rows have no frame that much later in their game; --horizon chooses "
        f"others than {rest}"
    )
    return recipe.changed({"horizons": horizons}), note
