"""Documents in YAML, for ``--output yaml``."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from botctl.rendering.unsafe_text import UNSAFE

DOCUMENT_FORMATS = ("json", "yaml")

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
# Words that YAML 1.1 reads as something other than a string.
_NO_KEY = re.compile(r"(?i:y|n|yes|no|on|off|true|false|null)")
# YAML has no such characters, or reads them as line breaks. JSON allows them in strings.
_NOT_IN_YAML = re.compile(f"[\ufeff\ufffe\uffff]|{UNSAFE}")


def yaml_text(document: Any) -> str:
    """The document in YAML, in blocks. Every scalar is written as in JSON, which is YAML as well."""
    return "\n".join(_lines(document))


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _nested(f"{_key(key)}:", each)
    elif isinstance(value, list) and value:
        for each in value:
            first, *rest = _lines(each)
            yield f"- {first}"
            yield from (f"  {line}" for line in rest)
    else:
        yield _scalar(value)


def _nested(head: str, value: Any) -> Iterator[str]:
    if isinstance(value, (dict, list)) and value:
        yield head
        yield from (f"  {line}" for line in _lines(value))
    else:
        yield f"{head} {_scalar(value)}"


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) and not _NO_KEY.fullmatch(key) else _scalar(key)


def _scalar(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    if isinstance(value, float) and "." not in text:
        # In YAML 1.1, 1e-07 is a string.
        text = text.replace("e", ".0e")
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
