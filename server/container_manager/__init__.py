"""The container manager service: one Docker container per bot, behind seven lifecycle operations."""

__version__: str


def __getattr__(name: str) -> str:
    # Read on demand: importlib.metadata would be a tenth of a command's start-up.
    if name == "__version__":
        from importlib.metadata import version

        return version("botmaker-container-manager")
    raise AttributeError(name)
