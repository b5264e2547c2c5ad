"""Maps the failure of an image pull to a domain error.

The engine reports what a registry answered as text: in an error response, or inside a 200 stream. Its own HTTP status
is often 500 for all of them. So the meaning comes from, in this order:

1. an HTTP status of the registry, or of its token server, in the text;
2. an error code of the registry (``denied``, ``manifest unknown``; OCI distribution specification, "Error Codes");
3. the engine's HTTP status, where it has only one meaning;
4. an HTTP status's reason phrase alone, which is all that Go tells of a proxy's answer to ``CONNECT``;
5. words, which Go's network library, the engine and registries use where there is no number.

Names are removed first: hosts, repositories and tags may contain a number or any of these words. The wordings come from
moby (``distribution``, ``daemon/containerd``), distribution (``registry/client``), containerd (``core/remotes``),
containers/image (``docker``), and Go's ``net``, ``net/http`` and ``crypto/tls``; the tests have a table of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus

from container_manager.engine.error_meanings import disk_error
from container_manager.errors import (
    ContainerManagerError,
    ImageNotFoundError,
    ImagePullDeniedError,
    ImagePullFailedError,
    ImageRegistryUnavailableError,
)

Meaning = type[ContainerManagerError]

_DENIED_STATUSES = frozenset(
    {
        HTTPStatus.UNAUTHORIZED,
        HTTPStatus.PAYMENT_REQUIRED,
        HTTPStatus.FORBIDDEN,
        HTTPStatus.PROXY_AUTHENTICATION_REQUIRED,
        HTTPStatus.UNAVAILABLE_FOR_LEGAL_REASONS,
    }
)
_RETRYABLE_STATUSES = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_EARLY, HTTPStatus.TOO_MANY_REQUESTS})
_MISSING_STATUSES = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
# Not "not implemented", which containerd says too, of an image that it does not support.
_SERVER_ERRORS = frozenset(range(500, 600)) - {HTTPStatus.NOT_IMPLEMENTED}

_CODES: dict[str, Meaning] = {
    "denied": ImagePullDeniedError,
    "unauthorized": ImagePullDeniedError,
    "toomanyrequests": ImageRegistryUnavailableError,
    "unavailable": ImageRegistryUnavailableError,
    "manifest unknown": ImageNotFoundError,
    "manifest blob unknown": ImageNotFoundError,
    "blob unknown": ImageNotFoundError,
    "name unknown": ImageNotFoundError,
}
_CODE = re.compile(rf"(?:^|: |\n)({'|'.join(_CODES)})(?=:|\n|$)")

# A status in the text: after a word that announces it, alone between two colons, or at the start. No number of bytes.
_STATUS = re.compile(
    r"\bstatus[^\d\n]{0,40}?(?P<announced>[1-5]\d\d)\b"
    r"|(?:^|\b(?:http(?:/\d(?:\.\d)?)?|code|error|response|returned|responded|answered|with)\W{1,3}"
    r"|\breceived(?=\W+\d{3} from\b)\W{1,3})"
    r"(?P<after>[45]\d\d)\b(?! (?:bytes|of)\b)"
    r"|: (?P<alone>[45]\d\d) ?(?=:|,|\n|$)"
)

# The reason phrases of statuses that have a meaning. Not of 404 and 410: what a proxy does not find may be anything.
_PHRASE_STATUSES = (
    *_DENIED_STATUSES,
    *_RETRYABLE_STATUSES,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.BAD_GATEWAY,
    HTTPStatus.SERVICE_UNAVAILABLE,
    HTTPStatus.GATEWAY_TIMEOUT,
    HTTPStatus.NETWORK_AUTHENTICATION_REQUIRED,
)
_PHRASES: dict[str, Meaning] = {
    status.phrase.lower(): ImagePullDeniedError if status in _DENIED_STATUSES else ImageRegistryUnavailableError
    for status in _PHRASE_STATUSES
}
_PHRASE = re.compile(rf"(?:^|: )({'|'.join(map(re.escape, _PHRASES))})(?=:|\n|$)")

# Texts that contain any of these, without a status or a code; the first match decides.
WORDS: tuple[tuple[re.Pattern[str], Meaning], ...] = tuple(
    (re.compile(pattern), meaning)
    for pattern, meaning in (
        (r"x509: |certificate signed by", ImagePullFailedError),
        (r"too ?many ?requests|rate ?limit|rate exceeded|\bthrottl|slow ?down", ImageRegistryUnavailableError),
        # Go's name of an operation of a socket that failed, whatever the reason.
        (r"\b(?:dial|read|write) (?:tcp|udp)[46]?\b", ImageRegistryUnavailableError),
        # errno(3) of sockets, without that name, or as their own names.
        (
            r"\be(?:conn(?:reset|refused|aborted)|timedout|(?:host|net)unreach|ai_again)\b",
            ImageRegistryUnavailableError,
        ),
        (
            r"connection abort|(?:reset|forcibly closed) by|connection on reset|transport endpoint",
            ImageRegistryUnavailableError,
        ),
        (r"not on the network|link has been severed|requested address|on send\b", ImageRegistryUnavailableError),
        (r"\beof\b|end of file|broken pipe|socket hang ?up", ImageRegistryUnavailableError),
        (
            r"connection (?:was )?(?:reset|refused|aborted|closed|lost|broken|dropped|terminated|interrupted)",
            ImageRegistryUnavailableError,
        ),
        (
            r"closed (?:network |idle )?connection|stream error|\bgoaway\b|transport is closing",
            ImageRegistryUnavailableError,
        ),
        (r"\brst_stream\b|connection (?:error|force closed)", ImageRegistryUnavailableError),
        # What came was cut off or damaged on its way, unlike an error response that has no body.
        (r"(?<!response body: )unexpected end of json input", ImageRegistryUnavailableError),
        (r"chunked encoding|chunk length", ImageRegistryUnavailableError),
        (r"\btls: (?:bad record mac|decryption failed|record overflow|close notify)", ImageRegistryUnavailableError),
        (r"time-?out|timed out|deadline exceeded|request canceled", ImageRegistryUnavailableError),
        (r"no such host|server misbehaving|name resolution|not resolve host", ImageRegistryUnavailableError),
        (r"name or service not known", ImageRegistryUnavailableError),
        (r"\b(?:is|network|host) (?:unreachable|down)\b|no route to host|proxyconnect", ImageRegistryUnavailableError),
        (r"unavailable|bad gateway|internal (?:server )?error", ImageRegistryUnavailableError),
        (r"\bbyte range\b|content-range", ImageRegistryUnavailableError),
        # The engine's own file system, not the registry.
        (r"failed to (?:register|extract) layer", ImagePullFailedError),
        (r"denied|forbidden|un-?authori[sz]ed|not authori[sz]ed|authorization failed", ImagePullDeniedError),
        (r"unauthenticated|authentication (?:is )?required|insufficient[_ ]scope", ImagePullDeniedError),
        (
            r"(?:bad|invalid) credentials|wrong username|authentication failed|token (?:has |is )?expired",
            ImagePullDeniedError,
        ),
        (r"does not have permission", ImagePullDeniedError),
        (r"no basic auth credentials|(?:invalid|incorrect|missing) username", ImagePullDeniedError),
        (r"(?:manifest|name|blob) unknown|unknown (?:manifest|blob)", ImageNotFoundError),
        (r"does not exist|no matching manifest|no match for platform", ImageNotFoundError),
        (r"no image found in (?:image index|manifest list)", ImageNotFoundError),
        (r"not found|no such (?:image|manifest|repository)", ImageNotFoundError),
    )
)

# The token server's answer: containerd and containers/image announce it; moby returns it as the error of the request.
_TOKEN_SERVER = re.compile(r"failed to authorize|(?:oauth|anonymous|auth) token|\b(?:get|head|post) : ")

# What may hold any text: URLs, hosts after "lookup", addresses, single quoted words, and paths of files.
_VARIABLE = re.compile(
    r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://[^\s\"']*[^\s\"':,]"
    r"|(?<=\blookup )[^\s:]+"
    r"|(?<=\btcp )\S*[^\s:]|(?<=\btcp[46] )\S*[^\s:]|(?<=\budp )\S*[^\s:]"
    r"|\"[^\"\s]*\"|'[^'\s]*'"
    r"|\b[a-z]+ /\S*: (?:connect: )?(?:permission denied|operation not permitted)"
    r"|(?<=\s)/[^\s:]+(?=: )"
)
_MOST_CHARACTERS = 2_000
_DOCKER_HUB = re.compile(r"^(?:index\.)?docker\.io/(?:library/)?")


def pull_error(text: str, reference: str, status: int | None = None, credentials: str = "") -> ContainerManagerError:
    """The error for a failed pull of ``reference``.

    ``text`` is the engine's, from an error response or from inside a 200 stream. ``status`` is the HTTP status of the
    error response, or the code that the stream has beside the text. ``credentials`` says where those of the pull come
    from, and is added to a denial.
    """
    text = _shortened(text)
    message = f"image {reference} could not be pulled: {text}"
    if error := disk_error(text, message, image=reference):
        return error
    said = _without_names(text.lower(), reference.lower())
    meaning = _meaning(said, status)
    # Something that the token server does not have is not the image.
    if meaning is ImageNotFoundError and _TOKEN_SERVER.search(said):
        meaning = ImagePullFailedError
    if meaning is ImagePullDeniedError and credentials:
        message += f" ({credentials})"
    return meaning(message, image=reference)


def _shortened(text: str) -> str:
    """Both ends of a long text: what failed stands in front, why at the end.

    A registry's answer may be in it, of any length, and the patterns below take long for a long text.
    """
    if len(text) <= _MOST_CHARACTERS:
        return text
    half = _MOST_CHARACTERS // 2
    return f"{text[:half]} … {text[-half:]}"


def _meaning(said: str, status: int | None) -> Meaning:
    if found := next(filter(None, map(_status_meaning, _statuses(said))), None):
        return found
    if code := _CODE.search(said):
        return _CODES[code[1]]
    told = _status_meaning(status or 0)
    # The engine answers 404 to what is denied as well, and 500 to anything.
    if told is not None and told is not ImageNotFoundError and status != HTTPStatus.INTERNAL_SERVER_ERROR:
        return told
    if phrase := _PHRASE.search(said):
        return _PHRASES[phrase[1]]
    return next((meaning for words, meaning in WORDS if words.search(said)), None) or (
        ImageNotFoundError if told is ImageNotFoundError else ImagePullFailedError
    )


def _statuses(text: str) -> Iterator[int]:
    return (int(match["announced"] or match["after"] or match["alone"]) for match in _STATUS.finditer(text))


def _status_meaning(status: int) -> Meaning | None:
    """What a registry's HTTP status means for the pull; ``None``: nothing in particular."""
    if status in _DENIED_STATUSES:
        return ImagePullDeniedError
    if status in _RETRYABLE_STATUSES or status in _SERVER_ERRORS:
        return ImageRegistryUnavailableError
    return ImageNotFoundError if status in _MISSING_STATUSES else None


