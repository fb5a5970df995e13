"""How fast number formats, and other ways to write the same graphs, are on this machine: tables of rows/s.

    python -m benchmarks.lab.formats BUNDLE      float32 and int8 graphs of a bundle; /predict in two runs and in one
    python -m benchmarks.lab.formats reference   new networks of the reference's sizes, with 1 and 8 tokens a frame:
                                                 also exported as they are trained, and in dynamic int8

The variants in a row of a table run in turn, over and over, so that other work on the machine affects all alike; the
lower quartile of the times counts. With one thread the clock is that thread's CPU time.
"""

import argparse
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from statistics import quantiles
from time import perf_counter, thread_time

import numpy as np
import onnx
import onnxruntime as ort

from app.inference.sessions import session_options
from bundle.folders import locate
from bundle.manifest import GRAPHS
from bundle.reader import Bundle, read_bundle

BATCHES = (1, 8, 64)
RUNS_PER_ROUND, MIN_ROUNDS = 3, 5
# The output of one graph that is an input of the other.
JOINT = [("context_encoder/embedding", "predictor/context")]

Feeds = dict[str, np.ndarray]
Run = Callable[[Feeds], object]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="a version's or model's folder, 'default' for the bundled one, or 'reference'")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="ONNX Runtime threads within a run")
    parser.add_argument("--seconds", type=float, default=3, help="of measuring, for each line")
    options = parser.parse_args()
    print(f"ONNX Runtime {ort.__version__}, {options.threads} threads, {options.seconds:g} s a line")
    with tempfile.TemporaryDirectory() as folder:
        if options.bundle == "reference":
            for tokens in (1, 8):
                model = f"reference, {tokens} token{'s' * (tokens > 1)}"
                compare(model, reference_variants(tokens, Path(folder)), options.threads, options.seconds)
        else:
            bundle = read_bundle(locate(options.bundle))
            compare(bundle.manifest.name, variants(bundle), options.threads, options.seconds)
            compare_fused(bundle, Path(folder), options.seconds)


def variants(bundle: Bundle) -> dict[str, tuple[Feeds, dict[str, Path]]]:
    """Graph → its inputs, and the files to compare."""
    feeds = questions(bundle)
    return {
        graph: (feeds[graph], {name: bundle.graph(graph, name) for name in ("float32", "int8") if bundle.has(name)})
        # The two encoders have the same structure, so one is enough.
        for graph in GRAPHS[1:]
    }


def questions(bundle: Bundle) -> dict[str, Feeds]:
    golden = bundle.golden
    features = {"features": np.nan_to_num(golden.features)}
    asked = {"context": golden.context_embedding, "targets": golden.targets, "horizon": golden.horizon}
    if golden.actions is not None:
        asked["actions"] = golden.actions
    return {"context_encoder": features, "target_encoder": features, "predictor": asked}


def reference_variants(tokens: int, folder: Path) -> dict[str, tuple[Feeds, dict[str, Path]]]:
    """As `variants`, for a new network and with two more ways to export it."""
    import torch
    from onnxruntime.quantization import QuantType, quantize_dynamic

    from benchmarks.reference import reference
    from model.export.bundle import export_bundle
    from model.export.graphs import embed

    logging.disable(logging.WARNING)
    checkpoint = reference(tokens)
    jepa, schema = checkpoint.jepa, checkpoint.schema
    bundle = read_bundle(export_bundle(checkpoint, folder, f"tokens{tokens}"))

    class Trained(torch.nn.Module):
        def __init__(self, graph: str) -> None:
            super().__init__()
            self.jepa, self.graph = jepa, graph

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            if self.graph == "predictor":
                context, targets, horizon = inputs
                predicted: torch.Tensor = self.jepa.predictor(context, targets > 0, horizon)
                return predicted
            return embed(self.jepa.encoding, self.jepa.target_encoder, schema, *inputs)

    found = {}
    for graph, (feeds, files) in variants(bundle).items():
        as_trained, dynamic = (bundle.folder / f"{graph}.{name}.onnx" for name in ("trained", "dynamic"))
        torch.onnx.export(
            Trained(graph).eval(),
            tuple(map(torch.from_numpy, feeds.values())),
            as_trained,
            input_names=[*feeds],
            dynamic_shapes={"inputs": tuple({0: "batch"} for _ in feeds)},
            opset_version=20,
            dynamo=True,
            verbose=False,
            external_data=False,
        )
        quantize_dynamic(
            files["float32"],
            dynamic,
            per_channel=True,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=["MatMul", "Gemm"],
        )
        found[graph] = (feeds, {"as trained": as_trained, **files, "dynamic int8": dynamic})
    return found


