"""The models that one bundle becomes in the Open Inference Protocol, and the names of their tensors.

<name>                  features [-1, input_dim] → embedding [-1, embed_dim], by the target encoder
<name>.context_encoder  the same by the context encoder
<name>.predictor        context [-1, embed_dim], targets [-1, patches]?, horizon [-1]? → prediction [-1, embed_dim]
<name>.forecast         features [-1, input_dim] → values [-1, outputs of its heads], novelty [-1]?
<name>.loss             features, target_features [-1, input_dim] → losses [-1], percentiles [-1]?

Where the model takes them, .predictor and .forecast have actions [-1, -1, A]? as well, the player's own inputs of the
frames that follow: of each row, or candidates for the only row.
"""

from collections.abc import Awaitable, Callable
from typing import Annotated, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from app.api.oip.tensors import Input
from app.errors import InvalidInput, UnknownModel, listed
from app.inference.actions import FIELD
from app.inference.batcher import Batcher
from app.inference.engine import Encoder
from app.inference.jobs import Ticket, Timing
from app.repository.registry import Registry, ServedModel
from app.rows import Array, Layout

FORECAST = ".forecast"
# JSON may say that there are none by a list or, from Lua, by an object.
Names = Annotated[str, BeforeValidator(lambda names: "" if names in ([], {}) else names)]


class Options(BaseModel):
    """The parameters of a request that are this service's own, not the protocol's."""

    model_config = ConfigDict(extra="forbid")

    hidden: Names | None = Field(default=None, description="Groups that the bot cannot see, separated by commas")
    horizon: float | None = Field(
        default=None, description="Frames ahead: one of the model's horizons (default: the first; of a forecast: 0)"
    )
    heads: Names | None = Field(default=None, description="Heads whose values are wanted, separated by commas")
    novelty: bool | None = Field(default=None, description="Whether a forecast says how novel each frame is")

    @property
    def hidden_groups(self) -> list[str]:
        return _names(self.hidden or "")

    @property
    def named_heads(self) -> list[str] | None:
        return None if self.heads is None else _names(self.heads)


class Computed(NamedTuple):
    outputs: dict[str, Array]
    timing: Timing


class Signature(NamedTuple):
    """One model of the protocol. `outputs` maps names to shapes, all FP32; `compute` takes inputs by name, [B, width]
    each, and expects all that are not optional."""

    name: str
    model: ServedModel
    inputs: tuple[Input, ...]
    outputs: dict[str, list[int]]
    # The parameters of `Options` that the model takes.
    options: tuple[str, ...]
    # The queue that every row passes exactly once; a forecast's, where it is one of the present.
    queue: Batcher
    compute: Callable[[dict[str, Array], Options, Ticket], Awaitable[Computed]]

    @property
    def version(self) -> str:
        return str(self.model.bundle.manifest.version)

    def check_options(self, options: Options) -> None:
        """Raises InvalidInput if an option is set that this model does not take."""
        for name in options.model_fields_set.difference(self.options):
            takes = f"only {', '.join(self.options)}" if self.options else "no such parameter"
            raise InvalidInput((("parameters", name), f"{name} does not go with model '{self.name}'; it takes {takes}"))


def _encoder(name: str, model: ServedModel, encoder: Encoder) -> Signature:
    async def compute(inputs: dict[str, Array], options: Options, ticket: Ticket) -> Computed:
        features, hidden = inputs["features"], options.hidden_groups
        rows, timing = await model.engine.embed(features, encoder=encoder, hidden=hidden, ticket=ticket)
        return Computed({"embedding": rows}, timing)

    queues = model.engine.queues
    queue = queues.target_encoder if encoder == "target" else queues.context_encoder
    inputs = (Input(model.forms.features.layouts[0]),)
    return Signature(name, model, inputs, {"embedding": _embedding(model)}, ("hidden",), queue, compute)


