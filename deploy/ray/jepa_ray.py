"""The service on Ray Serve: `cd deploy/ray && serve run jepa_ray:app`, with JEPA_* in the environment of the cluster.

A replica is the whole service on one core without its HTTP server: Ray's proxies forward requests to it, and Ray adds
replicas when many requests wait. Requests in flight at a replica are those in its queue and in the running batch.
"""

from fastapi import FastAPI
from ray import serve

from app.service import Service

# With more requests in flight per replica, Ray adds a replica. Each request takes about 3 ms on its way through Ray
# (`make bench-peers`), so a longer queue would take longer than a frame at 60 Hz.
QUEUE = 4
ENVIRONMENT = {"JEPA_BATCH_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "ORT_DISABLE_TELEMETRY": "1"}


def build() -> FastAPI:
    """Runs in the replica, so that the models are loaded there."""
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
        """Checks what /readyz checks; Ray replaces a replica whose models do not answer."""
        # Ray's ingress sets `app`.
        service: Service = self.app.state.service
        await service.check_ready()


app = Jepa.bind()
