"""The model card of a bundle, README.md, with the front matter that the Hugging Face Hub reads."""

import json
from collections.abc import Iterator
from typing import Any

from bundle.schema import Schema
from model.training.bars import duration
from model.training.checkpoint import Checkpoint
from model.training.recipe import Recipe

# The Hub's names of licences that models commonly have; any other is told to it as "other", with its own name.
LICENCES = (
    *("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0"),
    *("cc-by-nc-sa-4.0", "cc-by-nd-4.0", "cc-by-nc-nd-4.0", "gpl-2.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0"),
    *("openrail", "unlicense", "wtfpl", "zlib", "isc", "unknown"),
)
# Groups that have a line of the table, and names of columns in a line; bundle.json has all of them.
MAX_GROUPS = 100
MAX_NAMES = 8
METRICS = {
    "objective": "what training minimises",
    "loss": "smooth L1 between predicted and actual representation",
    "loss_ratio": "that over the loss of always predicting the mean: 1 is nothing learned",
    "std": "of an embedding's numbers over rows: near 0 is collapse",
    "rankme": "how many dimensions of the embedding are in use (RankMe)",
}


def model_card(checkpoint: Checkpoint, name: str) -> str:
    """Markdown: what the model is for, what it learned from, how well, and how it was made."""
    summary, schema = checkpoint.summary, checkpoint.schema
    return "\n".join(
        [
            *_front_matter(checkpoint, name),
            f"# Model card: {name}",
            "",
            f"A JEPA (joint-embedding predictive architecture) over game frames: {schema.input_dim} columns → "
            f"{checkpoint.jepa.config.embed_dim} numbers.",
            "",
            "## Use",
            "",
            "The embedding is the input of a policy, of a probe or of a search for similar moments; `/loss` says how",
            "surprising a frame was. What the model was not trained on, other games or other units, it does not know.",
            "",
            "```",
            "jepa serve --models MODELS",
            "```",
            "",
            f"`MODELS` is the folder that holds `{name}/`.",
            "",
            "## Data",
            "",
            *_facts(checkpoint),
            "",
            "| group | columns | names |",
            "|---|---|---|",
            *_groups(schema),
            "",
            "## Metrics",
            "",
            "Of rows of held-out games, that the model did not learn from.",
            "",
            "| metric | value | what it is |",
            "|---|---|---|",
            *(
                f"| {key} | {summary.metrics[key]:.4g} | {said} |"
                for key, said in METRICS.items()
                if key in summary.metrics
            ),
            "",
            "## How it was made",
            "",
            *_making(checkpoint),
        ]
    )


def _front_matter(checkpoint: Checkpoint, name: str) -> Iterator[str]:
    licence = checkpoint.summary.licence
    known = licence.lower() if licence else "unknown"
    yield "---"
    if known in LICENCES:
        yield f"license: {known}"
    else:
        yield "license: other"
        yield f"license_name: {_quoted(licence)}"
    yield "library_name: jepa-serve"
    yield "pipeline_tag: feature-extraction"
    yield "tags:"
    yield from ("- jepa", "- onnx", "- games", "- representation-learning")
    if metrics := checkpoint.summary.metrics:
        yield "model-index:"
        yield f"- name: {name}"
        yield "  results:"
        yield "  - task:"
        yield "      type: feature-extraction"
        yield "    dataset:"
        yield f"      name: {_quoted(_source(checkpoint))}"
        yield "      type: game-frames"
        yield "      split: validation"
        yield "    metrics:"
        for key, value in metrics.items():
            yield f"    - type: {key}"
            yield f"      value: {value:.4g}"
    yield "---"


def _quoted(text: str) -> str:
    """A string of YAML, which includes those of JSON that hold nothing unprintable."""
    return json.dumps("".join(filter(str.isprintable, text)), ensure_ascii=False)


def _source(checkpoint: Checkpoint) -> str:
    return checkpoint.summary.data.get("source") or "not given"


def _facts(checkpoint: Checkpoint) -> Iterator[str]:
    summary = checkpoint.summary
    yield f"* source: {_plain(_source(checkpoint))}"
    yield f"* learned from: {summary.rows:,} rows of {summary.episodes:,} episodes"
    if checkpoint.actions:
        yield (
            f"* own inputs that the predictor takes, of up to {checkpoint.jepa.config.max_actions} frames: "
            + ", ".join(map(_plain, checkpoint.actions[:MAX_GROUPS]))
            + (", …" if len(checkpoint.actions) > MAX_GROUPS else "")
        )
    yield f"* licence of the weights: {_plain(summary.licence) or 'not given'}"
    for option, value in checkpoint.made.get("choices", {}).items():
        yield f"* {option}: {_plain(json.dumps(value))}"


def _groups(schema: Schema) -> Iterator[str]:
    for group in schema.groups[:MAX_GROUPS]:
        names = schema.names[group.start : group.stop]
        listed = ", ".join(map(_plain, names[:MAX_NAMES])) + (", …" if len(names) > MAX_NAMES else "")
        yield f"| {_plain(group.name)} | {group.width} | {listed} |"
    if len(schema.groups) > MAX_GROUPS:
        yield f"| {len(schema.groups) - MAX_GROUPS} more | | see bundle.json |"


def _making(checkpoint: Checkpoint) -> Iterator[str]:
    made: dict[str, Any] = checkpoint.made
    if command := made.get("command"):
        # Code that is indented ends with its line, whatever is in it.
        yield from (f"    {line}" for line in command.splitlines())
        yield ""
    if not checkpoint.recipe:
        return
    recipe = Recipe.from_dict(checkpoint.recipe)
    yield (
        f"The weights are those of step {checkpoint.step:,} of {recipe.steps:,}, the best on held-out games of "
        f"{len(checkpoint.summary.history.get('step', []))} reports; the run took "
        f"{duration(checkpoint.summary.seconds)}. Preset: "
        f"{made.get('preset') or 'none'}. The whole recipe, for `jepa train --config`:"
    )
    yield ""
    yield "```toml"
    yield recipe.as_toml().rstrip()
    yield "```"
    yield ""


def _plain(text: str) -> str:
    """Text of a user as Markdown that shows it as it is, on one line, also within a table."""
    words = " ".join(text.split())
    for sign in r"\`*_[]<>|&":
        words = words.replace(sign, "&amp;" if sign == "&" else f"\\{sign}")
    return words
