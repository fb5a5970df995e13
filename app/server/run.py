"""Runs the service in this process, or in workers that are forked from it, until a signal ends it."""

import errno
import gc
import logging
import os
import signal
import socket
import sys
from ipaddress import ip_address

import uvicorn

from app import __version__
from app.inference.parallelism import files_for, ports_of
from app.settings import Settings
from app.system.allocator import share_one_heap
from app.system.files import allow_files, hold_standard_files

logger = logging.getLogger("app.serve")


class CannotStart(Exception):
    """Says what is in the way and what would be right."""


def run(settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT. With workers, and if the service fails, it exits the process with their code."""
    hold_standard_files()
    # Both variables are read when NumPy and ONNX Runtime are imported. OpenBLAS would start threads for matrix products
    # and ONNX Runtime one for telemetry; neither is of use here, and threads do not survive the fork of the workers.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    share_one_heap()
    from app.inference.devices import NoDevice
    from app.main import create_app
    from app.repository.folder import check_models
    from app.server.certificates import Unusable, check_pair
    from app.server.protocol import FrontDoor
    from app.server.server import Listener, Server
    from app.server.watchdog import watch_over
    from app.server.workers import Crew
    from app.service import Service
    from app.telemetry import logs
    from bundle.folders import BundleError

    try:
        check_models(settings.models)
        if settings.tls_cert_file is not None and settings.tls_key_file is not None:
            check_pair(settings.tls_cert_file, settings.tls_key_file)
    except (BundleError, Unusable) as error:
        raise CannotStart(str(error)) from None
    allow_files(files_for(settings.max_connections, ports_of(settings)))
    listener = _listen(settings.host, settings.port, "--port")
    if settings.grpc_port is not None:
        # Each process opens the gRPC port itself, later; a port of 0 must become the same number in all of them.
        with _listen(settings.host, settings.grpc_port, "--grpc-port") as found:
            settings = settings.model_copy(update={"grpc_port": found.getsockname()[1]})
    try:
        app = create_app(settings)
    except NoDevice as error:
        raise CannotStart(str(error)) from None
    service: Service = app.state.service
    config = uvicorn.Config(
        app,
        http=FrontDoor,
        ws="none",  # FrontDoor has its own
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
    address = f"{scheme}://{_authority(host, port)}"
    logger.info("jepa-serve %s on %s", __version__, address)
    if settings.grpc_port is not None:
        logger.info("gRPC on %s", _authority(host, settings.grpc_port))
    if not settings.keys and not ip_address(host).is_loopback:
        logger.warning(
            "whoever reaches %s can use this service; JEPA_API_KEYS_FILE would let in only who has a key", host
        )
    # uvicorn raises the signal again once all requests are answered; its default action would exit with 143 or 130.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    if sys.platform != "win32":
        # SIGHUP asks for a look at the models, which are about to be read anyway.
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        service.load(may_fork=hasattr(os, "fork"))
        # From here on connections wait to be taken, so that whoever reads the next line can connect.
        listener.listen(config.backlog)
        if service.registry.models:
            logger.info("ready: %s shows what is served, %s/docs the API", address, address)
        else:
            logger.warning("not ready: %s serves no model, for the reasons above; it takes one that is mended", address)
        # What is loaded stays: the collector need not visit it again, which would also copy its pages in workers.
        gc.collect()
        gc.freeze()
        if service.processes > 1:
            sys.exit(Crew(config, listener, service.telemetry, service.processes).run())
        watch_over(service.telemetry.ledger.sheets[0])
        Server(config, Listener(listener)).run()
    except Exception:
        logger.critical("the service failed", exc_info=True)
        sys.exit(1)
    finally:
        service.registry.loads.close()
        if not service.registry.loads.have_ended():
            # ONNX Runtime would crash if Python took it apart while one of its runs does not end.
            ending = sys.exc_info()[1]
            os._exit(ending.code if isinstance(ending, SystemExit) and isinstance(ending.code, int) else 1)


def _authority(host: str, port: int) -> str:
    """As a URL has them: the colons of IPv6 in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _listen(host: str, port: int, flag: str) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            reason = f"port {port} is taken by another process; choose another, such as {flag} {port + 1}"
        else:
            reason = f"cannot listen on {_authority(host, port)}: {error.strerror}"
        raise CannotStart(reason) from None
    listener.set_inheritable(True)
    return listener
