"""Maps the failure of an image pull to a domain error.

The engine reports what a registry answered as text: in an error response, or inside a 200 stream. Its own HTTP status
is often 500 for all of them. So the meaning comes from, in this order:

1. an HTTP status of the registry, or of its token server, that the text announces as one;
2. an error code of the registry (``denied``, ``manifest unknown``; OCI distribution specification, "Error Codes");
3. a number that is an HTTP status, whatever the words around it;
4. the engine's HTTP status, where it has only one meaning;
5. an HTTP status's reason phrase alone, which is all that Go tells of a proxy's answer to ``CONNECT``;
6. words, which Go's network library, the engine and registries use where there is no number.

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

# The same in the registry's JSON.
_CODE_IN_JSON = re.compile(rf'\\?"code\\?" ?: ?\\?"({"|".join(_CODES).replace(" ", "_")})\\?"')

# A status that a word announces, with any sign between them.
_STATUS = re.compile(
    r"status[^\d\n]{0,40}?(?P<announced>[1-5]\d\d)\b"
    r"|(?:\bhttp(?:/\d(?:\.\d)?\b)?[\W_]{0,3}|(?:code|\berr(?:or)?)\W{1,3})(?P<after>[45]\d\d)\b(?! (?:bytes|of)\b)"
)
# A number that is a word of its own, whatever the words around it: a status unless it is an amount or an index.
_NUMBER = re.compile(r"(?<![\w.:/@#=+*~$%-])[45]\d\d(?![\w@%=]|[.,:/+*~-]\w)")
_AMOUNT = re.compile(
    r"\b(?:expected \d+ bytes|content-range)\b[^:\n]*"
    r"|\b\d+ ?(?:[kmgt]?i?b|bytes?|octets?|[nmuµ]?s|m?secs?|(?:milli|micro)?seconds?|mins?|minutes?|hours?|days?"
    r"|percent|times|tries|retries|attempts?|pulls|requests|entries|files?|layers?|blobs?|chunks?|parts?|items?|inodes?)\b"
    r"|\b\d+ ?(?:!=|/|\b(?:out )?of\b|\bvs\b) ?\d+"
    r"|\b(?:total|max(?:imum)?|limit|quota|count|size|length|offset|id|[pug]id|line|column|byte|block|position|index"
    r"|port)s?"
    r"(?: (?:of|is|was|at|number|no))?[ =:#(]{1,3}\d+(?:(?:[/,-]| of )\d+)*"
    # "Layer: 503" is an answer for a layer.
    r"|\b(?:attempt|retry|layer|part|chunk|step|version|build)s?(?: (?:number|no))?[ =#(]{1,2}\d+(?:(?:[/,-]| of )\d+)*"
)
# What is said of the image's content or of the engine's file system may have any number in it.
_CONTENT = re.compile(
    r"(?:register|extract|unpack|apply|mount)(?:ing)? (?:the )?layer|size validation|verification failed"
    r"|digest mismatch|commit digest|media ?type|no matching manifest|no match for platform|no image found in"
    r"|invalid reference|unpacking failed|\bl?chown\b|cannot unmarshal|manifest invalid"
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

_CONNECTION = (
    r"\b(?:(?:connection|stream|socket|session|tunnel|transfer|download)s?"
    r"|peer|remote|client|server|proxy|mirror|upstream|registry)\b"
)
_ENDED = (
    r"\b(?:clos(?:e|ed|es|ing|ure)\b|drop(?:s|ped)?\b|los[ts]\b|abort|br(?:eak|oke)|terminat|interrupt|shut"
    r"|refus(?!\w* (?:access|the (?:token|credential)))|sever(?:ed|s)?\b|ended\b|cut\b|went away|gone\b)"
)
_ENDS = (
    # Not as a part of a name.
    r"(?<![\w./-])reset(?:s|ting)?\b(?![/-]|\.\w)",
    rf"{_CONNECTION}[^:\n]{{0,30}}?{_ENDED}|{_ENDED}\w*[^:\n]{{0,30}}?{_CONNECTION}",
    r"\b(?:unexpected|premature|early) end\b(?! of json)|\bend of (?:the )?(?:stream|input|response|body|data)",
    r"\b(?:hung|hang(?:s|ing)?)[ -]?up|\bdisconnect|\brefused(?:[_ ]stream\b| it\b|\W*$|[:;,)])",
    r"\b(?:(?:empty|no|without an?) (?:reply|response|answer)|short read|truncated (?:body|response|stream))\b",
    r"(?:\bnot|n't|never|stopped) (?:properly )?(?:respon|repl|answer)",
    r"\b(?:cannot|can't|could(?: not|n't)|unable to|failed to|refused to) (?:connect|reach|contact)|unreachable",
    r"(?<!like a )\b(?:tls|ssl)[ -]handshake|\bssl[_ ]error[_ ]syscall\b",
)

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
            r"\be(?:conn(?:reset|refused|aborted)|timedout|(?:host|net)unreach|ai[_ ]again|pipe)\b",
            ImageRegistryUnavailableError,
        ),
        (
            r"connection abort|(?:reset|forcibly closed) by|connection on reset|transport endpoint",
            ImageRegistryUnavailableError,
        ),
        (r"not on the network|link has been severed|requested address|on send\b", ImageRegistryUnavailableError),
        (r"\beof|unexpectedeof|end of file|broken pipe|socket hang ?up", ImageRegistryUnavailableError),
        (
            r"connection ?(?:was )?(?:reset|refused|aborted|closed|lost|broken|dropped|terminated|interrupted)",
            ImageRegistryUnavailableError,
        ),
        (
            r"closed (?:network |idle )?connection|stream error|\bgoaway\b|transport is closing",
            ImageRegistryUnavailableError,
        ),
        (r"(?<![\w./-])rst(?: stream)?\b|connection (?:error|force closed)", ImageRegistryUnavailableError),
        # What came was cut off or damaged on its way, unlike an error response that has no body.
        (r"(?<!response body: )unexpected end of json input", ImageRegistryUnavailableError),
        (r"on closed (?:pipe|response body)|chunked encoding|chunk length", ImageRegistryUnavailableError),
        (r"\btls: (?:bad record mac|decryption failed|record overflow|close notify)", ImageRegistryUnavailableError),
        (r"tim(?:e|ed|es|ing)[- _]?out|deadline[ _]exceeded|request canceled", ImageRegistryUnavailableError),
        (r"no such host|(?:unknown|not resolve|resolving) host|server misbehaving", ImageRegistryUnavailableError),
        (r"name resolution|temporary failure|\blookup\b.*: try again|\bhost not found", ImageRegistryUnavailableError),
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
        (r"does not have permission|insufficient permission|not allowed to (?:read|pull|access)", ImagePullDeniedError),
        (r"invalid token|login (?:is )?required", ImagePullDeniedError),
        (r"no basic auth credentials|(?:invalid|incorrect|missing) username", ImagePullDeniedError),
        (r"(?:manifest|name|blob) unknown|unknown (?:manifest|blob)", ImageNotFoundError),
        (r"does not exist|no matching manifest|no match for platform", ImageNotFoundError),
        (r"no image found in (?:image index|manifest list)", ImageNotFoundError),
        (r"not found|no such (?:image|manifest|repository)", ImageNotFoundError),
        # Roots of words for the end of a connection, in any other wording, where nothing is said of the image.
        *((pattern, ImageRegistryUnavailableError) for pattern in _ENDS),
    )
)

# The token server's answer: containerd and containers/image announce it; moby returns it as the error of the request.
_TOKEN_SERVER = re.compile(r"failed to authorize|(?:oauth|anonymous|auth) token|\b(?:get|head|post) : ")

# What may hold any text: URLs, hosts after "lookup" or with a port, addresses, single quoted words except statuses,
# and paths of files. The key of a number in JSON stays.
_VARIABLE = re.compile(
    r"(?<![a-z0-9+.-])[a-z][a-z0-9+.-]*://[^\s\"']*[^\s\"':,]"
    r"|(?<=\blookup )[^\s:]+"
    r"|(?:(?<=\btcp )|(?<=\btcp[46] )|(?<=\budp ))\S*\d\S*(?<!:)"
    r"|(?<![\w.-])(?:[\w-]+\.)+[a-z][\w-]*:\d+(?:/[\w./:@-]*\w)?"
    r"|(?P<key>\"[\w.-]+\"(?=: ?\d))"
    r"|\"(?!\d{3}\")[^\"\s]*\"|'(?!\d{3}')[^'\s]*'"
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
    if found := _first_meaning(_statuses(said)):
        return found
    if code := _CODE.search(said):
        return _CODES[code[1]]
    # As in ERR_CONNECTION_RESET.
    plain = said.replace("_", " ")
    worded = next((meaning for words, meaning in WORDS if words.search(plain)), None)
    # A denial may have any number in it, such as a rule's.
    if worded is not ImagePullDeniedError and not _CONTENT.search(said) and (found := _first_meaning(_numbers(said))):
        return found
    told = _status_meaning(status or 0)
    # The engine answers 404 to what is denied as well, and 500 to anything.
    if told is not None and told is not ImageNotFoundError and status != HTTPStatus.INTERNAL_SERVER_ERROR:
        return told
    if phrase := _PHRASE.search(said):
        return _PHRASES[phrase[1]]
    return worded or (ImageNotFoundError if told is ImageNotFoundError else ImagePullFailedError)


def _first_meaning(statuses: Iterator[int]) -> Meaning | None:
    return next(filter(None, map(_status_meaning, statuses)), None)


def _statuses(text: str) -> Iterator[int]:
    return (int(match["announced"] or match["after"]) for match in _STATUS.finditer(text))


def _numbers(text: str) -> Iterator[int]:
    return (int(match[0]) for match in _NUMBER.finditer(_AMOUNT.sub("", text)))


def _status_meaning(status: int) -> Meaning | None:
    """What a registry's HTTP status means for the pull; ``None``: nothing in particular."""
    if status in _DENIED_STATUSES:
        return ImagePullDeniedError
    if status in _RETRYABLE_STATUSES or status in _SERVER_ERRORS:
        return ImageRegistryUnavailableError
    return ImageNotFoundError if status in _MISSING_STATUSES else None


def _without_names(text: str, reference: str) -> str:
    """``text`` without anything that the reference or the network names."""
    text = _CODE_IN_JSON.sub(lambda code: f": {code[1].replace('_', ' ')}: ", text)
    text = _VARIABLE.sub(lambda found: found["key"] or "", text)
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
    named = r"\b(for|repository|artifact|image|manifest|tag|digest|project|name)"
    return re.sub(rf"{named} ([\"']?)(?:{words})\2{end}", r"\1 ", text)
