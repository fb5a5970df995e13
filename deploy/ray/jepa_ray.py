"""The service on Ray Serve: `cd deploy/ray && serve run jepa_ray:app`, with JEPA_* in the environment of the cluster.

A replica is the whole service on one core, but for its own HTTP server: Ray's proxies pass requests on to it, and Ray
adds replicas where many wait. Requests in flight at a replica are its queue, with the one batch that runs.
"""

from fastapi import FastAPI
from ray import serve

from app.service import Service

# Requests in flight at a replica that are worth another one: on the way through Ray each takes some 3 ms (`make
# bench-peers`), so that with more of them answers are later than a frame of 60 Hz.
QUEUE = 4
ENVIRONMENT = {"JEPA_BATCH_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


def build() -> FastAPI:
    """In the replica: the models are loaded there."""
    from app.main import create_app

    return create_app()


@serve.deployment(
    ray_actor_options={"num_cpus": 1, "runtime_env": {"env_vars": ENVIRONMENT}},
    max_ongoing_requests=32 * QUEUE,
    autoscaling_config={
        "min_replicas": 1,
        "max_replicas": 8,
        "target_ongoing_requests": QUEUE,
        "upscale_delay_s": 5,
        "downscale_delay_s": 300,
    },
    graceful_shutdown_timeout_s=25,
)
@serve.ingress(build)
class Jepa:
    async def check_health(self) -> None:
        """As /readyz: Ray replaces a replica whose models do not answer."""
        service: Service = self.app.state.service  # which Ray's ingress brings
        await service.check_ready()


app = Jepa.bind()
