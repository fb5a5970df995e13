"""Which number format a model is served in: int8 where it costs little and the processor is made for it.

Nothing is timed, so that equal bundles are served in the same format by every process and every replica on machines of
one kind.
"""

from typing import NamedTuple

from app.inference.sessions import Graphs
from app.repository import selfcheck
from app.settings import Device, Precision
from app.system.processor import multiplies_int8_fast
from bundle.folders import BundleError
from bundle.reader import Bundle

# Of the variance of the embedding. On the Melee games a linear probe's AUC falls by about as much as int8 adds noise;
# docs/lab/formats.md.
MAX_NOISE = 0.002


class Choice(NamedTuple):
    """The graphs to serve, and in words why in that format."""

    graphs: Graphs
    precision: Precision
    reason: str


def choose(bundle: Bundle, wanted: Precision, threads: int, device: Device = "cpu") -> Choice:
    """The graphs of the format `wanted`, which reproduce their golden rows; BundleError if there are none such."""
    if wanted != "auto":
        return Choice(_checked(bundle, wanted, threads, device), wanted, "as asked for")
    float32 = _checked(bundle, "float32", threads, device)
    if device == "cuda":
        return Choice(float32, "float32", "on the GPU int8 is no faster")
    if reason := _why_not_int8(bundle):
        return Choice(float32, "float32", reason)
    try:
        int8 = _checked(bundle, "int8", threads, device)
    except BundleError as error:
        return Choice(float32, "float32", f"int8 does not work here: {error}")
    noise = bundle.manifest.precision["int8"].noise
    return Choice(int8, "int8", f"this processor multiplies int8 fast, and its noise is {noise:.2g} of the variance")


def _checked(bundle: Bundle, precision: str, threads: int, device: Device) -> Graphs:
    graphs = Graphs(bundle, precision, threads, device)
    selfcheck.check(bundle, graphs, precision)
    return graphs


def _why_not_int8(bundle: Bundle) -> str | None:
    cost = bundle.manifest.precision.get("int8")
    if not bundle.has("int8"):
        return "the bundle has no int8 graphs"
    if cost is None:
        return "the bundle does not say what int8 costs; export it again"
    if cost.noise > MAX_NOISE:
        return f"the noise of int8 is {cost.noise:.2g} of the variance, above {MAX_NOISE:g}"
    if not multiplies_int8_fast():
        return "this processor has no instructions that make int8 faster"
    return None
