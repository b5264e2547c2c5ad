"""The description of the built package: README.md, whose links into the repository lead nowhere on a package index.

With ``SOURCE_URL`` in the environment, such as ``https://forge.example/owner/name``, they lead to the files of this
version's tag there, and the package names that repository. Without it, the package is not built for publication, and
the links become paths, as in the source distribution: an address that nobody has registered would belong to whoever
registers it first.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_FENCED = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[((?:[^][]|\[[^]]*\])*)\]\((?!https?:|mailto:)([^()\s]+)\)")


def description(readme: str, version: str, source_url: str) -> str:
    """The README with absolute links, or with paths in their place if ``source_url`` is empty."""

    def replaced(link: re.Match[str]) -> str:
        if not source_url:
            return link[1] if link[2].startswith("#") else f"{link[1]} (`{link[2]}`)"
        target = f"README.md{link[2]}" if link[2].startswith("#") else link[2]
        return f"[{link[1]}]({source_url.rstrip('/')}/blob/v{version}/{target})"

    parts, end = [], 0
    for block in _FENCED.finditer(readme):
        parts += [_LINK.sub(replaced, readme[end : block.start()]), block[0]]
        end = block.end()
    return "".join([*parts, _LINK.sub(replaced, readme[end:])])


class DescriptionHook(MetadataHookInterface):
    """What hatchling calls."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Sets the readme, and the address of the sources."""
        source_url = os.environ.get("SOURCE_URL", "")
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": description(text, metadata["version"], source_url),
        }
        if source_url:
            metadata["urls"] = {**metadata["urls"], "Source": source_url}
