"""How the search service tells what goes wrong: one line of detail, by kind of fault."""

import contextlib
import logging
from typing import Any

from fastapi import FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse

from encoder.errors import PocketlensError
from server_index.contract import SpaceError, VectorError
from server_index.service_gate import BusyError
from server_index.service_models import Problem

_LOG = logging.getLogger("pocketlens.service")
# Of a request, that are told at once.
_MOST_FAULTS = 3
Problems = dict[int | str, dict[str, Any]]


def tell(*codes: int) -> Problems:
    """Describe these statuses as problems, for OpenAPI."""
    return {code: {"model": Problem} for code in codes}


@contextlib.contextmanager
def as_problem(code: int) -> Any:
    """Tell the client what is wrong with what it sent."""
    try:
        yield
    except PocketlensError as error:
        raise HTTPException(code, str(error)) from None


def add_problems(app: FastAPI) -> None:
    """Let each kind of error be answered with its status."""

    @app.exception_handler(RequestValidationError)
    async def unsound(request: Request, error: RequestValidationError) -> JSONResponse:
        # Not what was sent: that may be long, or no JSON.
        found = [
            f"{'.'.join(str(part)[:80] for part in each['loc'] if part != 'body')}: {each['msg']}"
            for each in error.errors()[:_MOST_FAULTS]
        ]
        return JSONResponse({"detail": "; ".join(found)}, 422)

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> JSONResponse:
        detail = "too many searches are waiting; try again"
        return JSONResponse({"detail": detail}, 429, {"Retry-After": "1"})

    @app.exception_handler(TimeoutError)
    async def late(request: Request, error: TimeoutError) -> JSONResponse:
        return JSONResponse({"detail": "took too long"}, 503, {"Retry-After": "1"})

    @app.exception_handler(VectorError)
    async def refused(request: Request, error: VectorError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 422)

    @app.exception_handler(SpaceError)
    async def elsewhere(request: Request, error: SpaceError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, 409)

    @app.exception_handler(PocketlensError)
    @app.exception_handler(OSError)
    async def broken(request: Request, error: Exception) -> JSONResponse:
        # It names files: for the operator, not for clients.
        _LOG.error("%s %s: %s", request.method, request.url.path, error)
        return JSONResponse({"detail": "the index cannot be used; see the service's log"}, 500)

    @app.exception_handler(Exception)
    async def unforeseen(request: Request, error: Exception) -> JSONResponse:
        # It is raised once more after this answer, and logged with where it came from.
        return JSONResponse({"detail": "a fault of the service; see its log"}, 500)
