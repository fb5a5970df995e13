"""What the models folder holds and is not served, each said once in the log."""

import logging
from dataclasses import replace
from pathlib import Path

from app.repository.folder import as_text, could_be_model
from app.repository.look import Look, Refused

logger = logging.getLogger(__name__)

# A bundle may be wrong about thousands of names, all of which its refusal would list.
MAX_REASON_CHARS = 1000


class Refusals:
    """Those of the last look that was taken."""

    def __init__(self, models: Path) -> None:
        self.refused: list[Refused] = []
        self._skipped: set[Path] = set()
        self._models = models

    def refuse(self, look: Look, refused: Refused) -> None:
        refused = replace(refused, reason=self.told(refused.reason))
        if refused not in self.refused:
            logger.error("refused %s: %s", as_text(refused.folder), refused.reason)
        look.refused.append(refused)

    def pass_over(self, folder: Path, reason: str, look: Look) -> None:
        """Of an entry that cannot be read: refuses it where it may be a model, and mentions it where it is none."""
        if could_be_model(folder):
            self.refuse(look, Refused(folder, f"{folder} cannot be read: {reason}"))
            return
        if folder not in self._skipped:
            logger.warning("skipped %s, which cannot be read: %s", as_text(folder), reason)
        look.skipped.add(folder)

    def told(self, reason: str) -> str:
        """In a few words, and without where the models folder lies, which is nobody's business who asks over HTTP."""
        reason = as_text(reason.replace(f"{self._models}/", ""))
        return reason if len(reason) <= MAX_REASON_CHARS else f"{reason[: MAX_REASON_CHARS - 1]}…"

    def take(self, look: Look) -> None:
        self.refused, self._skipped = look.refused, look.skipped
