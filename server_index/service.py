"""The search service: an index folder over HTTP. The routes are the contract (see OpenAPI)."""

import asyncio
import contextlib
import dataclasses
import hmac
import logging
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated

import faiss
import numpy as np
from fastapi import Depends, FastAPI, Header, HTTPException, Query, Request
from fastapi.middleware.cors import CORSMiddleware
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from pydantic import Field
from starlette.middleware.trustedhost import TrustedHostMiddleware

from encoder.errors import BadImageError
from encoder.memory import count_cores
from export.web_runtime import HEADERS
from server_index.contract import fit_vectors
from server_index.filters import parse_filter
from server_index.index import Index
from server_index.items import LONGEST_ID, Item
from server_index.page import add_page
from server_index.service_front import Front, Limits, Metrics
from server_index.service_gate import Gate
from server_index.service_models import (
    AddRequest,
    ChangeResponse,
    DeleteRequest,
    SearchRequest,
    SearchResponse,
    SpaceResponse,
    read_vector,
)
from server_index.service_problems import add_problems, as_problem, tell
from server_index.thumbnails import TYPE, Thumbnails
from server_index.writer import IndexWriter

_LOG = logging.getLogger("pocketlens.service")
# Room for the longest vector and filter.
_SEARCH_BODY = 256 << 10


@dataclasses.dataclass(frozen=True)
class ServiceSettings:
    """Say what is served and how much may be asked.

    Without a `token` nothing can be written. `waiting` searches may wait for a thread, each for
    `timeout` seconds. Pages of `origins` may ask from a browser; requests for other names than
    `hosts`, where there are some, are refused: a page may have its name resolve to this machine.
    Every `reload_every` seconds the folder is looked at for a newer generation. With a query
    `bundle` there is a page that encodes in the browser, and thumbnails of the items it finds.
    """

    folder: Path
    token: str = ""
    max_body: int = 8 << 20
    max_k: int = 1000
    threads: int = dataclasses.field(default_factory=count_cores)
    waiting: int = 64
    timeout: float = 10.0
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    reload_every: float = 1.0
    bundle: Path | None = None
    skip_damaged: bool = False
    log: bool = True


@dataclasses.dataclass
class _Service:
    """Hold what the routes share while the service runs."""

    settings: ServiceSettings
    metrics: Metrics
    index: Index
    gate: Gate
    writer: IndexWriter | None
    # Changes wait for each other, not for searches.
    changing: Gate
    # Nor do searches wait for pictures.
    drawing: Gate
    thumbnails: Thumbnails

    def refresh(self) -> None:
        """Go on to the newest generation."""
        self.index.refresh()
        self.metrics.items.set(len(self.index))
        self.metrics.generation.set(self.index.snapshot.generation)


def create_app(settings: ServiceSettings) -> FastAPI:
    """Return the service of an index folder; it opens and warms it as it starts.

    Raises:
        PocketlensError: at its start, when the folder cannot be opened, or not for writing.
    """
    metrics = Metrics()

    @contextlib.asynccontextmanager
    async def live(app: FastAPI) -> AsyncIterator[None]:
        service = await asyncio.to_thread(_open, settings, metrics)
        app.state.service = service
        watching = asyncio.create_task(_watch(service))
        try:
            yield
        finally:
            watching.cancel()
            app.state.service = None
            await asyncio.to_thread(_close, service)

    app = FastAPI(title="Pocketlens search", version="1", lifespan=live, docs_url=None)
    app.state.service = None
    _add_routes(app, settings)
    add_problems(app)
    if settings.bundle:
        _add_thumbnails(app)
        add_page(app, settings.bundle)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.origins),
            allow_methods=["GET", "POST"],
            allow_headers=["content-type"],
        )
    app.add_middleware(
        Front,
        metrics=metrics,
        limits=Limits(
            search=min(_SEARCH_BODY, settings.max_body),
            change=settings.max_body if settings.token else 0,
            seconds=settings.timeout,
        ),
        is_trusted=lambda header: _is_token(header, settings.token),
        log=settings.log,
    )
    if settings.hosts:
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(settings.hosts))
    return app


def _open(settings: ServiceSettings, metrics: Metrics) -> _Service:
    writer = IndexWriter(settings.folder) if settings.token else None
    try:
        index = Index(
            settings.folder,
            skip_damaged=settings.skip_damaged,
            filter_seconds=settings.timeout,
        )
    except BaseException:
        if writer:
            writer.close()
        raise
    service = _Service(
        settings=settings,
        metrics=metrics,
        index=index,
        gate=Gate(settings.threads, settings.waiting, settings.timeout, _use_one_core),
        writer=writer,
        changing=Gate(1, settings.waiting, settings.timeout),
        drawing=Gate(1, settings.waiting, settings.timeout),
        thumbnails=Thumbnails(),
    )
    for damage in index.damage:
        _LOG.warning("left out: %s", damage)
    service.refresh()
    _warm(index)
    return service


def _use_one_core() -> None:
    """Keep FAISS to this thread: threads of its own would only wait for those of other searches."""
    faiss.omp_set_num_threads(1)


def _warm(index: Index) -> None:
    """Search once, so that the first client does not wait for pages of files."""
    vector = np.zeros((1, index.state.dim), np.float32)
    vector[0, 0] = 1
    index.search(vector, 10)


def _close(service: _Service) -> None:
    service.gate.close()
    service.changing.close()
    service.drawing.close()
    service.index.close()
    if service.writer:
        service.writer.close()


