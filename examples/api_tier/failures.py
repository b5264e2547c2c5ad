"""The one form of all errors, and the HTTP status of each error of the service."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

import grpc
import grpc.aio
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict
from starlette.exceptions import HTTPException

from container_manager_client import error_info

# As google.rpc.Code has them. What is missing is 500, as are the codes that concern this tier and not its caller.
STATUSES = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.FAILED_PRECONDITION: 400,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.ABORTED: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
    grpc.StatusCode.UNIMPLEMENTED: 501,
    grpc.StatusCode.UNAVAILABLE: 503,
    grpc.StatusCode.DEADLINE_EXCEEDED: 504,
}
# Reasons for which no caller of this tier can do anything.
OURS = {
    "CONTAINER_NAME_MISMATCH",
    "ENGINE_ACCESS_DENIED",
    "NAME_IN_USE_UNMANAGED",
    "SECRETS_UNAVAILABLE",
    "SERVICE_NOT_ALLOWED",
    "STATE_UNAVAILABLE",
}
# What a caller reads of an error that is not its own, or that is gRPC's. Their own words go to the log.
MESSAGES = {
    413: "the request is too large",
    500: "an error on the server's side; its log has the details",
    501: "the bot service cannot do this",
    503: "the bot service cannot do this at the moment; try again",
    504: "the bot service has not answered in time",
}

_log = logging.getLogger(__name__)


class Failure(BaseModel):
    """Every response that is not a success has this form."""

    model_config = ConfigDict(use_attribute_docstrings=True)

    reason: str
    """Stable, for programs."""
    message: str
    """A sentence for a person."""
    fields: dict[str, str] = {}
    """Each invalid field of the request, and its problem."""


ANY_FAILURE: dict[int | str, dict[str, Any]] = {"default": {"model": Failure, "description": "Any error"}}


def add_handlers(app: FastAPI) -> None:
    """Give every error of the app this form."""
    app.add_exception_handler(grpc.aio.AioRpcError, _of_service)
    app.add_exception_handler(RequestValidationError, _of_request)
    app.add_exception_handler(HTTPException, _of_http)
    app.add_exception_handler(Exception, _unexpected)


def _of_service(_: Request, exc: Any) -> JSONResponse:
    info = error_info(exc)
    status = 500 if info.reason in OURS else STATUSES.get(info.code, 500)
    if info.reason and status < 500:
        return _answer(status, info.reason, info.message, dict(info.field_violations))
    if info.code is grpc.StatusCode.RESOURCE_EXHAUSTED:
        # gRPC refuses a message over its limit, with no reason.
        status = 413
    _log.warning("%s %s: %s", info.code.name, info.reason or "of gRPC", info.message)
    return _answer(status, info.reason or HTTPStatus(status).name, MESSAGES.get(status, MESSAGES[500]))


def _of_request(_: Request, exc: Any) -> JSONResponse:
    # Without the values, which may be secrets.
    fields = {".".join(map(str, error["loc"])): error["msg"] for error in exc.errors()}
    return _answer(400, "INVALID_REQUEST", "; ".join(f"{name}: {problem}" for name, problem in fields.items()), fields)


def _of_http(_: Request, exc: Any) -> JSONResponse:
    if isinstance(exc.detail, Failure):
        return JSONResponse(exc.detail.model_dump(), exc.status_code)
    return _answer(exc.status_code, HTTPStatus(exc.status_code).name, str(exc.detail), headers=exc.headers)


def _unexpected(_: Request, __: Exception) -> JSONResponse:
    # Starlette logs it.
    return _answer(500, "INTERNAL", MESSAGES[500])


def _answer(
    status: int,
    reason: str,
    message: str,
    fields: dict[str, str] | None = None,
    headers: dict[str, str] | None = None,
) -> JSONResponse:
    failure = Failure(reason=reason, message=message, fields=fields or {})
    retry = {"retry-after": "1"} if status == HTTPStatus.SERVICE_UNAVAILABLE else {}
    return JSONResponse(failure.model_dump(), status, {**retry, **(headers or {})})
