"""Turns what pydantic and the model's schema object to into errors that say how to fix the request."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pydantic import BaseModel, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic_core import CoreSchema, ErrorDetails, core_schema

from app.errors import InvalidInput, Loc, SchemaMismatch, cut, did_you_mean, listed
from app.repository.registry import ServedModel

M = TypeVar("M", bound=BaseModel)

# Of a document, its keys and list items at any depth, but for the numbers of its rows. pydantic reports each of them
# that is wrong, and takes about a kilobyte for it.
MAX_MEMBERS = 1000
MAX_FINDINGS = 10
# Members that hold the numbers of a tensor.
DATA = "data"
# What members may have members themselves: documents come from JSON.
PARTS = frozenset((list, dict))


@dataclass(frozen=True)
class OrNull:
    """Marks a member that may be null as well, which stands for the default: some clients write all they know of."""

    default: Any

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_before_validator_function(self._filled, handler(source))

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [handler(schema), {"type": "null"}]}

    def _filled(self, value: Any) -> Any:
        return self.default if value is None else value


def checked(options: type[M], values: Mapping[str, Any], source: str, *, strict: bool) -> M:
    """The options, validated; raises InvalidInput with paths below `source` ("body" or "query")."""
    check_members(values, source)
    try:
        return options.model_validate(values, strict=strict)
    except ValidationError as error:
        known = [*options.model_fields]
        found = error.errors(include_url=False, include_input=False)
        explained = [_explained(each, known) for each in found[:MAX_FINDINGS]]
        if len(found) > MAX_FINDINGS:
            explained.append(((), f"{len(found) - MAX_FINDINGS} more are wrong"))
        raise InvalidInput(*explained).within(source) from None


def check_members(document: Any, source: str) -> None:
    """Raises InvalidInput for a document with more members than any right one has, before each is looked at."""
    left, open_parts = MAX_MEMBERS, [document]
    for part in open_parts:
        left -= len(part)
        if left < 0:
            detail = f"the {source} has more than {MAX_MEMBERS} members beside its rows; send what the endpoint takes"
            raise InvalidInput(((), detail)).within(source)
        if isinstance(part, list):
            open_parts += [value for value in part if type(value) in PARTS]
        else:
            open_parts += [value for name, value in part.items() if type(value) in PARTS and name != DATA]


def _explained(error: ErrorDetails, known: list[str]) -> tuple[Loc, str]:
    """A pydantic error as a path and a message that says how to fix it; it never repeats what was sent."""
    loc = tuple(cut(step) if isinstance(step, str) else step for step in error["loc"])
    field = ".".join(map(str, loc))
    match error["type"]:
        case "extra_forbidden":
            return loc, f"{field} is not known here; {did_you_mean(field, known)}there is {listed(known)}"
        case "missing":
            return loc, f"{field} is missing"
        case "value_error":
            return loc, error["msg"].removeprefix("Value error, ")
        case "model_type" | "dict_type":
            return loc, f"{field}: this must be an object"
        case _:
            return loc, f"{field}: {error['msg'].replace('Input should', 'this must')}"


def check_schema(model: ServedModel, claims: set[str | None]) -> None:
    """Raises SchemaMismatch unless each hash that the request claims is the model's."""
    manifest = model.bundle.manifest
    if claims - {None, manifest.schema_hash}:
        raise SchemaMismatch(
            f"model '{manifest.name}' version {manifest.version} has schema_hash {manifest.schema_hash}, the request "
            f"expects another: its columns may be in another order; compare them with /models/{manifest.name}"
        )
