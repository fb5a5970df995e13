"""What a look at the models folder found, for the event loop to act on."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic_ns

from app.repository.loading import Loaded, Stamp


@dataclass(frozen=True)
class Refused:
    """A folder that is not served, and why; it is tried again when its stamp is another."""

    folder: Path
    reason: str
    stamp: Stamp = ()


@dataclass
class Look:
    """What was found in the models folder: all versions, highest first, and what is to be done about them."""

    # `time.monotonic_ns`. What was asked for after that moment, this look does not know.
    began: int = field(default_factory=monotonic_ns)
    # `time.monotonic`. Loads that are not over by then are left to the next look.
    ends_at: float = math.inf
    # Models of which a bundle is being loaded, or is still to be; and the folders that are being loaded.
    pending: set[str] = field(default_factory=set)
    loading: set[Path] = field(default_factory=set)
    # Whether a bundle was read, and served or refused.
    has_read: bool = False
    # Why bundles that changed are not being loaded, in words.
    trouble: str | None = None
    # Entries of the models folder that cannot be looked at, and could be no models by their names.
    skipped: set[Path] = field(default_factory=set)
    versions: dict[str, list[int]] = field(default_factory=dict)
    loaded: list[Loaded] = field(default_factory=list)
    refused: list[Refused] = field(default_factory=list)
