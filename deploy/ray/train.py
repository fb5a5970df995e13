"""Trains on several nodes of a Ray cluster, each of which runs `torchrun` with a process for each of its devices:

    python train.py --nodes 2 --gpus 1 /shared/frames --out /shared/models --name mygame

What follows the options is that of `jepa train`. The nodes share the folders of the data and of the models.
"""

import argparse
import socket
import subprocess
import sys
from contextlib import suppress
from typing import Any

# How long the processes of a node may take to end.
STOP_S = 30


def free_address() -> tuple[str, int]:
    """An address of this node that is free now, where the processes of all nodes meet."""
    import ray

    with socket.create_server(("", 0)) as server:
        return ray.util.get_node_ip_address(), server.getsockname()[1]


def torchrun(node: int, nodes: int, processes: int, address: tuple[str, int], arguments: list[str]) -> list[str]:
    """The command of one node."""
    host, port = address
    of_nodes = [f"--nnodes={nodes}", f"--node-rank={node}", f"--master-addr={host}", f"--master-port={port}"]
    command = [sys.executable, "-m", "torch.distributed.run", *of_nodes, f"--nproc-per-node={processes}"]
    return [*command, "-m", "cli", "train", *arguments]


def run(command: list[str]) -> int:
    """The exit status of a command, which ends with this task."""
    with subprocess.Popen(command) as process:
        try:
            return process.wait()
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_S)
            process.kill()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--nodes", type=int, required=True, help="nodes to train on")
    parser.add_argument("--gpus", type=int, default=0, help="GPUs a node, with a process each (0: one process, no GPU)")
    parser.add_argument("--cpus", type=int, default=1, help="cores a node that Ray sets apart")
    options, arguments = parser.parse_known_args()

    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy as On

    ray.init()
    # On nodes of their own where there are as many.
    group = ray.util.placement_group([{"CPU": options.cpus, "GPU": options.gpus}] * options.nodes, strategy="SPREAD")
    ray.get(group.ready())

    def on(node: int, function: Any) -> Any:
        place = On(group, placement_group_bundle_index=node)
        return ray.remote(function).options(
            num_cpus=options.cpus, num_gpus=options.gpus, scheduling_strategy=place, max_retries=0
        )

    address = ray.get(on(0, free_address).remote())
    shape = options.nodes, max(1, options.gpus), address, arguments
    left = [on(node, run).remote(torchrun(node, *shape)) for node in range(options.nodes)]
    while left:
        (done,), left = ray.wait(left)
        if status := ray.get(done):
            # The others wait for this one in vain.
            for each in left:
                ray.cancel(each)
            if left:
                ray.wait(left, num_returns=len(left), timeout=STOP_S)
            sys.exit(status)


if __name__ == "__main__":
    main()
