"""The page as an ASGI application, and the server that runs it."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.background import BackgroundTask

from ridgeline import __version__
from ridgeline.api import catalogue
from ridgeline.apps.web.exports import KINDS, exported
from ridgeline.apps.web.guard import MOST_HEADER_BYTES, Guard
from ridgeline.apps.web.jobs import BEAT_S, Job, JobError, Jobs, NoJobError, TooManyError
from ridgeline.apps.web.views import VIEWS, View
from ridgeline.core.dtypes import SCHEMES
from ridgeline.core.errors import RidgelineError, SpecError, UnknownNameError, did_you_mean
from ridgeline.core.files import parse_json
from ridgeline.studies.frame.shelf import names as study_names

STATIC = {
    "app.js": "text/javascript",
    "draw.js": "text/javascript",
    "style.css": "text/css",
    "icon.svg": "image/svg+xml",
}


class _Absent(UnknownNameError):
    """A part of an address that leads nowhere."""


def application(*, host: str = "127.0.0.1", token: str = "") -> Any:
    """The page.

    Args:
        host: the address that is listened on, which is a name of the server.
        token: what every visitor must bring; empty: nothing.
    """
    jobs = Jobs()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        jobs.close()

    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None, redirect_slashes=False, lifespan=lifespan)
    _tell_errors(app)
    _serve_views(app, jobs)
    _serve_jobs(app, jobs)
    _serve_files(app)
    return Guard(app, host=host, token=token)


def _tell_errors(app: FastAPI) -> None:
    """Errors as one screen."""

    @app.exception_handler(RidgelineError)
    def said(_: Request, error: RidgelineError) -> JSONResponse:
        status = 429 if isinstance(error, TooManyError) else 404 if isinstance(error, _Absent | NoJobError) else 422
        return JSONResponse({"error": error.screen()}, status_code=status)

    @app.exception_handler(Exception)
    def failed(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": f"a mistake of ours: {type(error).__name__}"}, status_code=500)


def _serve_views(app: FastAPI, jobs: Jobs) -> None:
    """Forms, their answers, and exports."""

    @app.get("/api/views")
    def views() -> Any:
        jobs.warm()  # whoever opens the page may soon ask for one
        return {"version": __version__, "views": [view.to_dict() for view in VIEWS.values()]}

    @app.get("/api/suggestions/{kind}")
    def suggestions(kind: str) -> Any:
        return _suggestions(kind)

    @app.post("/api/views/{name}")
    async def ask(name: str, request: Request) -> Any:
        view, values = _view(name), await _values(request)
        if view.answer is None:
            raise SpecError("this view runs as a job", at=name, fix=f"POST /api/views/{name}/jobs")
        return await _apart(lambda: _answered(view, values))

    @app.post("/api/exports/{kind}")
    async def export(kind: str, request: Request) -> Response:
        if kind not in KINDS:
            raise _Absent(f"unknown kind of file {kind[:40]!r}", at="export", fix=did_you_mean(kind, KINDS))
        rows = await _values(request)
        data = await _apart(lambda: exported(kind, rows.get("rows")))
        name = f'attachment; filename="ridgeline.{kind}"'
        return Response(data, media_type=KINDS[kind], headers={"content-disposition": name})


def _serve_jobs(app: FastAPI, jobs: Jobs) -> None:
    """What runs, how far it is, and its files."""

    @app.post("/api/views/{name}/jobs")
    async def start(name: str, request: Request) -> Any:
        view, values = _view(name), await _values(request)
        run = view.job
        if run is None:
            raise SpecError("this view answers at once", at=name, fix=f"POST /api/views/{name}")
        return {"job": jobs.start(run, values)}

    @app.get("/api/jobs/{name}/events")
    async def events(name: str) -> Response:
        return StreamingResponse(_events(jobs.find(name)), media_type="text/event-stream")

    @app.delete("/api/jobs/{name}")
    def stop(name: str, drop: bool = False) -> Any:
        job = jobs.find(name)
        (job.drop if drop else job.stop)()
        return {"stopped": name}

    @app.get("/api/jobs/{name}/files/{kind}")
    def file(name: str, kind: str) -> Response:
        job = jobs.find(name)
        if kind not in job.files:
            raise _Absent(f"no file {kind[:40]!r}", at="files", fix=did_you_mean(kind, job.files))
        path = Path(tempfile.mkdtemp(prefix="ridgeline-")) / job.files[kind]
        try:
            job.write(kind, os.fspath(path))
        except JobError:
            _remove(path)
            raise
        return FileResponse(path, filename=path.name, background=BackgroundTask(_remove, path))


def _serve_files(app: FastAPI) -> None:
    """The page itself."""

    @app.get("/static/{name}")
    def static(name: str) -> Response:
        if name not in STATIC:
            raise _Absent("no such file", at="static", got=name[:40])
        return Response(_static(name), media_type=STATIC[name])

    @app.get("/")
    @app.get("/{name}")
    def page(name: str = "") -> Response:
        if name and name not in VIEWS:
            raise _Absent(f"no view {name[:40]!r}", at="page", fix=did_you_mean(name, VIEWS))
        return Response(_static("index.html"), media_type="text/html")


def serve(*, host: str, port: int, token: str) -> None:
    """Serve the page until it is stopped."""
    import uvicorn

    app = application(host=host, token=token)
    uvicorn.run(app, host=host, port=port, log_level="warning", **limits())


def limits() -> dict[str, Any]:
    """How uvicorn is run."""
    from ridgeline.apps.web.patience import Patient

    return {"h11_max_incomplete_event_size": MOST_HEADER_BYTES, "http": Patient, "server_header": False}


def _view(name: str) -> View:
    if name not in VIEWS:
        raise _Absent(f"no view {name[:40]!r}", at="views", fix=did_you_mean(name, VIEWS))
    return VIEWS[name]


def _answered(view: View, values: dict[str, Any]) -> dict[str, Any]:
    assert view.answer is not None, "quick views answer"
    return view.answer(values).to_dict()


async def _values(request: Request) -> dict[str, Any]:
    values = parse_json(await request.body(), "form").data
    if not isinstance(values, dict):
        raise SpecError("a form is an object of fields", at="form", got=type(values).__name__)
    return values


async def _apart(call: Any) -> Any:
    """In a thread: the server stays awake."""
    from starlette.concurrency import run_in_threadpool

    return await run_in_threadpool(call)


async def _events(job: Job) -> AsyncIterator[bytes]:
    """Progress until the end, then the answer or the error."""
    pause_s = BEAT_S / 16
    while not job.done.is_set():
        yield _event(json.dumps({"event": "progress", "share": job.share, "words": job.words}).encode())
        await asyncio.sleep(pause_s)
        pause_s = min(2 * pause_s, BEAT_S)
    yield _event(job.end)


def _event(told: bytes) -> bytes:
    return b"data: " + told + b"\n\n"


def _suggestions(kind: str) -> list[str]:
    shelves = catalogue.kinds()
    if kind == "machines":
        counts = (1, 2, 4, 8)
        return [f"{n}x {chip}" for chip in shelves["chips"][0]() for n in counts] + list(shelves["nodes"][0]())
    if kind == "formats":
        return sorted(SCHEMES)
    if kind == "studies":
        return list(study_names())
    if kind == "catalogue":
        return sorted({name for names, _ in shelves.values() for name in names()})
    if kind not in shelves:
        raise _Absent(f"nothing is suggested for {kind[:40]!r}", at="suggestions", fix=did_you_mean(kind, shelves))
    return list(shelves[kind][0]())


def _static(name: str) -> bytes:
    return (resources.files("ridgeline.apps.web") / "static" / name).read_bytes()


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.parent.rmdir()
