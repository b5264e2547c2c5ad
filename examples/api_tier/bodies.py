"""The JSON bodies of requests. Names are those of the contract's messages, in camelCase or as the contract has them."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

from google.protobuf.json_format import ParseDict
from pydantic import BaseModel, ConfigDict, Field, SecretStr, model_validator
from pydantic.alias_generators import to_camel

from botmaker.container.v1 import bot_provisioner_pb2 as provisioner_pb
from botmaker.container.v1 import container_manager_pb2 as pb

Port = Annotated[int, Field(ge=0, le=65535)]
Count = Annotated[int, Field(ge=0, lt=2**32)]
Amount = Annotated[int, Field(ge=0, lt=2**63)]
Seconds = Annotated[str, Field(pattern=r"^\d{1,9}(\.\d{1,9})?s$", examples=["30s"])]


class _Body(BaseModel):
    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", use_attribute_docstrings=True
    )

    @model_validator(mode="before")
    @classmethod
    def _is_unicode(cls, body: Any) -> Any:
        """JSON allows halves of surrogate pairs, which no message can hold."""
        if isinstance(body, dict):
            json.dumps(body, ensure_ascii=False).encode()
        return body


class PortBinding(_Body):
    """A port of the container that is published on the host."""

    container_port: Port
    host_port: Port = 0
    """0: the engine picks one."""
    host_ip: str = ""
    """Empty: 127.0.0.1. With ``0.0.0.0`` or ``::``, every machine that reaches this one reaches the port."""
    protocol: Literal["PROTOCOL_TCP", "PROTOCOL_UDP", "PROTOCOL_SCTP"] = "PROTOCOL_TCP"


class ResourceLimits(_Body):
    """In each field, 0 means no limit."""

    memory_bytes: Amount = 0
    nano_cpus: Amount = 0
    pids_limit: Amount = 0


class HealthCheck(_Body):
    """A command that the engine runs in the container. What is absent has the engine's default."""

    command: list[str]
    interval: Seconds | None = None
    timeout: Seconds | None = None
    start_period: Seconds | None = None
    retries: Count | None = None


class BotConfig(_Body):
    """The container of a bot. What is empty or absent has the default of the service or of the image."""

    image: str = ""
    ai_provider: str = Field("", examples=["ollama"])
    ai_model: str = Field("", examples=["llama3.3"])
    channel_type: str = ""
    environment: dict[str, str] = {}
    """Not for secrets: the engine shows it."""
    ports: list[PortBinding] = []
    network: str = ""
    """A network of the engine, or ``none``. Empty: ``bridge``."""
    extra_hosts: dict[str, str] = {}
    command: list[str] = []
    resources: ResourceLimits | None = None
    health_check: HealthCheck | None = None
    hostname: str = ""
    labels: dict[str, str] = {}

    def message(self) -> pb.ContainerConfig:
        """The same for the service, which checks it further."""
        return ParseDict(self.model_dump(exclude_none=True), pb.ContainerConfig())


class Secrets(_Body):
    """Secret files of a bot."""

    # A SecretStr is shown in no log and no error.
    secrets: dict[str, SecretStr] = Field(examples=[{"GATEWAY_TOKEN": "a long random text"}])
    replace_all: bool = False
    """Remove all others."""

    def message(self, bot_id: str) -> provisioner_pb.PutSecretsRequest:
        """The same for the service."""
        contents = {name: value.get_secret_value().encode() for name, value in self.secrets.items()}
        return provisioner_pb.PutSecretsRequest(bot_id=bot_id, secrets=contents, replace_all=self.replace_all)
