"""Turns what pydantic and the model's schema object to into errors that say how to fix the request."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from app.errors import InvalidInput, Loc, SchemaMismatch, listed
from app.repository.registry import ServedModel

M = TypeVar("M", bound=BaseModel)


def checked(options: type[M], values: Mapping[str, Any], source: str, *, strict: bool) -> M:
    """The options, validated; raises InvalidInput with paths below `source` ("body" or "query")."""
    try:
        return options.model_validate(values, strict=strict)
    except ValidationError as error:
        known = [*options.model_fields]
        raise InvalidInput(*(_explained(each, known) for each in error.errors(include_url=False))).within(
            source
        ) from None


def _explained(error: ErrorDetails, known: list[str]) -> tuple[Loc, str]:
    """A pydantic error as a path and a message that says how to fix it; it never repeats what was sent."""
    loc = error["loc"]
    field = ".".join(map(str, loc))
    match error["type"]:
        case "extra_forbidden":
            nearest = difflib.get_close_matches(field, known, n=1)
            hint = f"did you mean '{nearest[0]}'? " if nearest else ""
            return loc, f"{field} is not known here; {hint}there is {listed(known)}"
        case "missing":
            return loc, f"{field} is missing"
        case "value_error":
            return loc, error["msg"].removeprefix("Value error, ")
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
