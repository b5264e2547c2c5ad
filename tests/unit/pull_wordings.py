"""What engines report about failed pulls, in the wordings of all of them, and what each means."""

from __future__ import annotations

from container_manager.errors import (
    CapacityExceededError,
    ContainerManagerError,
    ImageNotFoundError,
    ImagePullDeniedError,
    ImagePullFailedError,
    ImageRegistryUnavailableError,
)

DENIED = ImagePullDeniedError
MISSING = ImageNotFoundError
RETRY = ImageRegistryUnavailableError
FAILED = ImagePullFailedError

Meaning = type[ContainerManagerError]

GET = 'Get "https://reg.test/v2/": '
HEAD = 'Head "https://reg.test/v2/a/manifests/1": '
RESOLVE = 'failed to resolve reference "reg.test/a:1": '
DO = RESOLVE + f"failed to do request: {HEAD}"
ANSWER = "unexpected status from HEAD request to https://reg.test/v2/a/manifests/1: "
BLOB = "failed to copy: httpReadSeeker: failed open: "
TOKEN = RESOLVE + "failed to authorize: failed to fetch anonymous token: "
TOKEN_ANSWER = TOKEN + "unexpected status from GET request to https://auth.test/token?scope=repository%3Aa: "
HTML = "<html><head><title>{0}</title></head><body><center><h1>{0}</h1></center><hr>nginx</body></html>"
PODMAN = "initializing source docker://reg.test/a:1: "
CHOOSING = "choosing an image from manifest list docker://reg.test/a:1: "
LATER = "You have reached your unauthenticated pull rate limit. https://www.docker.com/increase-rate-limit"
ABSENT = "pull access denied for a, repository does not exist or may require 'docker login'"

NUMBERED = (
    *("the mirror responded with {}", "reg.test answered {}", "received {} from reg.test", "failed with {}"),
    *("{}", "{}: oh", "{} oh"),
)
AGAIN = (
    *("read ECONNRESET", "connect ETIMEDOUT 10.0.0.1:443", "connect EHOSTUNREACH 10.0.0.1", "getaddrinfo EAI_AGAIN"),
    *("end of file", "unexpected end of file", "socket hang up", "transport is closing", "internal error"),
    *("connection dropped", "connection terminated", "connection interrupted", "connection was interrupted"),
    *("peer reset the connection", "the mirror closed it", "unexpected end of stream", "the remote end hung up"),
    *("empty reply from server", "the server did not respond", "could not connect", "TLS handshake interrupted"),
    *("network unreachable", "host unreachable", "could not resolve host: reg.test", "Name or service not known"),
    *("io: read/write on closed pipe", "http: read on closed response body", "refused to connect"),
    *("lookup reg.test: Try again", "Temporary failure resolving 'reg.test'"),
    *("request was throttled", "ThrottlingException", "SlowDown: Please reduce your request rate", "Rate exceeded"),
)
# What no more tries and no other right would help.
USELESS = (
    *("unexpected status from GET request to https://reg.test/v2/: 405 Not Allowed", "error parsing HTTP 405 response"),
    *("unpacking failed: device nodes are not allowed", "this media type is not allowed"),
)
NO_RIGHT = (
    *("Bad credentials", "Invalid credentials", "Wrong username was used", "authentication failed"),
    *("the client does not have permission for manifest", "token expired", "the token has expired"),
    *("installation not allowed to Read organization package", "invalid token", "insufficient permissions"),
    *("login required", '{"errors":[{"code":"DENIED","message":"oh"}]}', '{\\"code\\": \\"UNAUTHORIZED\\"}'),
)

