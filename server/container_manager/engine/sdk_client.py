"""The docker SDK's client as :mod:`container_manager.engine.client` uses it: a connection, and calls in plain JSON."""

from __future__ import annotations

import http
import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import docker
import docker.auth
import docker.utils
import requests
from docker.constants import DEFAULT_TIMEOUT_SECONDS, DEFAULT_USER_AGENT
from docker.transport import UnixHTTPAdapter
from docker.utils.proxy import ProxyConfig

from container_manager.engine.transport_errors import EngineRejectedError, error_text

Json = dict[str, Any]


class SdkClient(docker.APIClient):
    """The SDK's client, made without its constructor.

    The constructor reads the user's ``~/.docker/config.json`` (docker/docker-py#927). It fails if that file is odd, and
    sends the file's ``HttpHeaders`` to the engine. Nothing of it concerns a call to the engine.
    """

    def __init__(self, docker_host: str, version: str) -> None:
        requests.Session.__init__(self)
        # The endpoint is explicit: proxy, netrc and CA settings of the environment do not apply, and take time to read.
        self.trust_env = False
        self.timeout = DEFAULT_TIMEOUT_SECONDS
        self.headers["User-Agent"] = DEFAULT_USER_AGENT
        self.credstore_env = None
        self._version = version
        self._general_configs: dict[str, Any] = {}
        self._auth_configs = docker.auth.AuthConfig({})
        self._proxy_configs = ProxyConfig.from_dict({})
        self.base_url = str(docker.utils.parse_host(docker_host))
        if self.base_url.startswith("http+unix://"):
            # It has a pool of connections for each URL, and by default keeps the last 25.
            self._custom_adapter = UnixHTTPAdapter(self.base_url, self.timeout, pool_connections=2)
            self.mount("http+docker://", self._custom_adapter)
            for scheme in ("http://", "https://"):
                del self.adapters[scheme]
            self.base_url = "http+docker://localhost"

    def get_json(self, path: str) -> Json:
        """The document at the path. Raises :class:`EngineRejectedError` for an error response."""
        document: Json = json.loads(self.exchange("GET", path))
        return document

    def exchange(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> bytes:
        """The answer to a request on the SDK's connection, without its session, which takes as much CPU time again."""
        url = f"/v{self.api_version}{path}"
        content, headers = None, dict(headers)
        if body is not None:
            content = json.dumps(body)
            headers["Content-Type"] = "application/json"
        adapter = self.get_adapter(self.base_url)
        if not isinstance(adapter, UnixHTTPAdapter):
            response = self.request(
                method, f"{self.base_url}{url}", data=content, headers=headers, timeout=self.timeout
            )
            status, answer = response.status_code, response.content
        else:
            headers["Host"] = "localhost"
            pool = adapter.get_connection(self.base_url)
            sent = pool.urlopen(method, url, body=content, headers=headers, retries=False, timeout=self.timeout)
            status, answer = sent.status, sent.data
        if status >= http.HTTPStatus.BAD_REQUEST:
            raise EngineRejectedError(status, error_text(answer))
        return answer