def _predictor(name: str, model: ServedModel) -> Signature:
    async def compute(inputs: dict[str, Array], _: Options, ticket: Ticket) -> Computed:
        targets, horizon = inputs.get("targets"), inputs.get("horizon")
        frames = None if horizon is None else horizon[:, 0]
        rows, timing = await model.engine.predict_patches(
            inputs["context"], targets=targets, horizon=frames, actions=inputs.get(FIELD), ticket=ticket
        )
        return Computed({"prediction": rows}, timing)

    manifest = model.bundle.manifest
    patches = [patch.name for patch in manifest.patches]
    inputs = (
        Input(model.forms.context.layouts[0]),
        Input(Layout("targets", len(patches), manifest.name, patches), ("FP32", "BOOL"), optional=True),
        Input(Layout("horizon", 1, manifest.name, ["frames"]), ("FP32", "INT64"), optional=True, flat=True),
        *_actions(model),
    )
    return Signature(name, model, inputs, {"prediction": _embedding(model)}, (), model.engine.queues.predictor, compute)


def _forecast(name: str, model: ServedModel) -> Signature:
    async def compute(inputs: dict[str, Array], options: Options, ticket: Ticket) -> Computed:
        found = await model.engine.forecast(
            inputs["features"],
            heads=options.named_heads,
            horizon=options.horizon,
            hidden=options.hidden_groups,
            actions=inputs.get(FIELD),
            novelty=options.novelty or False,
            ticket=ticket,
        )
        outputs = {"values": found.values} | ({} if found.novelty is None else {"novelty": found.novelty})
        return Computed(outputs, found.timing)

    width = sum(len(head.outputs) for head in model.bundle.manifest.heads)
    outputs = {"values": [-1, width]} | ({} if model.bundle.novelty is None else {"novelty": [-1]})
    options, queues = ("hidden", "horizon", "heads", "novelty"), model.engine.queues
    inputs = (Input(model.forms.features.layouts[0]), *_actions(model))
    return Signature(name, model, inputs, outputs, options, queues.target_encoder, compute)


def _loss(name: str, model: ServedModel) -> Signature:
    async def compute(inputs: dict[str, Array], options: Options, ticket: Ticket) -> Computed:
        losses, percentiles, timing = await model.engine.loss(
            inputs["features"], inputs["target_features"], horizon=options.horizon, ticket=ticket
        )
        outputs = {"losses": losses} | ({} if percentiles is None else {"percentiles": percentiles})
        return Computed(outputs, timing)

    outputs = {"losses": [-1]} | ({"percentiles": [-1]} if model.bundle.manifest.loss_quantiles else {})
    inputs = tuple(map(Input, model.forms.frames.layouts))
    return Signature(name, model, inputs, outputs, ("horizon",), model.engine.queues.predictor, compute)


def _actions(model: ServedModel) -> tuple[Input, ...]:
    """The input of the player's own inputs, if the model takes them."""
    taken = model.engine.actions
    if not taken.names:
        return ()
    layout = Layout(FIELD, taken.width * taken.max_actions, taken.model, taken.names)
    return (Input(layout, optional=True, actions=taken),)


def _names(text: str) -> list[str]:
    """Those that the commas separate."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _embedding(model: ServedModel) -> list[int]:
    return [-1, model.bundle.manifest.embed_dim]


SIGNATURES: dict[str, Callable[[str, ServedModel], Signature]] = {
    "": lambda name, model: _encoder(name, model, "target"),
    ".context_encoder": lambda name, model: _encoder(name, model, "context"),
    ".predictor": _predictor,
    ".loss": _loss,
    FORECAST: _forecast,
}


def signatures(registry: Registry) -> list[Signature]:
    """The signatures of all models that are served."""
    return [SIGNATURES[kind](name + kind, model) for name, model in registry.models.items() for kind in _kinds(model)]


def find(registry: Registry, name: str, version: str | None) -> Signature:
    """Raises UnknownModel unless that model is served, in that version if one is given."""
    base, dot, kind = name.partition(".")
    model = registry.get(base)
    kind = dot + kind
    if kind not in SIGNATURES or (kind == FORECAST and not model.bundle.manifest.heads):
        mend = "; it has no heads to forecast with, `jepa heads` makes them" if kind == FORECAST else ""
        known = listed([base + each for each in _kinds(model)])
        raise UnknownModel(f"there is no model of that name; of '{base}' there is {known}{mend}")
    signature = SIGNATURES[kind](name, model)
    if version is not None and version != signature.version:
        raise UnknownModel(f"model '{name}' is loaded in version {signature.version}; ask for that, or for none")
    return signature


def _kinds(model: ServedModel) -> list[str]:
    """What its name may end in."""
    return [kind for kind in SIGNATURES if kind != FORECAST or model.bundle.manifest.heads]
