"""How the Open Inference Protocol describes the service and its models.

REST sends these documents as they are, and gRPC as messages with the same fields.
"""

from collections.abc import Sequence
from typing import Any

from app import __version__
from app.api.oip.models import Signature
from app.api.oip.statistics import Statistics
from app.service import Service

EXTENSIONS = [
    "binary_tensor_data",
    "parameters",
    "schedule_policy",
    "statistics",
    "model_configuration",
    "model_repository",
]
PLATFORM = "onnx_onnxv1"


def server() -> dict[str, Any]:
    """Name, version and extensions of the service."""
    return {"name": "jepa-serve", "version": __version__, "extensions": EXTENSIONS}


def metadata(signature: Signature) -> dict[str, Any]:
    """The inputs and outputs of a model."""
    return {
        "name": signature.name,
        "versions": [signature.version],
        "platform": PLATFORM,
        "inputs": [_tensor(each.name, each.shape, each.datatypes[0]) for each in signature.inputs],
        "outputs": [_tensor(name, shape) for name, shape in signature.outputs.items()],
    }


def config(signature: Signature, max_rows: int) -> dict[str, Any]:
    """The configuration of a model as Triton writes it, in which dims leave out the batch."""
    return {
        "name": signature.name,
        "platform": PLATFORM,
        "backend": "onnxruntime",
        "max_batch_size": max_rows,
        "input": [
            {"name": each.name, "data_type": f"TYPE_{each.datatypes[0]}", "optional": each.optional} | _dims(each.shape)
            for each in signature.inputs
        ],
        "output": [
            {"name": name, "data_type": "TYPE_FP32"} | _dims(shape) for name, shape in signature.outputs.items()
        ],
        "dynamic_batching": {},
    }


def statistics(service: Service, signatures: Sequence[Signature]) -> list[dict[str, Any]]:
    """The requests to each model over this protocol, and where their time went."""
    return [
        {"name": each.name, "version": each.version} | Statistics(service.telemetry.ledger, each.name).document()
        for each in signatures
    ]


def index(service: Service, *, ready: bool) -> list[dict[str, str]]:
    """Every version on disk, with the reason if it is not served; with `ready` only those that are served."""
    registry = service.registry
    served = {name: model.bundle.manifest.version for name, model in registry.models.items()}
    reasons = {refused.folder: refused.reason for refused in registry.refused}
    rows = []
    for name in sorted(served.keys() | registry.versions.keys()):
        for version in sorted({*registry.versions.get(name, ()), *([served[name]] if name in served else ())}):
            reason = reasons.get(service.settings.models / name / str(version), "")
            is_served = served.get(name) == version
            if not is_served and not reason:
                reason = f"version {served[name]} is served" if name in served else "unloaded"
            state = "READY" if is_served else "UNAVAILABLE"
            if is_served or not ready:
                rows.append({"name": name, "version": str(version), "state": state, "reason": reason})
    return rows


def _tensor(name: str, shape: list[int], datatype: str = "FP32") -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}


def _dims(shape: list[int]) -> dict[str, Any]:
    """Triton requires at least one dim, so a tensor that is one number a row has dims [1], reshaped to []."""
    return {"dims": shape[1:]} if shape[1:] else {"dims": [1], "reshape": {"shape": []}}
