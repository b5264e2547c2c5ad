"""Opens channels to the container manager and decodes its errors. The generated stubs are the API:

>>> from botmaker.container.v1.container_manager_pb2 import GetContainerStatusRequest
>>> from botmaker.container.v1.container_manager_pb2_grpc import ContainerManagerStub
>>> from container_manager_client import connect, error_info
>>> with connect("unix:///run/botmaker/container-manager.sock") as channel:
...     status = ContainerManagerStub(channel).GetContainerStatus(GetContainerStatusRequest(bot_id=bot_id)).status
"""

from container_manager_client.channel import connect, connect_aio
from container_manager_client.errors import ErrorInfo, error_info
from container_manager_client.tls import TlsFiles

__all__ = ["ErrorInfo", "TlsFiles", "__version__", "connect", "connect_aio", "error_info"]

__version__: str


def __getattr__(name: str) -> str:
    # Read on demand: importlib.metadata would be a tenth of a command's start-up.
    if name == "__version__":
        from importlib.metadata import version

        return version("botmaker-container-manager")
    raise AttributeError(name)
