"""Which models are served: finds out what changed in the models folder, and hands out engines by name.

    look()    heavy, in any thread but in one at a time, changes nothing that is served ─► Look
    begin()   serves what the first look found
    take()    on the event loop, where queues and metrics live: each new model takes its place by one assignment

Each bundle is loaded in a thread of its own. A look waits only so long for it, and the next look finds its outcome; so
one that takes long, or for ever, keeps no other from being loaded.

Whoever holds a ServedModel is answered by it to the end; when nobody does it goes, its sessions and queues with it.
"""

import logging
import math
from dataclasses import dataclass, replace
from pathlib import Path
from time import monotonic, monotonic_ns
from typing import Protocol

from app.errors import InvalidInput, ModelRefused, NotReady, UnknownModel, listed
from app.inference.engine import Engine
from app.inference.forecasts import Forecasts
from app.repository.loading import Loaded, Loader, Stamp, stamp_of
from app.repository.loads import BundleLoads, Loads
from app.repository.look import Look, Refused
from app.repository.queues import QueueMaker
from app.rows import Forms
from app.settings import Settings
from app.system.table import Table
from app.telemetry.drift import Drift
from bundle.folders import MAX_VERSION, BundleError, misnamed_versions, versions
from bundle.reader import Bundle

logger = logging.getLogger(__name__)

# What is wished of a model; a positive number is the version that is pinned.
HIGHEST, UNLOADED = 0, -1
# A bundle may be wrong about thousands of names, all of which its refusal would list.
MAX_REASON_CHARS = 1000


@dataclass(frozen=True)
class ServedModel:
    """A bundle that passed its checks, warm and ready; replaced as a whole, never changed."""

    bundle: Bundle
    stamp: Stamp
    versions: list[int]
    precision: str
    precision_reason: str
    engine: Engine
    forms: Forms
    load_s: float


class Observers(Protocol):
    """Makes what watches the rows that come in for a model, and counts loads."""

    def drift(self, bundle: Bundle) -> Drift: ...

    def count_load(self, model: str, outcome: str) -> None: ...


