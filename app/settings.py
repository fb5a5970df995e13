"""Every setting of the service: one field, one environment variable `JEPA_<FIELD>`, one flag of `jepa serve`."""

import difflib
import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from bundle.folders import BUNDLED_MODELS
from bundle.install import how_to_install

PREFIX = "JEPA_"
MIN_KEY_CHARS = 16
# How long a peer may take until its connection speaks TLS or, over gRPC, HTTP/2.
MAX_HANDSHAKE_S = 2.0

GRPC_PACKAGES = {"grpc": "grpcio", "grpc_health": "grpcio-health-checking", "grpc_reflection": "grpcio-reflection"}
Precision = Literal["auto", "float32", "int8"]
Device = Literal["cpu", "cuda"]
Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """The settings of one service; keyword arguments take precedence over the environment, and that over defaults."""

    # Compose and Helm write a variable that nobody set as an empty one.
    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", populate_by_name=True
    )

    models: Path = Field(
        default=BUNDLED_MODELS,
        description="Folder of bundles, as <models>/<name>/<version>/ (default: the bundled model)",
    )
    default_model: str | None = Field(
        default=None,
        description="Model for requests that name none (default: the only one, also once others have come)",
    )
    precision: Precision = Field(
        default="auto",
        description="Number format of the graphs; auto: int8 if it costs little and the processor is built for it",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        default="auto",
        description="Where graphs run; auto: an NVIDIA GPU if onnxruntime-gpu is installed and finds one, else the CPU",
    )
    watch_s: Annotated[float, Field(ge=0)] = Field(
        default=2, description="Seconds between checks of the models folder for changes; 0 checks only on SIGHUP"
    )
    load_timeout_s: Positive = Field(
        default=60, description="Seconds that loading a bundle may take; one that takes longer is refused"
    )
    max_bundle_bytes: Positive = Field(
        default=2**31, description="Maximum size of the files of a bundle in bytes; a larger one is refused unread"
    )
    model_control: bool = Field(
        default=False,
        description="Let clients load, pin and unload models through /v2/repository/models/…; set keys as well",
    )

    # An empty one would mean every interface.
    host: str = Field(
        default="127.0.0.1", min_length=1, description="Address to listen on; 0.0.0.0 listens on every interface"
    )
    allowed_hosts: str = Field(
        default="",
        description="Names of this service, separated by commas, besides localhost; pages of these hosts may change "
        "things. Without them any name will do, unless the service listens on loopback",
    )
    port: Port = Field(
        default=8000,
        validation_alias=AliasChoices("JEPA_PORT", "PORT"),
        description="TCP port to listen on; 0 picks a free one; the variable PORT works too",
    )
    root_path: str = Field(
        default="",
        description="Prefix of all paths behind a proxy, such as /jepa; the proxy may pass it on or take it off",
    )
    grpc_port: Annotated[int | None, Field(ge=0, le=65535)] = Field(
        default=None,
        description="TCP port for the Open Inference Protocol over gRPC; needs the extra grpc (default: none)",
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Processes that share port and models; 0: one per core, or just one if a row takes over 4 ms",
    )
    tls_cert_file: Path | None = Field(default=None, description="Certificate chain in PEM; turns on HTTPS")
    tls_key_file: Path | None = Field(default=None, description="Private key of the certificate, in PEM")
    api_keys: str = Field(
        default="", repr=False, description="API keys, separated by commas; every client must send one of them"
    )
    api_keys_file: Path | None = Field(
        default=None, description="File of API keys, one per line; unlike a flag, it does not show up in process lists"
    )
    metrics_need_key: bool = Field(default=False, description="Require a key for /metrics as well, if there are keys")
    keep_alive_s: Positive = Field(
        default=75,
        description="Seconds before an idle connection is closed; should be longer than any client keeps one pooled",
    )
    graceful_timeout_s: Positive = Field(
        default=25, description="Seconds that requests in flight have to finish after SIGTERM"
    )

    read_timeout_s: Positive = Field(
        default=20,
        description="Seconds a request may take to arrive, from first byte to last, and a client to read its answers",
    )
    max_connections: Positive = Field(
        default=4096,
        description="Maximum number of connections to each port, divided among the workers; more are refused",
    )
    max_body_bytes: Positive = Field(
        default=16 * 2**20,
        description="Maximum size of a request body in bytes; a larger one is refused unread with 413",
    )
    max_buffered_bytes: Positive = Field(
        default=256 * 2**20,
        description="Maximum number of bytes of all bodies under way and of answers that clients do not read, divided "
        "among the workers and beyond 64 KiB of each connection; more are refused with 503",
    )
    max_rows: Positive = Field(
        default=1024, description="Maximum number of rows in a request; more are refused with 413"
    )
    max_queue_rows: Positive = Field(
        default=4096,
        description="Maximum number of rows queued for a graph, divided among the workers; more are refused with 429",
    )

    batch_threads: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Threads per process that run batches; 0 divides the cores among the processes"
    )
    intra_op_threads: Positive = Field(default=1, description="Threads that ONNX Runtime uses within one run")
    max_batch_rows: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Maximum number of rows in one run; 0 measures it when a model is loaded"
    )

    access_log: bool = Field(default=False, description="Write one line of JSON per request to standard error")
    log_format: Literal["text", "json"] = Field(
        default="text", description="Format of all other log lines: text for people, or json with one object per line"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Minimum severity of messages that are logged"
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown_variables(cls, values: dict[str, Any]) -> dict[str, Any]:
        known = {PREFIX + name.upper() for name in cls.model_fields}
        for variable in sorted(os.environ):
            if variable.startswith(PREFIX) and variable not in known:
                nearest = difflib.get_close_matches(variable, known, n=1, cutoff=0)[0]
                raise ValueError(
                    f"{variable} is not a setting; did you mean {nearest}? `jepa serve --help` lists them all"
                )
        return values

    @model_validator(mode="before")
    @classmethod
    def _refuse_to_lose_keys(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Whoever names a file of keys wants them asked for: without its name the door would stand open."""
        variable = PREFIX + "API_KEYS_FILE"
        is_empty = "api_keys_file" not in values and any(
            name.upper() == variable and not value for name, value in os.environ.items()
        )
        if is_empty or str(values.get("api_keys_file", "file")) in ("", "."):
            raise ValueError("api_keys_file is empty; name the file of keys, or leave it out to let everybody in")
        return values

    @property
    def keys(self) -> list[str]:
        """The keys from `api_keys` and from `api_keys_file`."""
        keys = self.api_keys.split(",")
        if self.api_keys_file is not None:
            lines = self.api_keys_file.read_text().splitlines()
            keys += [line for line in lines if not line.startswith("#")]
        return [stripped for key in keys if (stripped := key.strip())]

    @property
    def allowed_host_names(self) -> list[str]:
        """The names from `allowed_hosts`, in lower case."""
        return [name for host in self.allowed_hosts.split(",") if (name := host.strip().lower())]

    @field_validator("host")
    @classmethod
    def _host_is_an_address(cls, host: str) -> str:
        """Without the brackets that an IPv6 address has in a URL."""
        if "://" in host or re.fullmatch(r"([^:]*|\[.*\]):\d*", host):
            raise ValueError(f"'{host}' is more than an address such as 127.0.0.1; the port goes into JEPA_PORT")
        return host.strip("[]")

    @model_validator(mode="after")
    def _allowed_hosts_are_names(self) -> Self:
        for name in self.allowed_host_names:
            if not re.fullmatch(r"[a-z0-9._-]+|\[[0-9a-f:.]+\]", name):
                raise ValueError(
                    f"allowed_hosts has '{name}', which is no host name; leave out the scheme and the port"
                )
        return self

    @model_validator(mode="after")
    def _root_path_is_a_prefix(self) -> Self:
        if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)*", self.root_path) or self.root_path.split("/")[1:2] == ["v2"]:
            raise ValueError(
                f"root_path is '{self.root_path}'; it begins with a slash, ends without one and is not /v2, as in /jepa"
            )
        return self

    @model_validator(mode="after")
    def _keys_are_hard_to_guess(self) -> Self:
        try:
            keys = self.keys
        except (OSError, UnicodeError) as error:
            raise ValueError(f"api_keys_file {self.api_keys_file} cannot be read: {error}") from None
        for number, key in enumerate(keys, 1):
            if len(key) < MIN_KEY_CHARS or not key.isascii() or not key.isprintable() or " " in key:
                raise ValueError(
                    f"key {number} of {len(keys)} is no key: it must be {MIN_KEY_CHARS} or more printable ASCII "
                    "characters without spaces; make one with: openssl rand -base64 24"
                )
        if self.api_keys_file is not None and not keys:
            raise ValueError(f"api_keys_file {self.api_keys_file} holds no key; put one on a line of its own")
        if self.api_keys and not keys:
            raise ValueError("api_keys holds no key between its commas; name one, or leave it out to let everybody in")
        return self

    @model_validator(mode="after")
    def _tls_has_both_files(self) -> Self:
        if (self.tls_cert_file is None) != (self.tls_key_file is None):
            raise ValueError("tls_cert_file and tls_key_file go together; give both, or neither")
        for file in (self.tls_cert_file, self.tls_key_file):
            if file is not None and not file.is_file():
                raise ValueError(f"{file} is no file; tls_cert_file and tls_key_file name files in PEM")
        return self

    @model_validator(mode="after")
    def _grpc_is_installed(self) -> Self:
        if self.grpc_port is not None:
            for module, package in GRPC_PACKAGES.items():
                if find_spec(module) is None:
                    raise ValueError(f"grpc_port needs {package}; {how_to_install('grpc')}")
        return self

    @model_validator(mode="after")
    def _buffers_hold_a_body(self) -> Self:
        if self.max_buffered_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_buffered_bytes {self.max_buffered_bytes} is below max_body_bytes {self.max_body_bytes}; raise "
                "it, or lower max_body_bytes"
            )
        return self

    @model_validator(mode="after")
    def _queue_holds_a_request(self) -> Self:
        if self.max_queue_rows < self.max_rows:
            raise ValueError(
                f"max_queue_rows {self.max_queue_rows} is below max_rows {self.max_rows}; raise it, or lower max_rows"
            )
        return self

    @model_validator(mode="after")
    def _gpu_has_one_process(self) -> Self:
        if self.device == "cuda" and self.workers > 1:
            raise ValueError(
                f"workers {self.workers} cannot share a GPU, which does not survive their fork; set workers to 1"
            )
        return self

    @model_validator(mode="after")
    def _workers_have_one_thread_a_run(self) -> Self:
        # Workers are forked after the models are loaded, and ONNX Runtime's own threads do not survive a fork.
        if self.workers > 1 and self.intra_op_threads > 1:
            raise ValueError(
                f"workers {self.workers} cannot share graphs that run on intra_op_threads {self.intra_op_threads}; "
                "set one of the two to 1"
            )
        return self
