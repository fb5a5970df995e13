"""What each column of a recording is for, and why: decided by the user's choices, else by the names that recordings
of games bear."""

import difflib
import fnmatch
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from bundle.matching import nearest

Role = Literal["feature", "episode", "frame", "split", "action", "label", "left out"]

# How data says which game a row is from, and which moment of it; the first that is there is taken. Gymnasium's,
# Minari's, LeRobot's and Stable-Baselines' names are among them.
EPISODE_NAMES = (
    "episode", "episode_id", "episode_index", "trajectory_id", "traj_id", "traj_ids", "game_id", "match_id",
    "replay_id", "rollout_id",
)  # fmt: skip
FRAME_NAMES = ("frame", "frame_index", "frame_id", "timestep", "time_step", "step", "step_id", "t")
ACTION_NAMES = ("action", "actions", "action.*", "actions.*", "action_[0-9]*", "actions_[0-9]*", "action[[]*")
LABEL_NAMES = ("y_*",)
# What a program keeps the numbers under that a player sees.
OBSERVATION_NAMES = ("observations", "observation", "obs", "states", "state")
# What says that a row is the last of its game, or the first.
ENDS = (
    "done", "dones", "is_done", "terminal", "terminals", "terminated", "terminations", "termination", "truncated",
    "truncations", "truncation", "timeout", "timeouts", "next.done", "next_done", "is_last", "is_terminal", "game_over",
)  # fmt: skip
STARTS = ("episode_starts", "episode_start", "is_first")
OUTCOME = "tells how the game goes on, which a bot cannot know yet"
COUNT = "numbers the rows or tells the time of the recording"
UNNAMED = "an index that nobody named"
BY_EXCLUDE = "by --exclude"
BY_ACTIONS = "by --actions"
# Names of inputs that stand in the row of the frame that they led to, such as Melee's prev_btn_a.
AFTER_NAMES = ("prev_*", "previous_*")
WHEN = {
    "before": "the input that leads to the next frame",
    "after": "the input that led to this frame, and a feature as well",
}
A_NUMBER = "a column of numbers"
BY_LABEL_NAME = "by its name, y_*; --features makes it a feature"
# Columns that are left out by their name, and why.
LEFT_OUT: Mapping[str, str] = {
    **dict.fromkeys((*ENDS, "reward", "rewards", "rew", "rews", "discount", "discounts"), OUTCOME),
    **dict.fromkeys(("next.*", "next_obs*", "next_state*", "next_done", "next_reward*", "next_terminal*"), OUTCOME),
    **dict.fromkeys(("return", "returns", "return_to_go", "advantages", "log_probs", "is_success", "success"), OUTCOME),
    **dict.fromkeys(("episode_return*", "episode_reward*", "episode_length*", "ep_return", "ep_len*"), OUTCOME),
    **dict.fromkeys(("obs_next*", "cum_reward*", "cumulative_reward*"), OUTCOME),
    **dict.fromkeys(("info", "infos", "info.*", "infos.*", "info/*", "infos/*"), "what an environment says besides"),
    **dict.fromkeys(("index", "timestamp", "timestamps", "task_index", *STARTS), COUNT),
    **dict.fromkeys(("__index_level_*__", "level_[0-9]", "unnamed:_*", ""), UNNAMED),
}
# What looks like a game, a frame, an action or a label under no name of the ecosystem: the user is asked, and nothing
# learned from it.
COUNTED = r"(_(id|idx|index|no|nr|num|number|count|counter|name|key|uuid))?"
LIKE_EPISODE = re.compile(
    f"(ep|eps|episode|game|match|traj|trajectory|replay|rollout|run|demo|session|playthrough){COUNTED}"
    "|uuid|file|filename|file_name|source_file"
)
LIKE_FRAME = re.compile(
    f"((env|game|sim|global|elapsed|time)_?)?(frames?|steps?|ticks?|timesteps?){COUNTED}|(time|row)_(index|idx|id|number)"
)
LIKE_ACTION = re.compile(r"acts?(_\d+)?")
LIKE_LABEL = re.compile("labels?|class_label")
LIKE_OUTCOME = re.compile("(.+_)?rewards?(_.+)?")
# How alike a name must be to one of those above for the user to be asked, as `difflib` measures it.
MIN_LIKENESS = 0.76


