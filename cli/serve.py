"""`jepa serve`: a flag for each field of `app.settings.Settings`, and uvicorn around the app."""

import errno
import gc
import inspect
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
import uvicorn
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app import __version__
from app.memory import share_one_heap
from app.settings import PREFIX, Settings

logger = logging.getLogger("app.serve")

OTHER_FILES = 128  # than connections: models, sockets, what a library opens


class Server(uvicorn.Server):
    """For the one process there is: closed to new connections as soon as it is told to end, not up to 0.1 s later."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        for server in self.servers:
            server.close()


def serve(**flags: Any) -> None:
    """Answer bots over HTTP with the models of a folder, or with the bundled one."""
    try:
        settings = Settings(**{name: value for name, value in flags.items() if value is not None})
    except ValidationError as error:
        _stop("\n".join(_readable(each) for each in error.errors()))
    # Read when NumPy and ONNX Runtime are loaded: neither the threads that the one keeps for products of matrices nor
    # the one by which the other reports to Microsoft is of use, and they would not survive the fork of the workers.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    share_one_heap()
    from app import logs
    from app.main import create_app
    from app.protocol import Protocol
    from app.service import Service
    from cli.pulse import watch_over
    from cli.workers import Crew

    _check_models(settings)
    _allow_files(settings.max_connections)
    listener = _listen(settings.host, settings.port, "--port")
    if settings.grpc_port is not None:
        # Processes open it each for itself, once they are there, but 0 must be the same number to all.
        with _listen(settings.host, settings.grpc_port, "--grpc-port") as found:
            settings = settings.model_copy(update={"grpc_port": found.getsockname()[1]})
    app = create_app(settings)
    service: Service = app.state.service
    config = uvicorn.Config(
        app,
        http=Protocol,
        ws="none",  # Protocol has its own
        timeout_keep_alive=settings.keep_alive_s,
        timeout_graceful_shutdown=settings.graceful_timeout_s,
        ssl_certfile=settings.tls_cert_file,
        ssl_keyfile=settings.tls_key_file,
        log_config=logs.config(
            settings.log_format, settings.log_level, settings.access_log, service.telemetry.log_lines_lost
        ),
        access_log=False,
        proxy_headers=False,
        server_header=False,
    )
    host, port = listener.getsockname()[:2]
    scheme = "http" if settings.tls_cert_file is None else "https"
    logger.info("jepa-serve %s on %s://%s:%d, try it at /docs", __version__, scheme, host, port)
    if settings.grpc_port is not None:
        logger.info("gRPC on %s:%d", host, settings.grpc_port)
    if not settings.keys and not ip_address(host).is_loopback:
        logger.warning(
            "whoever reaches %s can use this service; JEPA_API_KEYS_FILE would let in only who has a key", host
        )
    # uvicorn raises the signal once more when all is answered; the default would make that exit code 143 or 130.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the models are about to be read
    try:
        service.load()
        service.share_out()
        # What is loaded stays: no collection need look at it again, or copy its pages into a worker by doing so.
        gc.collect()
        gc.freeze()
        if service.processes > 1:
            sys.exit(Crew(config, listener, service.telemetry, service.processes).run())
        watch_over(service.telemetry.ledger.sheets[0])
        Server(config).run([listener])
    except Exception:
        logger.critical("the service failed", exc_info=True)
        sys.exit(1)


def _flags() -> Iterator[inspect.Parameter]:
    """One for each setting; what is not given stays None, so that environment and default decide."""
    for name, field in Settings.model_fields.items():
        default = str(field.default) if isinstance(field.default, str | int) else False
        option = typer.Option(help=field.description, envvar=PREFIX + name.upper(), show_default=default)
        annotation = Annotated[field.annotation | None, option]  # type: ignore[name-defined]
        yield inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


# Typer reads flags from the signature and their types from the annotations.
_PARAMETERS = [*_flags()]
serve.__signature__ = inspect.Signature(_PARAMETERS)  # type: ignore[attr-defined]
serve.__annotations__ = {parameter.name: parameter.annotation for parameter in _PARAMETERS}


def _check_models(settings: Settings) -> None:
    from bundle.folders import MANIFEST, versions

    models = settings.models
    if not models.is_dir():
        _stop(f"{models} is not a folder; --models takes a folder of bundles, <models>/<name>/<version>/")
    if any(versions(folder) for folder in models.iterdir() if folder.is_dir()):
        return
    if (models / MANIFEST).is_file():
        _stop(f"{models} is one bundle; give the folder two levels up: --models {models.absolute().parents[1]}")
    if versions(models):
        _stop(f"{models} is one model; give the folder it lies in: --models {models.absolute().parent}")
    _stop(f"{models} holds no model; learn one with: jepa train DATA --out {models}")


def _allow_files(connections: int) -> None:
    """Each connection is an open file, and the usual limit is a thousand."""
    if sys.platform != "win32":
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = connections + OTHER_FILES
        if soft != resource.RLIM_INFINITY and soft < wanted:
            most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _listen(host: str, port: int, flag: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            _stop(f"port {port} is taken by another process; choose another, such as {flag} {port + 1}")
        _stop(f"cannot listen on {host}:{port}: {error.strerror}")
    listener.set_inheritable(True)
    return listener


def _readable(error: ErrorDetails) -> str:
    setting = ".".join(map(str, error["loc"]))
    message = error["msg"].removeprefix("Value error, ")
    return f"{setting}: {message}" if setting else message


def _stop(message: str) -> NoReturn:
    typer.echo(f"jepa serve: {message}", err=True)
    raise typer.Exit(1)