def _without_names(text: str, reference: str) -> str:
    """``text`` without anything that the reference or the network names."""
    text = _VARIABLE.sub("", text)
    name, _, _ = reference.partition("@")
    repository, colon, tag = name.rpartition(":")
    if not colon or "/" in tag:
        repository, tag = name, "latest"
    repository = _DOCKER_HUB.sub("", repository)
    host, slash, path = repository.partition("/")
    is_host = slash and (host == "localhost" or set(host) & set(".:"))
    paths = {repository, f"library/{repository}", path if is_host else repository}
    known = "|".join(sorted(map(re.escape, paths), key=len, reverse=True))
    start, end = r"(?<![\w./-])", r"(?![\w./-])"
    # Anywhere: with a tag, a digest or the registry before it, or if it is more than a single word.
    text = re.sub(rf"{start}(?:docker\.io/)?(?:{known})(?::\w[\w.-]*|@sha256:[0-9a-f]+){end}", "", text)
    text = re.sub(rf"{start}docker\.io/(?:{known}){end}", "", text)
    for path_of_words in sorted((each for each in paths if not each.isalnum()), key=len, reverse=True):
        text = re.sub(rf"{start}{re.escape(path_of_words)}{end}", "", text)
    if is_host:
        text = re.sub(rf"{start}{re.escape(host)}{end}", "", text)
    # A single word only where a name stands, since it may be a word of the message as well.
    words = "|".join(map(re.escape, {*path.split("/"), *repository.split("/"), tag} - {""}))
    return re.sub(rf"\b(for|repository|artifact|image|manifest|tag|project|name) (?:{words}){end}", r"\1 ", text)
