"""From a bundle's folder to graphs that are checked, measured and warm: a model without its queues. In any thread."""

import os
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, thread_time

from app.inference import devices
from app.inference.batch_limits import BatchLimits, measure_limits
from app.inference.sessions import Graphs
from app.repository.precision import choose
from app.settings import Settings
from bundle.folders import BundleError
from bundle.reader import Bundle, read_bundle

Stamp = tuple[object, ...]


@dataclass(frozen=True)
class Loaded:
    """A bundle that passed its checks, and what was measured of each of its graphs, by name."""

    bundle: Bundle
    stamp: Stamp
    precision: str
    precision_reason: str
    graphs: Graphs
    limits: dict[str, BatchLimits]
    load_s: float

    @property
    def row_s(self) -> float:
        """Seconds that a row takes in the slowest graph, in runs that are full."""
        return max(limits.row_s for limits in self.limits.values())


def stamp_of(folder: Path) -> Stamp:
    """Differs as soon as a file in the folder was written, replaced, renamed or made readable."""
    try:
        with os.scandir(folder) as entries:
            found = [(entry.name, entry.stat()) for entry in entries]
    except OSError as error:
        return (str(error),)
    return tuple(sorted((name, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for name, stat in found))


class Loader:
    """Loads bundles as the settings say."""

    def __init__(self, settings: Settings) -> None:
        """Raises NoDevice where the graphs cannot run on the one that the settings want."""
        self._settings = settings
        self.device = devices.choose(settings.device, settings.workers)

    def load(self, folder: Path) -> Loaded:
        """Raises BundleError, whatever is wrong."""
        try:
            return self._load(folder)
        except BundleError:
            raise
        except OSError as error:
            raise BundleError(f"{error.filename or folder} cannot be read: {error.strerror or error}") from error
        except Exception as error:
            # Whatever a spoilt file makes the libraries raise: the models that are served live on.
            raise BundleError(f"{folder} cannot be loaded ({type(error).__name__}: {error})") from error

    def _load(self, folder: Path) -> Loaded:
        # The stamp is taken before anything is read, so that a file that changes meanwhile is seen by the next look.
        started, stamp = perf_counter(), stamp_of(folder)
        bundle = read_bundle(folder, self._settings.max_bundle_bytes)
        manifest = bundle.manifest
        if (folder.parent.name, folder.name) != (manifest.name, str(manifest.version)):
            raise BundleError(
                f"{folder} holds version {manifest.version} of '{manifest.name}'; folders must be named so"
            )
        # Read here, so that a bundle whose heads or novelty make no sense is refused.
        _ = bundle.heads, bundle.novelty
        settings = self._settings
        graphs, precision, reason = choose(bundle, settings.precision, settings.intra_op_threads, self.device)
        limits = self._measure(bundle, graphs)
        return Loaded(bundle, stamp, precision, reason, graphs, limits, perf_counter() - started)

    def _measure(self, bundle: Bundle, graphs: Graphs) -> dict[str, BatchLimits]:
        golden, settings = bundle.golden, self._settings
        features = (golden.features,)
        samples = {
            "context_encoder": features,
            "target_encoder": features,
            "predictor": golden.asked(),
        }
        # With one thread a run is this thread's, and its CPU time is the same however busy the machine is.
        is_own = settings.intra_op_threads == 1 and self.device == "cpu"
        clock = thread_time if is_own else perf_counter
        return {
            role: measure_limits(getattr(graphs, role).run, inputs, max_rows=settings.max_batch_rows, clock=clock)
            for role, inputs in samples.items()
        }