async def _watch(service: _Service) -> None:
    """Look for what other processes commit; an error leaves the generation that is served."""
    while True:
        await asyncio.sleep(service.settings.reload_every)
        try:
            await asyncio.to_thread(service.refresh)
        except Exception as error:
            _LOG.warning("the index is not reloaded: %s", error)


# Not a plain function: those are run on a thread, which costs more than they do.
async def _find_service(request: Request) -> _Service:
    service: _Service | None = request.app.state.service
    if service is None:
        raise HTTPException(503, "the index is being opened")
    return service


_Running = Annotated[_Service, Depends(_find_service)]


async def _find_writer(
    service: _Running, authorization: Annotated[str, Header(max_length=4096)] = ""
) -> IndexWriter:
    if service.writer is None:
        raise HTTPException(403, "this service was started without a token: nothing can be changed")
    if not _is_token(authorization, service.settings.token):
        raise HTTPException(401, "wrong token", {"WWW-Authenticate": "Bearer"})
    return service.writer


def _is_token(authorization: str, token: str) -> bool:
    given = authorization.removeprefix("Bearer ").encode()
    return bool(token) and hmac.compare_digest(given, token.encode())


_Writing = Annotated[IndexWriter, Depends(_find_writer)]


def _add_routes(app: FastAPI, settings: ServiceSettings) -> None:
    asked = tell(400, 409, 413, 422, 429, 500, 503)
    changed = asked | tell(401, 403)

    class LimitedRequest(SearchRequest):
        k: Annotated[int, Field(ge=1, le=settings.max_k)] = min(10, settings.max_k)

    @app.post("/v1/search", response_model=SearchResponse, responses=asked)
    async def search(request: LimitedRequest, service: _Running) -> JSONResponse:
        """Find the items nearest to a vector."""
        index, asks = service.index, request.space
        index.require_space(asks)
        with as_problem(422):
            vector = read_vector(request.vector)
            where = parse_filter(request.filter) if request.filter is not None else None
        generation = index.snapshot.generation
        with service.metrics.pending.track_inprogress():
            (hits,) = await service.gate.run(
                lambda: index.search(vector, request.k, where=where, space=asks)
            )
        answers = [
            {"id": hit.item.id, "score": hit.score, "metadata": dict(hit.item.metadata)}
            for hit in hits
        ]
        found = {"space": index.space.id, "generation": generation, "answers": answers}
        # As it is: our own answer need not be checked.
        return JSONResponse(found)

    @app.get("/v1/space", responses=tell(503))
    async def space(service: _Running) -> SpaceResponse:
        """Say what the index holds, and whose vectors may ask it."""
        index = service.index
        return SpaceResponse(
            space=index.space.id,
            dim=index.state.dim,
            accepts=index.spaces[1:],
            items=len(index),
            generation=index.snapshot.generation,
            damaged=len(index.damage),
        )

    @app.post("/v1/items", responses=changed)
    async def add(request: AddRequest, service: _Running, writer: _Writing) -> ChangeResponse:
        """Add items; they are durable, and found, when this answers."""
        if request.space != service.index.space.id:
            # Vectors of a space that it accepts may ask, not be added.
            raise HTTPException(409, f"the index is in space {service.index.space.id}")
        dim = writer.state.dim
        with as_problem(422):
            rows = [
                fit_vectors(read_vector(item.vector), service.index.space, dim)
                for item in request.items
            ]
        items = [Item(item.id, item.path, item.metadata) for item in request.items]

        def change() -> int:
            writer.add(np.concatenate(rows), items, request.encoder, replace=request.replace)
            return len(items)

        return await _change(service, change)

    @app.post("/v1/items/delete", responses=changed)
    async def delete(request: DeleteRequest, service: _Running, writer: _Writing) -> ChangeResponse:
        """Delete items; they are found no more when this answers."""
        return await _change(service, lambda: writer.delete(request.ids))

    @app.get("/healthz", responses=tell(503))
    async def health(service: _Running) -> dict[str, str]:
        """Say that the index is open and warm."""
        return {"status": "ready"}

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics(service: _Running) -> PlainTextResponse:
        """Give the figures that Prometheus collects."""
        return PlainTextResponse(service.metrics.write(), media_type="text/plain; version=0.0.4")


def _add_thumbnails(app: FastAPI) -> None:
    @app.get(
        "/v1/thumbnail",
        response_class=Response,
        responses={200: {"content": {TYPE: {}}}, **tell(404, 422, 429, 500, 503)},
    )
    async def thumbnail(
        service: _Running,
        id_: Annotated[str, Query(alias="id", min_length=1, max_length=LONGEST_ID)],
    ) -> Response:
        """Give a small picture of an item, of the file that it was encoded from."""

        def make() -> bytes:
            item = service.index.item_named(id_)
            if item is None:
                raise BadImageError("no such item")
            return service.thumbnails.make(item)

        try:
            picture = await service.drawing.run(make)
        except BadImageError:
            # What is wrong names the file: not for clients.
            raise HTTPException(404, "no picture of such an item") from None
        headers = {"Cache-Control": "private, max-age=3600", **HEADERS}
        return Response(picture, media_type=TYPE, headers=headers)


async def _change(service: _Service, change: Callable[[], int]) -> ChangeResponse:
    """Make a change, serve the generation that it made, and say how many items it concerned."""

    def run() -> int:
        count = change()
        service.refresh()
        return count

    with as_problem(409):
        count = await service.changing.run(run)
    return ChangeResponse(count=count, generation=service.index.snapshot.generation)
