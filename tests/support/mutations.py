"""Valid documents with one or two values removed, replaced or added."""

import copy
from typing import Any

from hypothesis import strategies as st

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
far_numbers = st.sampled_from([-1, 0, 2**31, 2**63, 2**64, 10**30, 10**400, 1e308, -1e308, 1e-320])
texts = st.sampled_from(["", ".", "..", "/", "a/b", "\0", "\ud800", "x" * 300])
values = (
    scalars
    | far_numbers
    | texts
    | st.lists(scalars | far_numbers, max_size=3)
    | st.dictionaries(texts | st.text(max_size=3), scalars | far_numbers, max_size=3)
)


@st.composite
def mutated(draw: st.DrawFn, document: dict[str, Any]) -> dict[str, Any]:
    document = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, 2))):
        container, key = _place(draw, document)
        match draw(st.sampled_from(["replace", "replace", "scale", "remove", "swap", "add"])):
            case "remove":
                del container[key]
            case "add" if isinstance(container, list):
                container.insert(key, draw(values))
            case "add":
                container[draw(texts | st.text(max_size=8))] = draw(values)
            case "swap":
                other = draw(st.sampled_from([*container] if isinstance(container, dict) else range(len(container))))
                container[key], container[other] = container[other], container[key]
            case "scale" if isinstance(container[key], int | float):
                container[key] *= draw(st.sampled_from([-1, 0, 2, 1e300]))
            case _:
                container[key] = draw(values)
    return document


def _place(draw: st.DrawFn, node: Any) -> tuple[Any, Any]:
    """A container in the document and one of its keys or indices.

    Drawn level by level, since drawing from all places at once would favour long lists.
    """
    key = draw(st.sampled_from([*node] if isinstance(node, dict) else range(len(node))))
    inner = node[key]
    return _place(draw, inner) if isinstance(inner, dict | list) and inner and draw(st.booleans()) else (node, key)
