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

from app.errors import ModelRefused, NotReady, UnknownModel, listed
from app.inference.engine import Engine
from app.inference.forecasts import Forecasts
from app.repository.default import Default
from app.repository.folder import as_text, reason_of
from app.repository.loading import Loaded, Loader, Stamp, stamp_of
from app.repository.loads import BundleLoads, Loads
from app.repository.look import Look, Refused
from app.repository.queues import QueueMaker
from app.repository.refusals import Refusals
from app.rows import Forms
from app.settings import Settings
from app.system.table import Table
from app.telemetry.drift import Drift
from bundle.folders import (
    BundleError,
    misnamed_versions,
    subfolders,
    version_of,
    versions,
    versions_among,
    what_versions_are_called,
)
from bundle.reader import Bundle

logger = logging.getLogger(__name__)

# What is wished of a model; a positive number is the version that is pinned.
HIGHEST, UNLOADED = 0, -1


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
        self._refusals = Refusals(settings.models)
        # On disk, served or not.
        self.versions: dict[str, list[int]] = {}
        self._settings = settings
        self._observers = observers
        self.loads = Loads(settings.load_timeout_s)
        self._loader = Loader(settings)
        self.device = self._loader.device
        self._bundles = BundleLoads(self.loads, self._loader, settings.models)
        # Models that the last look left to the next one.
        self.pending: set[str] = set()
        # When a request last changed a model (`time.monotonic_ns`).
        self._changed: dict[str, int] = {}
        self._missed: set[str] = set()
        self._default = Default(settings.default_model)
        # Since `begin`.
        self._queues: QueueMaker

    @property
    def refused(self) -> list[Refused]:
        """What the last look found and is not served."""
        return self._refusals.refused

    def begin(self, look: Look, queues: QueueMaker) -> None:
        """Serves what was found: of each model the highest version that passes, with queues made by `queues`, as those
        of all models that are loaded later."""
        self._queues = queues
        self.take(look)
        self._default.check(self.models)

    def look(self, patience_s: float = math.inf) -> Look:
        """Loads what changed since the last look, or is wished for otherwise. It waits for loads so many seconds in
        all, and for none of them longer than a load may take."""
        look = Look(ends_at=monotonic() + patience_s)
        try:
            folders, unreadable = subfolders(self._settings.models)
        except OSError as error:
            self._refusals.refuse(look, Refused(self._settings.models, reason_of(error)))
            return look
        for folder, reason in unreadable.items():
            self._refusals.pass_over(folder, reason, look)
        for folder in folders:
            self._look_at(folder, look)
        # Bundles that were taken away, or are not wished for any more, need not come to their end.
        self._bundles.give_up_all_but(look.loading)
        return look

    def _look_at(self, model_folder: Path, look: Look) -> None:
        name = model_folder.name
        if as_text(name) != name:
            self._refusals.pass_over(model_folder, "its name is not UTF-8", look)
            return
        try:
            folders, unreadable = subfolders(model_folder)
        except OSError as error:
            self._refusals.pass_over(model_folder, error.strerror or type(error).__name__, look)
            return
        found, served = versions_among(folders), self.models.get(name)
        for folder in misnamed_versions(folders):
            self._refusals.refuse(look, Refused(folder, what_versions_are_called(folder)))
        for folder in unreadable:
            if version_of(folder.name) is not None:
                self._refusals.refuse(look, Refused(folder, f"{folder} cannot be read: {unreadable[folder]}"))
        wish = self.board["version", name]
        look.versions[name] = [*found]
        # Nor is a version that cannot be read at the moment a reason to fall back to a lower one.
        if wish == UNLOADED or (served is not None and served.bundle.folder in unreadable):
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
                    self._refusals.refuse(look, Refused(folder, str(error), stamp))
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

    def take(self, look: Look) -> bool:
        """Whether another model is served than before, or one less."""
        for refused in look.refused:
            if refused.stamp and refused not in self.refused:
                self._observers.count_load(refused.folder.parent.name, "refused")
        self._refusals.take(look)
        self.versions, self.pending = look.versions, look.pending
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
        self._default.note(self.models)
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
            self._refusals.refuse(look, Refused(folder, str(error), loaded.stamp))
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
            raise ModelRefused(self._refusals.told(str(error))) from error

    def _versions_of(self, name: str) -> dict[int, Path]:
        try:
            folders = {folder.name: folder for folder in subfolders(self._settings.models).found}
            found = versions(folders[name]) if name in folders else {}
        except OSError as error:
            raise ModelRefused(self._refusals.told(reason_of(error))) from error
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
                raise ModelRefused(self._refusals.told(str(error))) from error
            self._default.note(self.models)
        self._wish(name, wish)

    def unload(self, name: str) -> None:
        """In all processes, at their next look."""
        if name not in self.models:
            raise UnknownModel(f"there is no model of that name; loaded: {listed([*self.models]) or 'none'}")
        self._wish(name, UNLOADED)
        self._drop(name)
        self._default.note(self.models)

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
            return self.models[self._default.name(self.models)]
        if name not in self.models:
            raise UnknownModel(f"there is no model of that name; loaded: {listed([*self.models])}")
        return self.models[name]
