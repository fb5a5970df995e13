"""The player's own inputs beside rows, of the frames that follow each: read from JSON or binary bodies and checked.

    one row        [[a1 … aA], …]             [n, A], input i leads to the frame i later
    several rows   [[[a1 … aA], …], …]        [B, n, A], a list of inputs for each row
    one row        [[[a1 … aA], …], …]        [N, n, A]: N candidates for the same row, each with an answer of its own

What is not known is null, of one number or of a whole input, and NaN in arrays.
"""

from array import array
from typing import Any, NamedTuple

import numpy as np

from app.errors import InvalidInput, Loc, TooManyRows
from app.rows import FLOAT32_LE, Array, Layout, check_count, check_finite, counted, invalid, no_number
from bundle.manifest import Manifest

FIELD = "actions"
NAN = float("nan")


class Sent(NamedTuple):
    """Inputs [B, n, A], one list of them for each row; or [N, n, A], candidates for the only row."""

    actions: Array
    are_candidates: bool


class ActionLayout:
    """What the inputs of one frame must look like, and of how many frames a model takes them."""

    def __init__(self, manifest: Manifest) -> None:
        self.model, self.names, self.max_actions = manifest.name, manifest.actions, manifest.max_actions
        self.horizons = manifest.horizons
        # Of inputs that are one of several classes, by the index of their number.
        self._classes = {self.names.index(name): values for name, values in manifest.action_values.items()}
        self._unknown = np.full((1, self.max_actions, len(self.names)), np.nan, np.float32)

    @property
    def width(self) -> int:
        return len(self.names)

    def check_taken(self) -> None:
        """Raises InvalidInput if the model takes no actions."""
        if not self.names:
            raise invalid(
                (FIELD,),
                f"are given, but model '{self.model}' takes none; leave them out, or train a model with the columns of "
                "your inputs as actions (`jepa train --actions`)",
            )

    def check_frames(self, frames: int, loc: Loc = (FIELD,)) -> None:
        """Raises InvalidInput unless the model takes the inputs of so many frames."""
        if not 1 <= frames <= self.max_actions:
            raise invalid(
                loc,
                f"has {counted(frames, 'input')}, model '{self.model}' takes those of 1 to {self.max_actions} frames; "
                + ("leave actions out where none is known" if not frames else "send the first ones"),
            )

    def checked(self, actions: Array) -> Array:
        """[B, n, A] as they came, if no number is infinite and each class is one that the model knows."""
        self.check_taken()
        self.check_frames(actions.shape[1])
        if actions.shape[2] != self.width:
            raise self._wrong_width((FIELD,), actions.shape[2])
        if np.isinf(actions).any():
            raise self._at(np.isinf(actions), "is infinite or beyond float32; send null where it is not known")
        for column, known in self._classes.items():
            sent = actions[:, :, column]
            if not (odd := ~(np.isnan(sent) | np.isin(sent, known))).any():
                continue
            where = np.zeros(actions.shape, bool)
            where[:, :, column] = odd
            shown = ", ".join(f"{value:g}" for value in sorted(known)[:20])
            raise self._at(where, f"is {sent[odd][0]:g}, which is none of the values it had in training: {shown}")
        return actions

    def check(self, actions: Array | None, rows: int, horizon: Array | int) -> Array | None:
        """The same, if the model takes inputs, they lead to a later frame, and they are [B, n, A] of each of so many
        rows or candidates for one; raises InvalidInput."""
        if actions is None:
            return None
        self.check_taken()
        if not np.all(horizon):
            later = ", ".join(str(each) for each in self.horizons if each)
            what = (
                f"go with a later frame, and horizon is 0, the frame itself; ask for horizon {later}, or leave them out"
            )
            raise invalid((FIELD,), what)
        if rows not in (1, len(actions)):
            raise invalid((FIELD,), _miscounted(len(actions), rows))
        return actions

    def padded(self, actions: Array | None, rows: int) -> Array:
        """[B, n, A] or None → [rows, max_actions, A], NaN where an input is not known."""
        if actions is not None and actions.shape[1] == self.max_actions:
            return actions
        if actions is None:
            return np.broadcast_to(self._unknown, (rows, *self._unknown.shape[1:])) if rows > 1 else self._unknown
        padded = np.full((rows, *self._unknown.shape[1:]), np.nan, np.float32)
        padded[:, : actions.shape[1]] = actions
        return padded

    def json_actions(self, value: Any, rows: int, max_rows: int, *, booleans: bool) -> Sent:
        """The inputs in a JSON body beside so many rows; raises InvalidInput or TooManyRows."""
        self.check_taken()
        if not isinstance(value, list):
            raise invalid((FIELD,), "must be a list of inputs, or a list of such lists for several rows")
        self._check_any(value, (FIELD,))
        numbers = array("f")
        if rows == 1 and not self._are_lists(value):
            self._add(numbers, value, (FIELD,), booleans)
            return Sent(self._shaped(numbers, 1), False)
        if rows > 1 and len(value) != rows:
            raise invalid((FIELD,), _miscounted(len(value), rows))
        if len(value) > max_rows:
            raise TooManyRows(_too_many(len(value), max_rows))
        for i, each in enumerate(value):
            if not isinstance(each, list):
                raise invalid((FIELD, i), "is no list of inputs, as the others are; send one such list for each row")
            self._check_any(each, (FIELD, i))
            if len(each) != len(value[0]):
                raise invalid(
                    (FIELD, i),
                    f"has {counted(len(each), 'input')}, {FIELD}[0] has {len(value[0])}; fill up the shorter with null",
                )
            self._add(numbers, each, (FIELD, i), booleans)
        return Sent(self._shaped(numbers, len(value)), rows == 1)

    def binary_rows(
        self, body: bytes, layout: Layout, frames: int, candidates: int | None, max_rows: int
    ) -> tuple[Array, Sent]:
        """Little-endian float32: rows with the inputs of so many frames behind each; or one row and behind it those of
        each candidate. → [B, D] and the inputs; raises InvalidInput or TooManyRows."""
        self.check_taken()
        self.check_frames(frames)
        inputs = frames * self.width
        if candidates is not None and candidates > max_rows:
            raise TooManyRows(_too_many(candidates, max_rows))
        width = layout.width + (candidates or 1) * inputs
        found, rest = divmod(len(body), 4 * width)
        if rest or not found or (found > 1 and candidates is not None):
            raise InvalidInput(((), self._miswritten(len(body), layout, frames, candidates)))
        check_count(found, max_rows)
        matrix = np.frombuffer(body, FLOAT32_LE).astype(np.float32, copy=False).reshape(found, width)
        rows = np.ascontiguousarray(matrix[:, : layout.width])
        check_finite(rows, layout)
        actions = matrix[:, layout.width :].reshape(-1, frames, self.width)
        return rows, Sent(actions, candidates is not None)

    def _add(self, numbers: "array[float]", inputs: list[Any], loc: Loc, booleans: bool) -> None:
        """Appends a list of inputs to `numbers`, with NaN for null."""
        self.check_frames(len(inputs), loc)
        for i, each in enumerate(inputs):
            if each is None:
                numbers.fromlist([NAN] * self.width)
                continue
            if not isinstance(each, list):
                raise invalid(
                    (*loc, i), f"is no list of {counted(self.width, 'number')}; an input is such a list, or null"
                )
            if len(each) != self.width:
                raise self._wrong_width((*loc, i), len(each))
            try:
                if booleans and bool in map(type, each):
                    raise TypeError
                numbers.fromlist(each)
            except TypeError:
                known = [NAN if number is None else number for number in each]
                if not {*map(type, known)} <= {float, int}:
                    raise no_number(known, (*loc, i), self.names) from None
                numbers.fromlist(known)

    def _are_lists(self, value: list[Any]) -> bool:
        """Whether these are lists of inputs, and not inputs, by what is first known in them."""
        # No right list is longer, whichever these are.
        longest = max(self.max_actions, self.width)
        parts = (part[:longest] for part in value[:longest] if isinstance(part, list))
        return isinstance(next((each for part in parts for each in part if each is not None), None), list)

    def _shaped(self, numbers: "array[float]", rows: int) -> Array:
        return np.frombuffer(numbers, np.float32).reshape(rows, -1, self.width)

    def _check_any(self, value: list[Any], loc: Loc) -> None:
        if not value:
            raise invalid(loc, "is empty; send an input for each frame, or leave actions out where none is known")

    def _wrong_width(self, loc: Loc, width: int) -> InvalidInput:
        return invalid(
            loc,
            f"has {counted(width, 'number')}, an input of model '{self.model}' has {self.width}; /models/{self.model} "
            "names them in order",
        )

    def _at(self, where: Any, what: str) -> InvalidInput:
        """The error for the first number of [B, n, A] that is marked."""
        place = np.unravel_index(int(np.argmax(where)), where.shape)
        return invalid((FIELD, *(int(step) for step in place[where.shape[0] == 1 :])), what, self.names)

    def _miswritten(self, size: int, layout: Layout, frames: int, candidates: int | None) -> str:
        inputs = f"{frames} × {self.width} of actions"
        if candidates is not None:
            right = 4 * (layout.width + candidates * frames * self.width)
            return (
                f"the body has {size} bytes; one row of {layout.width} float32 numbers and {candidates} candidates of "
                f"{inputs} have {right}"
            )
        return (
            f"the body has {size} bytes, which is no whole number of rows: with actions={frames} model '{self.model}' "
            f"takes {layout.width} float32 numbers and behind them {inputs}, "
            f"{4 * (layout.width + frames * self.width)} bytes, a row"
        )


def _miscounted(lists: int, rows: int) -> str:
    return (
        f"holds inputs for {counted(lists, 'row')}, but the request has {rows}; send one list of inputs for each row, "
        "or one row for several candidates"
    )


def _too_many(candidates: int, max_rows: int) -> str:
    return f"the request has {candidates} candidates, the limit is {max_rows} rows; send them in several requests"