class Registry:
    """The models by name."""

    def __init__(self, settings: Settings, board: Table, observers: Observers) -> None:
        """On the `board` processes let each other know what was wished of their models."""
        self.board = board
        self.models: dict[str, ServedModel] = {}
        self.refused: list[Refused] = []
        # On disk, served or not.
        self.versions: dict[str, list[int]] = {}
        self._settings = settings
        self._observers = observers
        self.loads = Loads(settings.load_timeout_s)
        self._loader = Loader(settings)
        self._bundles = BundleLoads(self.loads, self._loader, settings.models)
        # Models that the last look left to the next one.
        self.pending: set[str] = set()
        # When a request last changed a model (`time.monotonic_ns`).
        self._changed: dict[str, int] = {}
        self._missed: set[str] = set()
        # Since `begin`.
        self._queues: QueueMaker

    def begin(self, look: Look, queues: QueueMaker) -> None:
        """Serves what was found: of each model the highest version that passes, with queues made by `queues`, as those
        of all models that are loaded later."""
        self._queues = queues
        self.take(look)
        default = self._settings.default_model
        if default is not None and default not in self.models:
            logger.warning("default_model '%s' is not loaded; there is %s", default, listed([*self.models]) or "none")

    def look(self, patience_s: float = math.inf) -> Look:
        """Loads what changed since the last look, or is wished for otherwise. It waits for loads so many seconds in
        all, and for none of them longer than a load may take."""
        look = Look(ends_at=monotonic() + patience_s)
        try:
            for folder in _model_folders(self._settings.models):
                self._look_at(folder, look)
        except OSError as error:
            self._refuse(look, Refused(self._settings.models, _unreadable(error)))
        else:
            # Bundles that were taken away, or are not wished for any more, need not come to their end.
            self._bundles.give_up_all_but(look.loading)
        return look

    def _look_at(self, model_folder: Path, look: Look) -> None:
        name = model_folder.name
        try:
            found = versions(model_folder)
            for folder in misnamed_versions(model_folder):
                reason = f"{folder} is no version; versions are 1 to {MAX_VERSION} in plain digits"
                self._refuse(look, Refused(folder, reason))
        except OSError as error:
            self._refuse(look, Refused(model_folder, _unreadable(error)))
            return
        wish, served = self.board["version", name], self.models.get(name)
        look.versions[name] = [*found]
        if wish == UNLOADED:
            return
        for folder in [folder for version, folder in found.items() if wish in (HIGHEST, version)]:
            stamp, known = stamp_of(folder), next((each for each in self.refused if each.folder == folder), None)
            if served is not None and (served.bundle.folder, served.stamp) == (folder, stamp):
                return
            if known is not None and known.stamp == stamp:
                look.refused.append(known)
            else:
                try:
                    self._load(folder, stamp, look)
                    return
                except BundleError as error:
                    look.has_read = True
                    self._refuse(look, Refused(folder, str(error), stamp))
            if served is not None and served.bundle.folder == folder:
                # Its files were spoilt, perhaps for a moment: no reason to fall back to a lower version.
                return

    def _load(self, folder: Path, stamp: Stamp, look: Look) -> None:
        """Adds the bundle to those of the look that are loaded or pending; BundleError."""
        look.loading.add(folder)
        try:
            loaded = self._bundles.load(folder, stamp, look.ends_at)
        except NotReady as error:
            loaded, look.trouble = None, error.detail
        if loaded is None:
            look.pending.add(folder.parent.name)
        else:
            look.has_read = True
            look.loaded.append(loaded)

    def _refuse(self, look: Look, refused: Refused) -> None:
        refused = replace(refused, reason=self._told(refused.reason))
        if refused not in self.refused:
            logger.error("refused %s: %s", refused.folder, refused.reason)
        look.refused.append(refused)

    def _told(self, reason: str) -> str:
        """In a few words, and without where the models folder lies, which is nobody's business who asks over HTTP."""
        reason = reason.replace(f"{self._settings.models}/", "")
        return reason if len(reason) <= MAX_REASON_CHARS else f"{reason[: MAX_REASON_CHARS - 1]}…"

    def take(self, look: Look) -> bool:
        """Whether another model is served than before, or one less."""
        for refused in look.refused:
            if refused.stamp and refused not in self.refused:
                self._observers.count_load(refused.folder.parent.name, "refused")
        self.refused, self.versions, self.pending = look.refused, look.versions, look.pending
        self.loads.be_in_trouble(look.trouble)
        unloaded = [name for name in self.models if self.board["version", name] == UNLOADED]
        for name in unloaded:
            self._drop(name)
        # The default model first, where there is no room for all.
        default_first = sorted(
            look.loaded, key=lambda loaded: loaded.bundle.manifest.name != self._settings.default_model
        )
        served = [loaded for loaded in default_first if self._take(loaded, look)]
        for name, found in look.versions.items():
            if name in self.models and self.models[name].versions != found:
                self.models[name] = replace(self.models[name], versions=found)
        missed = {name for name, model in self.models.items() if not self._has_files(model)}
        for name in sorted(missed - self._missed):
            logger.warning("%s is gone; it is served from memory", self.models[name].bundle.folder)
        self._missed = missed
        return bool(unloaded or served)

    def _take(self, loaded: Loaded, look: Look) -> bool:
        """Whether the bundle is served now."""
        manifest, folder = loaded.bundle.manifest, loaded.bundle.folder
        if self._changed.get(manifest.name, 0) > look.began:
            # The next look knows what is wished of the model now.
            self.pending.add(manifest.name)
            return False
        try:
            self._serve(loaded)
        except BundleError as error:
            self._refuse(look, Refused(folder, str(error), loaded.stamp))
            self._observers.count_load(manifest.name, "refused")
            return False
        return True

    def _has_files(self, model: ServedModel) -> bool:
        manifest = model.bundle.manifest
        return manifest.version in self.versions.get(manifest.name, ())

    def fetch(self, name: str, version: int | None) -> Loaded | None:
        """In any thread: that version or the highest, None where it is served already; UnknownModel, ModelRefused."""
        found = self._versions_of(name)
        version = version or max(found)
        if version not in found:
            raise UnknownModel(f"model '{name}' has no version {version}; there is {', '.join(map(str, found))}")
        folder, served = found[version], self.models.get(name)
        if served is not None and (served.bundle.folder, served.stamp) == (folder, stamp_of(folder)):
            return None
        try:
            return self._loader.load(folder)
        except BundleError as error:
            logger.error("refused %s: %s", folder, error)
            raise ModelRefused(self._told(str(error))) from error

    def _versions_of(self, name: str) -> dict[int, Path]:
        try:
            folders = {folder.name: folder for folder in _model_folders(self._settings.models)}
            found = versions(folders[name]) if name in folders else {}
        except OSError as error:
            raise ModelRefused(self._told(_unreadable(error))) from error
        if not found:
            raise UnknownModel(f"there is no model of that name in the models folder; there is {listed([*folders])}")
        return found

    def serve(self, name: str, wish: int, loaded: Loaded | None) -> None:
        """What `fetch` brought; all processes hold to the wish, HIGHEST or a version, from their next look on. Raises
        ModelRefused, and then nothing has changed."""
        if loaded is not None:
            try:
                self._serve(loaded)
            except BundleError as error:
                raise ModelRefused(self._told(str(error))) from error
        self._wish(name, wish)

    def unload(self, name: str) -> None:
        """In all processes, at their next look."""
        if name not in self.models:
            raise UnknownModel(f"there is no model of that name; loaded: {listed([*self.models]) or 'none'}")
        self._wish(name, UNLOADED)
        self._drop(name)

    def _wish(self, name: str, wish: int) -> None:
        self.board["version", name] = wish
        self._changed[name] = monotonic_ns()

    def _serve(self, loaded: Loaded) -> None:
        bundle = loaded.bundle
        manifest = bundle.manifest
        name, all_versions = manifest.name, self.versions.get(manifest.name) or [manifest.version]
        try:
            forecasts = Forecasts(manifest, bundle.heads, bundle.novelty)
            engine = Engine(manifest, self._queues.make(loaded), self._observers.drift(bundle), forecasts)
        except MemoryError as error:
            raise BundleError(f"{bundle.folder} cannot be served: {error}") from error
        about = loaded.precision, loaded.precision_reason
        self._observers.count_load(name, "served")
        self.models[name] = ServedModel(
            bundle, loaded.stamp, all_versions, *about, engine, Forms(manifest), loaded.load_s
        )
        logger.info("serving %s version %d in %s (%s), loaded in %.2f s", name, manifest.version, *about, loaded.load_s)

    def _drop(self, name: str) -> None:
        del self.models[name]
        self._observers.count_load(name, "unloaded")
        logger.info("%s is not served any more", name)

    def get(self, name: str | None) -> ServedModel:
        """The model of that name, or the default one."""
        if not self.models:
            raise NotReady("no model is loaded; the log says which bundles were refused and why")
        if name is None:
            return self.models[self._default()]
        if name not in self.models:
            raise UnknownModel(f"there is no model of that name; loaded: {listed([*self.models])}")
        return self.models[name]

    def _default(self) -> str:
        default = self._settings.default_model
        if default in self.models:
            return default
        if len(self.models) == 1:
            return next(iter(self.models))
        raise InvalidInput((("model",), f"several models are loaded, so name one: {listed([*self.models])}"))


def _model_folders(models: Path) -> list[Path]:
    return [folder for folder in sorted(models.iterdir()) if folder.is_dir() and not folder.name.startswith(".")]


def _unreadable(error: OSError) -> str:
    return f"{error.filename} cannot be read: {error.strerror}"
