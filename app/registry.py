"""Which models are served: finds bundles, loads each whole or not at all, and hands out engines by name."""

import logging
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, thread_time
from typing import Protocol

from app.arrays import Array
from app.batcher import Batcher, Observer, Workers
from app.bundle import Bundle, BundleError, Manifest, read_bundle, versions
from app.drift import Drift
from app.engine import Engine, Queues
from app.errors import InvalidInput, NotReady, UnknownModel, listed
from app.pace import measure_pace
from app.precision import choose
from app.sessions import Graph, Graphs
from app.settings import Settings
from app.wire import Forms

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """A bundle that passed its checks, warm and ready; replaced as a whole, never changed."""

    bundle: Bundle
    versions: list[int]
    precision: str
    precision_reason: str
    engine: Engine
    forms: Forms
    load_s: float


@dataclass(frozen=True)
class Refused:
    """A bundle that is not served, and why."""

    folder: Path
    reason: str


class Observers(Protocol):
    """Makes what watches the runs of a model's graph, and the rows that come in."""

    def graph(self, model: str, graph: str) -> Observer: ...

    def drift(self, manifest: Manifest) -> Drift: ...


class Registry:
    """The models by name."""

    def __init__(self, settings: Settings, workers: Workers, observers: Observers) -> None:
        self._settings = settings
        self._workers = workers
        self._observers = observers
        self.models: dict[str, ServedModel] = {}
        self.refused: list[Refused] = []

    def load_all(self) -> None:
        """Of each model the highest version that passes; a bundle that fails is logged and stands in nobody's way."""
        for folder in sorted(self._settings.models.iterdir()):
            if folder.is_dir() and not folder.name.startswith("."):
                self._load_highest(folder)
        default = self._settings.default_model
        if default is not None and default not in self.models:
            logger.warning("default_model '%s' is not loaded; there is %s", default, listed([*self.models]) or "none")

    def _load_highest(self, model_folder: Path) -> None:
        found = versions(model_folder)
        for folder in found.values():
            try:
                model = self.load(folder, [*found])
            except BundleError as error:
                logger.error("refused %s: %s", folder, error)
                self.refused.append(Refused(folder, str(error)))
            else:
                self.models[model.bundle.manifest.name] = model
                return

    def load(self, folder: Path, all_versions: list[int]) -> ServedModel:
        """A complete new model, checked with its golden rows and warm; raises BundleError, and changes nothing here."""
        started = perf_counter()
        bundle = read_bundle(folder)
        manifest = bundle.manifest
        if (folder.parent.name, folder.name) != (manifest.name, str(manifest.version)):
            raise BundleError(
                f"{folder} holds version {manifest.version} of '{manifest.name}'; folders must be named so"
            )
        graphs, precision, reason = choose(bundle, self._settings.precision, self._settings.intra_op_threads)
        engine = Engine(manifest, self._queues(bundle, graphs), self._observers.drift(manifest))
        load_s = perf_counter() - started
        logger.info(
            "serving %s version %d in %s (%s), loaded in %.2f s",
            *(manifest.name, manifest.version, precision, reason, load_s),
        )
        return ServedModel(bundle, all_versions, precision, reason, engine, Forms(manifest), load_s)

    def _queues(self, bundle: Bundle, graphs: Graphs) -> Queues:
        golden_rows = bundle.golden
        features = (golden_rows.features,)
        predictor_inputs = (golden_rows.context_embedding, golden_rows.targets, golden_rows.horizon)
        name = bundle.manifest.name
        return Queues(
            self._queue(name, "context_encoder", graphs.context_encoder, features),
            self._queue(name, "target_encoder", graphs.target_encoder, features),
            self._queue(name, "predictor", graphs.predictor, predictor_inputs),
        )

    def _queue(self, model: str, role: str, graph: Graph, samples: tuple[Array, ...]) -> Batcher:
        clock = thread_time if self._settings.intra_op_threads == 1 else perf_counter
        pace = measure_pace(graph.run, samples, max_rows=self._settings.max_batch_rows, clock=clock)
        pace = pace.beside(self._workers.threads)
        logger.info("%s %s runs %s", model, role, pace)
        return Batcher(
            graph.run,
            pace,
            self._workers,
            max_queue_rows=self._settings.max_queue_rows,
            observer=self._observers.graph(model, role),
            name=f"{model} {role}",
        )

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
