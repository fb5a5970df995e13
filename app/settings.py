"""Every setting of the service: one field, one environment variable `JEPA_<FIELD>`, one flag of `jepa serve`."""

import difflib
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasChoices, Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PREFIX = "JEPA_"
BUNDLED_MODELS = Path(__file__).parent / "bundled"
DEFAULT_MODEL = BUNDLED_MODELS / "melee"

LEAST_KEY = 16

Precision = Literal["auto", "float32", "int8"]
Port = Annotated[int, Field(ge=0, le=65535)]
Positive = Annotated[int, Field(ge=1)]


class Settings(BaseSettings):
    """Read once at start; a keyword argument beats the environment, which beats the default."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid", populate_by_name=True)

    models: Path = Field(
        default=BUNDLED_MODELS, description="Folder of bundles, <models>/<name>/<version>/ (default: the bundled model)"
    )
    default_model: str | None = Field(
        default=None, description="Model for requests that name none; needed when several are loaded"
    )
    precision: Precision = Field(
        default="auto",
        description="Number format of the graphs; auto: int8 where it costs little and the processor is made for it",
    )
    watch_s: Annotated[float, Field(ge=0)] = Field(
        default=2, description="Seconds between looks at the models folder for what changed; 0: only at SIGHUP"
    )
    model_control: bool = Field(
        default=False,
        description="Whether POST /v2/repository/models/… may load, pin and unload; whoever reaches the port can then",
    )

    host: str = Field(default="127.0.0.1", description="Address to listen on; 0.0.0.0 for every interface")
    port: Port = Field(
        default=8000,
        validation_alias=AliasChoices("JEPA_PORT", "PORT"),
        description="TCP port to listen on; 0 picks a free one, and PORT counts too",
    )
    grpc_port: Annotated[int | None, Field(ge=0, le=65535)] = Field(
        default=None,
        description="TCP port for the Open Inference Protocol over gRPC, which needs jepa-serve[grpc]; none: no gRPC",
    )
    workers: Annotated[int, Field(ge=0)] = Field(
        default=0,
        description="Processes that share port and models; 0: one for each core, or just one if a row takes over 1 ms",
    )
    tls_cert_file: Path | None = Field(default=None, description="Certificate chain in PEM; with it, HTTPS is spoken")
    tls_key_file: Path | None = Field(default=None, description="Private key of that certificate, in PEM")
    api_keys: str = Field(default="", repr=False, description="Keys that open the service, with commas between")
    api_keys_file: Path | None = Field(
        default=None, description="File of such keys, one a line; unlike a flag, no list of processes shows it"
    )
    metrics_need_key: bool = Field(default=False, description="Whether /metrics, too, wants a key where there are keys")
    keep_alive_s: Positive = Field(
        default=75, description="Seconds an idle connection stays open; longer than any client's pool keeps it"
    )
    graceful_timeout_s: Positive = Field(
        default=25, description="Seconds that requests in flight may take to finish after SIGTERM"
    )

    read_timeout_s: Positive = Field(
        default=20, description="Seconds a request may take to arrive, from its first byte to its last"
    )
    max_connections: Positive = Field(
        default=4096, description="Most connections, shared out among the workers; beyond it 503 at once"
    )
    max_body_bytes: Positive = Field(
        default=16 * 2**20, description="Largest request body in bytes; more is refused unread with 413"
    )
    max_rows: Positive = Field(default=1024, description="Most rows in one request; more is refused with 413")
    max_queue_rows: Positive = Field(
        default=4096, description="Most rows waiting for one graph, shared out among the workers; beyond it 429 at once"
    )

    batch_threads: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Threads of a process that run batches; 0: so that there is one for each core"
    )
    intra_op_threads: Positive = Field(default=1, description="ONNX Runtime threads within one run")
    max_batch_rows: Annotated[int, Field(ge=0)] = Field(
        default=0, description="Most rows in one run; 0: measured when a model is loaded"
    )

    access_log: bool = Field(default=False, description="Write one JSON line a request to standard error")
    log_format: Literal["text", "json"] = Field(
        default="text", description="What else is logged: text for people, or json, one object a line"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least severe message that is logged"
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

    @property
    def keys(self) -> list[str]:
        """From both places."""
        keys = self.api_keys.split(",")
        if self.api_keys_file is not None:
            lines = self.api_keys_file.read_text().splitlines()
            keys += [line for line in lines if not line.startswith("#")]
        return [stripped for key in keys if (stripped := key.strip())]

    @model_validator(mode="after")
    def _keys_are_hard_to_guess(self) -> Self:
        try:
            keys = self.keys
        except (OSError, UnicodeError) as error:
            raise ValueError(f"api_keys_file {self.api_keys_file} cannot be read: {error}") from None
        for number, key in enumerate(keys, 1):
            if len(key) < LEAST_KEY or not key.isascii() or not key.isprintable() or " " in key:
                raise ValueError(
                    f"key {number} of {len(keys)} is no key: it must be {LEAST_KEY} or more printable ASCII characters "
                    "without spaces; make one with: openssl rand -base64 24"
                )
        if self.api_keys_file is not None and not keys:
            raise ValueError(f"api_keys_file {self.api_keys_file} holds no key; put one on a line of its own")
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
        if self.grpc_port is not None and find_spec("grpc") is None:
            raise ValueError("grpc_port needs grpcio; install it with: pip install 'jepa-serve[grpc]'")
        return self

    @model_validator(mode="after")
    def _queue_holds_a_request(self) -> Self:
        if self.max_queue_rows < self.max_rows:
            raise ValueError(
                f"max_queue_rows {self.max_queue_rows} is below max_rows {self.max_rows}; raise it, or lower max_rows"
            )
        return self

    @model_validator(mode="after")
    def _workers_have_one_thread_a_run(self) -> Self:
        # Workers are forked when the models are loaded, and the threads of ONNX Runtime would not come along.
        if self.workers > 1 and self.intra_op_threads > 1:
            raise ValueError(
                f"workers {self.workers} cannot share graphs that run on intra_op_threads {self.intra_op_threads}; "
                "set one of the two to 1"
            )
        return self
