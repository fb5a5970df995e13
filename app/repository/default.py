"""Which model answers a request that names none."""

import logging
from collections.abc import Collection

from app.errors import InvalidInput, listed

logger = logging.getLogger(__name__)


class Default:
    """The one that the settings name; else the only one, which it stays when others come."""

    def __init__(self, wanted: str | None) -> None:
        self._wanted = wanted
        # The model that was alone at some time, and was the one meant by all who named none.
        self._first: str | None = None
        self._has_company = False

    def check(self, models: Collection[str]) -> None:
        """At the start: warns of a name that is none of the models'."""
        if self._wanted is not None and self._wanted not in models:
            logger.warning("default_model '%s' is not loaded; there is %s", self._wanted, listed([*models]) or "none")

    def note(self, models: Collection[str]) -> None:
        """After each change of the models: warns once when the first one is no more the only one."""
        if len(models) == 1:
            (self._first,), self._has_company = models, False
        elif self._first in models and self._wanted not in models and not self._has_company:
            self._has_company = True
            logger.warning(
                "requests that name no model still go to '%s', which was the first; name it by JEPA_DEFAULT_MODEL, or "
                "after the next start they are refused",
                self._first,
            )

    def name(self, models: Collection[str]) -> str:
        """Raises InvalidInput where there are several, and none is the default."""
        if self._wanted in models:
            return str(self._wanted)
        if self._first in models:
            return str(self._first)
        if len(models) == 1:
            return next(iter(models))
        raise InvalidInput((("model",), f"several models are loaded, so name one: {listed([*models])}"))