@dataclass(frozen=True)
class Choices:
    """What a user says of the columns: names, or patterns of names such as `ram_*`; what is not said is decided by the
    names. A pattern of features wins over what a column's name says, but for those that tell games and frames apart."""

    features: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    labels: tuple[str, ...] | None = None
    actions: tuple[str, ...] = ()
    # Whether inputs stand in the row "before" the frame that they led to, or in that frame's own, "after" they were
    # made (None: as their names say).
    actions_recorded: str | None = None
    episode: str | None = None
    frame: str | None = None

    def over(self, description: Mapping[str, Any]) -> "Choices":
        """These choices, and where they are silent those of a schema.json, under the same names."""
        found: dict[str, Any] = {}
        if (recorded := description.get("actions_recorded")) is not None:
            if not isinstance(recorded, str) or recorded not in WHEN:
                raise ValueError(
                    f"actions_recorded is {recorded!r:.80} in schema.json; it must be 'before', where a row holds the "
                    "input that leads to the next frame, or 'after', where it holds the one that led to its own"
                )
            found["actions_recorded"] = recorded
        for key in ("features", "exclude", "labels", "actions"):
            match description.get(key, []):
                case str(pattern):
                    patterns: tuple[str, ...] = (pattern,)
                case [*given] if all(isinstance(pattern, str) for pattern in given):
                    patterns = tuple(given)
                case other:
                    raise ValueError(f"{key} is {other!r:.80} in schema.json; it must be a list of name patterns")
            if patterns and not getattr(self, key):
                found[key] = patterns
        for key in ("episode", "frame"):
            if (name := description.get(key)) is not None:
                if not isinstance(name, str):
                    raise ValueError(f"{key} is {name!r:.80} in schema.json; it must be the name of a column")
                if getattr(self, key) is None:
                    found[key] = name
        return replace(self, **found)


class Column(NamedTuple):
    """A column of the data and what it is for."""

    name: str
    # As a reader of the data calls it, such as float32.
    type: str
    role: Role
    why: str
    # Whether the role was guessed and the user had better say it.
    doubtful: bool = False
    # Of the player's own inputs, one of WHEN; those recorded after are features as well. Empty for all other columns.
    recorded: str = ""


def assign(
    types: Mapping[str, str], choices: Choices, is_whole: Callable[[str], bool], has_fractions: Callable[[str], bool]
) -> list[Column]:
    """The role of each column of `types`, the types by name; `is_whole` says whether a column has a whole number in
    every row, and `has_fractions` whether not all of those that it has are whole.

    ValueError for a choice that matches no column, or several choices for the same one.
    """
    names = [*types]
    _check(names, choices)

    def is_frame(name: str) -> bool:
        # A column of that very name is refused in words where it holds something else.
        return plain_name(name) == "frame" or is_whole(name)

    keys = {
        "episode": _key(names, choices, choices.episode, EPISODE_NAMES, lambda _: True),
        "frame": _key(names, choices, choices.frame, FRAME_NAMES, is_frame),
        "split": _key(names, choices, None, ("split",), lambda _: True),
    }  # fmt: skip
    columns = [_column(name, type, choices, keys) for name, type in types.items()]
    return [_doubted(column, names, is_whole, has_fractions) for column in columns]


def _doubted(
    column: Column, names: Sequence[str], is_whole: Callable[[str], bool], has_fractions: Callable[[str], bool]
) -> Column:
    """The column with a doubt that its name leaves, if it does."""
    name, plain = column.name, plain_name(column.name)
    if column.why == BY_LABEL_NAME and has_fractions(name):
        # A vertical position may be named like a label, and then holds fractions.
        why = f"{BY_LABEL_NAME}, which it may be as it holds no whole numbers"
        return column._replace(why=why, doubtful=True)
    if column.why != A_NUMBER:
        return column
    now = plain.removeprefix("next_")
    if now != plain and now in map(plain_name, names):
        why = f"looks like '{name[-len(now) :]}' of the next frame; say --features to learn from it"
    elif matching([plain], LABEL_NAMES) and not matching([name], LABEL_NAMES) and is_whole(name):
        why = f"looks like a label; say --labels {name}, or --features to learn from it"
    else:
        return column
    return column._replace(role="left out", why=why, doubtful=True)