def compare(model: str, graphs: dict[str, tuple[Feeds, dict[str, Path]]], threads: list[int], seconds: float) -> None:
    print_head(model, next(iter(graphs.values()))[1])
    for graph, (feeds, files) in graphs.items():
        for number in threads:
            runs: dict[str, Run] = {name: partial(session(path, number).run, None) for name, path in files.items()}
            print_lines(graph, number, runs, feeds, seconds)


def compare_fused(bundle: Bundle, folder: Path, seconds: float) -> None:
    """Context encoder and predictor as two runs, and as one graph."""
    feeds = questions(bundle)
    asked = {
        "context_encoder/features": feeds["context_encoder"]["features"],
        **{f"predictor/{name}": feed for name, feed in feeds["predictor"].items() if name != "context"},
    }
    print_head(bundle.manifest.name, ("two runs", "one graph"))
    for precision in filter(bundle.has, ("float32", "int8")):
        files = {graph: bundle.graph(graph, precision) for graph in ("context_encoder", "predictor")}
        encoder, predictor = (onnx.compose.add_prefix(onnx.load(path), f"{graph}/") for graph, path in files.items())
        joined = onnx.compose.merge_models(encoder, predictor, io_map=JOINT)
        onnx.save(joined, folder / "fused.onnx")
        encode, predict, fused = (session(path, 1) for path in (*files.values(), folder / "fused.onnx"))
        in_two: Run = partial(predict_in_two, encode, predict)
        runs: dict[str, Run] = {"two runs": in_two, "one graph": partial(fused.run, None)}
        print_lines(f"/predict, {precision}", 1, runs, asked, seconds)


def predict_in_two(encode: ort.InferenceSession, predict: ort.InferenceSession, asked: Feeds) -> object:
    (context,) = encode.run(None, {"features": asked["context_encoder/features"]})
    rest = {name.removeprefix("predictor/"): feed for name, feed in asked.items() if name.startswith("predictor/")}
    return predict.run(None, {"context": context, **rest})


def print_head(model: str, names: Iterable[str]) -> None:
    print(f"\n{model}, rows/s (times the first)\n")
    print(f"| graph | threads | rows a run | {' | '.join(names)} |\n|---|---|---|{'---|' * len([*names])}")


def print_lines(graph: str, threads: int, runs: dict[str, Run], feeds: Feeds, seconds: float) -> None:
    clock = thread_time if threads == 1 else perf_counter
    for rows in BATCHES:
        rounds = [*measure(runs, sized(feeds, rows), clock, seconds)]
        taken = [quantiles(each)[0] for each in zip(*rounds, strict=True)]
        cells = [f"{rows / each:,.0f} ({taken[0] / each:.2f})" for each in taken]
        print(f"| {graph} | {threads} | {rows} | {' | '.join(cells)} |", flush=True)


def measure(
    runs: dict[str, Run], feeds: Feeds, clock: Callable[[], float], seconds: float
) -> Iterator[tuple[float, ...]]:
    """Yields rounds, each with the seconds per run of every variant."""
    ends_at = perf_counter() + seconds
    for number in count():
        if number >= MIN_ROUNDS and perf_counter() > ends_at:
            return
        spent = []
        for run in runs.values():
            # Not measured: the caches hold the weights of the other variants.
            run(feeds)
            started = clock()
            for _ in range(RUNS_PER_ROUND):
                run(feeds)
            spent.append((clock() - started) / RUNS_PER_ROUND)
        yield tuple(spent)


def sized(feeds: Feeds, rows: int) -> Feeds:
    return {name: np.resize(values, (rows, *values.shape[1:])) for name, values in feeds.items()}


def session(path: Path, threads: int) -> ort.InferenceSession:
    return ort.InferenceSession(path, session_options(threads), providers=["CPUExecutionProvider"])


if __name__ == "__main__":
    main()