# By their source: the file that makes the text, at moby 20.10 to 29, containerd 1.4 to 2.3, containers/image 5, Go 1.19
# to 1.25, distribution 2.8.
TEXTS: dict[str, list[tuple[str, Meaning]]] = {
    "moby distribution/errors.go, notFoundError": [
        (f"{ABSENT}: denied: requested access to the resource is denied", DENIED),
        ("manifest for reg.test/a:1 not found: manifest unknown: manifest unknown", MISSING),
        ("repository reg.test/a not found: name unknown: repository name not known to registry", MISSING),
    ],
    "distribution registry/client/errors.go, UnexpectedHTTPStatusError": [
        ("received unexpected HTTP status: 500 Internal Server Error", RETRY),
        ("received unexpected HTTP status: 522 <none>", RETRY),
        ("received unexpected HTTP status: 530 Origin DNS Error", RETRY),
        ("error pulling image configuration: received unexpected HTTP status: 502 Bad Gateway", RETRY),
    ],
    "distribution registry/client/errors.go, UnexpectedHTTPResponseError": [
        (
            (
                "error parsing HTTP 403 response body: invalid character '<' looking for beginning of value: "
                f'"{HTML.format("403 Forbidden")}"'
            ),
            DENIED,
        ),
        (
            (
                "error parsing HTTP 404 response body: invalid character 'p' after top-level value: "
                '"404 page not found\\n"'
            ),
            MISSING,
        ),
        (
            (
                "error parsing HTTP 429 response body: invalid character 'T' looking for beginning of value: "
                '"Too Many Requests (HAP429).\\n"'
            ),
            RETRY,
        ),
        (
            (
                "error parsing HTTP 429 response body: invalid character 'e' looking for beginning of value: "
                '"error code: 1015"'
            ),
            RETRY,
        ),
        ('error parsing HTTP 403 response body: no error details found in HTTP response body: "{}"', DENIED),
        ('error parsing HTTP 400 response body: unexpected end of JSON input: ""', FAILED),
    ],
    "distribution registry/client/errors.go, makeError of moby 25 and later": [
        (f"unknown: {HTML.format('404 Not Found')}", MISSING),
        (f"denied: {HTML.format('403 Forbidden')}", DENIED),
        ("toomanyrequests: error code: 1015", RETRY),
        ("unauthorized: Access token has expired", DENIED),
    ],
    "distribution registry/api/errcode, codes and what registries add to them": [
        ("unauthorized: authentication required", DENIED),
        ("unauthorized: The client does not have permission for manifest", DENIED),
        ("unauthorized: access to the requested resource is not authorized", DENIED),
        ("unauthorized: incorrect username or password", DENIED),
        ("denied: permission_denied: read_package", DENIED),
        ("denied: installation not allowed to Read organization package", DENIED),
        ("denied: Your authorization token has expired. Reauthenticate and try again.", DENIED),
        (
            'denied: Permission "artifactregistry.repositories.downloadArtifacts" denied on resource "projects/p"',
            DENIED,
        ),
        ("DENIED", DENIED),
        (f"toomanyrequests: {LATER}", RETRY),
        ("toomanyrequests: Rate exceeded", RETRY),
        ("unavailable: service unavailable", RETRY),
        ("name unknown: The repository with name 'a' does not exist in the registry with id '503403500404'", MISSING),
        ("unknown: artifact a:1 not found", MISSING),
        ("unknown: repository a not found", MISSING),
        ("manifest blob unknown: blob unknown to registry", MISSING),
        ("unknown: unknown error", FAILED),
        ("manifest invalid: manifest invalid", FAILED),
    ],
    "distribution registry/client/auth/session.go": [
        (GET + "no basic auth credentials", DENIED),
        ("authorization server did not include a token in the response", FAILED),
        (HEAD + "unable to decode token response: EOF", RETRY),
        (HEAD + "received unexpected HTTP status: 503 Service Unavailable", RETRY),
        (HEAD + "denied: requested access to the resource is denied", DENIED),
        (HEAD + f"unknown: {HTML.format('404 Not Found')}", FAILED),
        (HEAD + 'error parsing HTTP 404 response body: unexpected end of JSON input: ""', FAILED),
        ('Get "https://auth.reg.test/token?scope=repository%3Aa%3Apull": EOF', RETRY),
        (
            (
                'Get "https://auth.reg.test/token?scope=repository%3Aa%3Apull&service=reg.test": dial tcp: lookup '
                "auth.reg.test on 10.0.0.1:53: no such host"
            ),
            RETRY,
        ),
    ],
    "distribution registry/client/transport/http_reader.go, moby distribution/pull_v2.go": [
        ("unexpected status resolving reader: 503 Service Unavailable", RETRY),
        ("unexpected status resolving reader: 403 Forbidden", DENIED),
        ("unknown blob", MISSING),
        ("expected HTTP 206 from byte range request", RETRY),
        ("received Content-Range starting at offset 0 instead of requested 404", RETRY),
        ("unexpected end of JSON input", RETRY),
        ("download failed after attempts=6: unexpected EOF", RETRY),
        ("download failed after attempts=6: dial tcp 10.0.0.1:443: connect: connection refused", RETRY),
        ("filesystem layer verification failed for digest sha256:500", FAILED),
        ("manifest verification failed for digest sha256:403", FAILED),
        ("no matching manifest for linux/arm64/v8 in the manifest list entries", MISSING),
    ],
    "containerd remotes/errors, remotes/docker/resolver.go and fetcher.go": [
        (RESOLVE + "reg.test/a:1: not found", MISSING),
        (RESOLVE + ANSWER + "403 Forbidden", DENIED),
        (RESOLVE + ANSWER + "429 Too Many Requests", RETRY),
        (RESOLVE + ANSWER + "400 Bad Request", FAILED),
        (
            BLOB + "unexpected status code https://reg.test/v2/a/blobs/sha256:404: "
            "429 Too Many Requests - Server message: toomanyrequests: " + LATER,
            RETRY,
        ),
        (
            BLOB + "unexpected status from GET request to "
            "https://reg.test/v2/a/blobs/sha256:404: 403 Forbidden\ndenied: no",
            DENIED,
        ),
        (BLOB + "could not fetch content descriptor sha256:1 (a/b) from remote: not found", MISSING),
        ("failed to copy: read tcp 10.0.0.2:40311->10.0.0.1:443: read: connection reset by peer", RETRY),
        ("failed to copy: unexpected EOF", RETRY),
        ("short read: expected 500 bytes but got 404: unexpected EOF", RETRY),
        ("unknown: " + RESOLVE + ANSWER + "522 ", RETRY),
        ('"layer-sha256:1" failed size validation: 500 != 404: failed precondition', FAILED),
        ("unexpected commit digest sha256:403, expected sha256:500: failed precondition", FAILED),
        ("failed to extract layer sha256:1: mount callback failed on /tmp/x: permission denied", FAILED),
        ("failed to extract layer sha256:1: not implemented", FAILED),
        (
            (
                'not implemented: media type "application/vnd.docker.distribution.manifest.v1+prettyjws" is no longer '
                "supported since containerd v2.1"
            ),
            FAILED,
        ),
        (RESOLVE + ANSWER + "501 Not Implemented", FAILED),
    ],
    "containerd remotes/docker/authorizer.go and auth/fetch.go": [
        (
            RESOLVE + "pull access denied, repository does not exist or may require authorization: server message: "
            "insufficient_scope: authorization failed",
            DENIED,
        ),
        (RESOLVE + "server message: invalid_token: authorization failed", DENIED),
        (RESOLVE + "authorization failed: no basic auth credentials", DENIED),
        (RESOLVE + "failed to authorize: failed to handle basic auth because missing username or secret", DENIED),
        (TOKEN_ANSWER + "401 Unauthorized", DENIED),
        (TOKEN_ANSWER + "503 Service Unavailable", RETRY),
        (TOKEN_ANSWER + "404 Not Found", FAILED),
        (TOKEN + "unexpected status: 503 Service Unavailable", RETRY),
        (
            TOKEN
            + 'Get "https://auth.test/token?scope=repository%3Aa": dial tcp 10.0.0.1:443: connect: connection refused',
            RETRY,
        ),
    ],
    "moby daemon/containerd/registry_errors.go, which leaves out code and status": [
        (f"error from registry: {LATER}", RETRY),
        ("error from registry: authentication required", DENIED),
        ("error from registry: requested access to the resource is denied", DENIED),
        ("error from registry: service unavailable", RETRY),
        (ABSENT, DENIED),
    ],
    "containers/image docker/errors.go, docker_client.go and body_reader.go": [
        (PODMAN + "reading manifest 1 in reg.test/a: manifest unknown", MISSING),
        (PODMAN + "reading manifest 1 in reg.test/a: unauthorized: authentication required", DENIED),
        (PODMAN + "reading manifest 1 in reg.test/a: requested access to the resource is denied", DENIED),
        (CHOOSING + 'no image found in image index for architecture "arm64", variant "v8", OS "linux"', MISSING),
        (CHOOSING + 'no image found in manifest list for architecture arm64, variant "v8", OS linux', MISSING),
        (PODMAN + 'reading manifest 1 in reg.test/a: StatusCode: 404, "404 page not found\\n"', MISSING),
        (PODMAN + 'reading manifest 1 in reg.test/a: StatusCode: 403, "<html>"', DENIED),
        (PODMAN + "reading manifest 1 in reg.test/a: received unexpected HTTP status: 503 Service Unavailable", RETRY),
        (
            "unable to retrieve auth token: invalid username/password: unauthorized: incorrect username or password",
            DENIED,
        ),
        ("Requesting bearer token: received unexpected HTTP status: 504 Gateway Timeout", RETRY),
        ("too many requests to registry", RETRY),
        (
            (
                "reading blob sha256:1: (heuristic tuning data: total 500 @404.000 ms, last retry 0 @0.000 ms, last "
                "progress @ 1.000 ms): unexpected EOF"
            ),
            RETRY,
        ),
        ("fetching blob: received unexpected HTTP status: 500 Internal Server Error", RETRY),
        (PODMAN + "pinging container registry reg.test: " + GET + "dial tcp: lookup reg.test: no such host", RETRY),
    ],
    "Go net, net/http and golang.org/x/net/http2": [
        (GET + "dial tcp 127.0.0.1:5000: connect: connection refused", RETRY),
        (DO + "dial tcp 127.0.0.1:5000: connect: connection refused", RETRY),
        (GET + "dial tcp: lookup reg.test on 10.0.0.1:53: no such host", RETRY),
        (GET + "dial tcp: lookup reg.test on 127.0.0.53:53: server misbehaving", RETRY),
        (GET + "dial tcp: lookup reg.test: Temporary failure in name resolution", RETRY),
        (GET + "dial tcp: lookup reg.test on 10.0.0.1:53: read udp 10.0.0.2:500->10.0.0.1:53: i/o timeout", RETRY),
        (DO + "dial tcp [2001:db8::1]:443: connect: network is unreachable", RETRY),
        (GET + "dial tcp 10.9.9.9:443: connect: no route to host", RETRY),
        (GET + "dial tcp 10.9.9.9:443: connect: connection timed out", RETRY),
        (DO + "dial tcp 10.9.9.9:443: i/o timeout", RETRY),
        (GET + "net/http: TLS handshake timeout", RETRY),
        (GET + "net/http: timeout awaiting response headers", RETRY),
        (GET + "net/http: request canceled while waiting for connection (Client.Timeout exceeded)", RETRY),
        (GET + "context deadline exceeded (Client.Timeout exceeded while awaiting headers)", RETRY),
        (GET + "EOF", RETRY),
        (GET + "unexpected EOF", RETRY),
        (HEAD + "http: server closed idle connection", RETRY),
        (HEAD + "net/http: HTTP/1.x transport connection broken: unexpected EOF", RETRY),
        (HEAD + "http2: client connection lost", RETRY),
        (
            HEAD + 'http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR, debug=""',
            RETRY,
        ),
        ("stream error: stream ID 403; INTERNAL_ERROR; received from peer", RETRY),
        ("connection error: PROTOCOL_ERROR", RETRY),
        (HEAD + "http2: client connection force closed via ClientConn.Close", RETRY),
        ("rpc error: code = Internal desc = stream terminated by RST_STREAM with error code: PROTOCOL_ERROR", RETRY),
        ("failed to copy: malformed chunked encoding", RETRY),
        ("failed to copy: invalid byte in chunk length", RETRY),
        ("read tcp 10.0.0.2:40311->10.0.0.1:443: use of closed network connection", RETRY),
        ("write tcp 10.0.0.2:40311->10.0.0.1:443: write: broken pipe", RETRY),
        ("failed to copy: cannot assign requested address", RETRY),
        (GET + "http: server gave HTTP response to HTTPS client", FAILED),
        (GET + 'malformed HTTP response "\\x15\\x03\\x01"', FAILED),
    ],
    "Go net/http, the answer of a proxy to CONNECT": [
        (GET + "proxyconnect tcp: dial tcp 10.0.0.9:3128: connect: connection refused", RETRY),
        (GET + "proxyconnect tcp: EOF", RETRY),
        (GET + "Service Unavailable", RETRY),
        (GET + "Bad Gateway", RETRY),
        (GET + "Gateway Timeout", RETRY),
        (GET + "Forbidden", DENIED),
        (GET + "Proxy Authentication Required", DENIED),
        (GET + "Payment Required", DENIED),
        (GET + "Unavailable For Legal Reasons", DENIED),
        (GET + "Not Found", FAILED),
    ],
    "Go crypto/tls and crypto/x509": [
        (GET + "x509: certificate signed by unknown authority", FAILED),
        (GET + "tls: failed to verify certificate: x509: certificate signed by unknown authority", FAILED),
        (GET + "x509: certificate is valid for timeout.test, not denied.test", FAILED),
        (GET + "x509: certificate has expired or is not yet valid: current time is after 2026-01-01", FAILED),
        (GET + "remote error: tls: handshake failure", FAILED),
        ("failed to copy: local error: tls: bad record MAC", RETRY),
        ("failed to copy: remote error: tls: close notify", RETRY),
        (GET + "proxyconnect tcp: tls: first record does not look like a TLS handshake", RETRY),
    ],
    "proxies, content delivery networks and mirrors in front of a registry": [
        *((form.format(status), RETRY) for status in (429, 503, 521) for form in NUMBERED),
        *((form.format(403), DENIED) for form in NUMBERED),
        *((form.format(404), MISSING) for form in NUMBERED),
        ("received 500 bytes", FAILED),
        ("layer with 404 of 500 entries", FAILED),
        ("500 bytes are missing", FAILED),
        *((f"{start}{words}", RETRY) for start in ("", "failed to copy: ", "error from registry: ") for words in AGAIN),
        *((f"{start}{words}", DENIED) for start in ("", "unknown: ", "error from registry: ") for words in NO_RIGHT),
        *((words, FAILED) for words in USELESS),
    ],
    "moby layer store, Go os": [
        ("failed to register layer: write /usr/lib/x: no space left on device", CapacityExceededError),
        ("failed to register layer: Error processing tar file(exit status 1): permission denied", FAILED),
        ("failed to register layer: open /app/node_modules/lodash/throttle.js: read-only file system", FAILED),
        ("failed to extract layer: mkdir /srv/slow-down/timeout: read-only file system", FAILED),
        ("failed size validation: expected 1024 bytes, received 404", FAILED),
        ("failed to register layer: Error processing tar file(exit status 1): unexpected EOF", RETRY),
        ("open /var/lib/docker/tmp/GetImageBlob403: permission denied", FAILED),
        ("dial unix /run/containerd/containerd.sock: connect: permission denied", FAILED),
        ("mkdir /var/lib/docker: operation not permitted", FAILED),
        ("unsupported media type application/vnd.oci.empty.v1+json", FAILED),
        ("", FAILED),
    ],
}
ALL = [(text, meaning) for texts in TEXTS.values() for text, meaning in texts]