def matching(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Those of the names that one of the patterns matches, or that one of them is."""
    return [name for name in names if name in patterns or any(fnmatch.fnmatchcase(name, one) for one in patterns)]


def doubts(columns: Sequence[Column]) -> list[str]:
    """What a user should look at before a model learns from the columns, in sentences."""
    return [f"'{column.name}' is {column.role}: {column.why}" for column in columns if column.doubtful]


def _check(names: Sequence[str], choices: Choices) -> None:
    patterns = {"features": choices.features, "exclude": choices.exclude, "actions": choices.actions}
    for option, given in patterns.items():
        for pattern in given:
            if not matching(names, [pattern]):
                some = f"the columns are {[*names][:8]} …; the nearest is '{nearest(pattern, names)}'"
                raise ValueError(f"no column matches '{pattern}'; {some}: correct --{option}")
    for option, name in {"episode": choices.episode, "frame": choices.frame}.items():
        if name is not None and name not in names:
            raise ValueError(f"--{option} is '{name}'; no column is, and the nearest is '{nearest(name, names)}'")
        if name is not None and name in choices.exclude:
            raise ValueError(f"--{option} and --exclude both name '{name}'; leave one of them out")
    if choices.episode is not None and choices.episode == choices.frame:
        raise ValueError(f"--episode and --frame both name '{choices.frame}'; a column is one of them")


def _key(
    names: Sequence[str], choices: Choices, chosen: str | None, known: Sequence[str], fits: Callable[[str], bool]
) -> str | None:
    """The column that tells games, frames or splits apart."""
    if chosen is not None:
        return chosen
    spoken_for = {*choices.features, choices.episode, choices.frame, *matching(names, choices.exclude)}
    # Of episode and Episode, the one that is spelt as it is known counts.
    spelt = sorted((name for name in names if name not in spoken_for), key=known.__contains__)
    plain = {plain_name(name): name for name in spelt}
    return next((plain[one] for one in known if one in plain and fits(plain[one])), None)


def _column(name: str, type: str, choices: Choices, keys: Mapping[str, str | None]) -> Column:
    plain = plain_name(name)

    def column(role: Role, why: str, *, doubtful: bool = False) -> Column:
        return Column(name, type, role, why, doubtful)

    if matching([name], choices.exclude):
        return column("left out", BY_EXCLUDE)
    for role in ("episode", "frame", "split"):
        if keys[role] == name:
            said = name == {"episode": choices.episode, "frame": choices.frame}.get(role)
            return column(role, f"by --{role}" if said else f"named as {_AS[role]}")
    if matching([name], choices.actions):
        return as_input(column("action", BY_ACTIONS), choices.actions_recorded)
    if matching([name], choices.features):
        return column("feature", "by --features")
    if choices.labels is not None and matching([name], choices.labels):
        return column("label", "by its name, y_*" if matching([name], LABEL_NAMES) else "by --labels")
    if matching([plain], ACTION_NAMES) and not matching([name], LABEL_NAMES):
        return as_input(column("action", "by its name; --features makes it a feature"), choices.actions_recorded)
    if choices.features:
        return column("left out", "not among --features")
    if matching([name], LABEL_NAMES):
        return column("label", BY_LABEL_NAME)
    # What a column of lists holds is what each of its numbers holds: rewards_0 is one of the rewards.
    spellings = {plain, re.sub(r"(?<=.)_\d+$", "", plain)}
    if why := next((why for pattern, why in LEFT_OUT.items() if fnmatch.filter(spellings, pattern)), None):
        return column("left out", why)
    for role, known, like in (("episode", EPISODE_NAMES, LIKE_EPISODE), ("frame", FRAME_NAMES, LIKE_FRAME)):
        if plain in known:
            if keys[role] is not None:
                return column("left out", f"'{keys[role]}' is the {role}")
            return column("left out", f"holds no whole numbers; a {role} counts rows", doubtful=True)
        if keys[role] is None and (like.fullmatch(plain) or _resembles(plain, known)):
            why = f"looks like the {role}; say --{role} {name}, or --features to learn from it"
            return column("left out", why, doubtful=True)
    for what, like, flag in (("an action", LIKE_ACTION, "actions"), ("a label", LIKE_LABEL, "labels")):
        if like.fullmatch(plain):
            why = f"looks like {what}; say --{flag} {name}, or --features to learn from it"
            return column("left out", why, doubtful=True)
    if LIKE_OUTCOME.fullmatch(plain):
        why = "looks like a reward, which a bot cannot know yet; say --features to learn from it"
        return column("left out", why, doubtful=True)
    return column("feature", A_NUMBER)


def as_input(column: Column, recorded: str | None = None) -> Column:
    """The column, which `why` says is an action, as one of the player's own inputs; `recorded` is one of WHEN (None: as
    its name says)."""
    by_name = "after" if matching([plain_name(column.name)], AFTER_NAMES) else "before"
    recorded = recorded or by_name
    role: Role = "feature" if recorded == "after" else "action"
    return column._replace(role=role, why=f"{WHEN[recorded]}, {column.why}", recorded=recorded)


_AS = {"episode": "what tells games apart", "frame": "what counts the frames of a game", "split": "what says the split"}


def _resembles(plain: str, known: Sequence[str]) -> bool:
    return bool(difflib.get_close_matches(plain, [one for one in known if len(one) > 3], 1, MIN_LIKENESS))


def plain_name(name: str) -> str:
    """The name as it is compared with those that are known: EpisodeId, "episode id" and episode-id are episode_id."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[ -]+", "_", name.strip()).casefold()
