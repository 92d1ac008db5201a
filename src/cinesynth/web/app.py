"""The web server: the page, its files and the API under ``/api``, which programs can use too.

Modules that need torch are imported at first use, so that the page appears at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import FileResponse, Response
from starlette.staticfiles import StaticFiles

from cinesynth import __version__
from cinesynth.cases.schema import NOTICE
from cinesynth.errors import CinesynthError, OutputError
from cinesynth.web.guard import LOOPBACK, REPORT_POLICY, Guard, ServeSettings, in_url, refused
from cinesynth.web.jobs import Job, Jobs
from cinesynth.web.model import Model, unusual
from cinesynth.web.schemas import AnimateRequest, AnnotateRequest, CohortRequest, GenerateRequest, without_paths
from cinesynth.web.store import Entry, Reports, Store, TooLarge, receive, settle

if TYPE_CHECKING:
    from cinesynth.web.work import Workshop

STATIC = Path(__file__).with_name("static")
TYPES = {".gz": "application/gzip", ".nii": "application/octet-stream", ".json": "application/json"}


def make_app(settings: ServeSettings) -> FastAPI:
    """The app of one server. Its results are deleted when it stops."""
    model, reports = Model(settings.weights, settings.precision), Reports(settings.reports)
    store = Store(settings.store_mib * 2**20, settings.keep_minutes * 60.0)
    jobs = Jobs(settings.waiting, settings.waiting_all)

    def shop() -> Workshop:
        from cinesynth.web.work import Workshop  # torch

        return Workshop(model, store)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(jobs.close)
        store.close()

    app = FastAPI(
        title="cinesynth", version=__version__, docs_url=None, redoc_url=None, openapi_url="/api/openapi.json",
        lifespan=lifespan,
    )  # fmt: skip
    app.state.model, app.state.store, app.state.jobs = model, store, jobs
    if settings.is_local:  # stops DNS rebinding: a foreign page sends another Host header
        own_hosts = [in_url(host) for host in (*LOOPBACK, settings.host)]
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=own_hosts, www_redirect=False)
    app.add_middleware(Guard, settings=settings)
    _answer_errors(app)
    _answer_model(app, model)
    _answer_jobs(app, shop, jobs)
    _answer_files(app, store, jobs, settings)
    _answer_reports(app, reports)

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(STATIC / "index.html", media_type="text/html; charset=utf-8")

    app.mount("/static", StaticFiles(directory=STATIC))
    return app


def _session(request: Request) -> str:
    return str(request.state.session)


def _answer_errors(app: FastAPI) -> None:
    @app.exception_handler(CinesynthError)
    async def ours(_: Request, error: Exception) -> Response:
        assert isinstance(error, CinesynthError)
        status = 413 if isinstance(error, TooLarge) else 400
        return refused(status, without_paths(error.message), without_paths(error.hint))

    @app.exception_handler(RequestValidationError)
    async def invalid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        inside = [{**each, "loc": each["loc"][1:]} for each in error.errors()]
        return refused(400, _in_words(inside), "see /api/openapi.json")

    @app.exception_handler(HTTPException)
    async def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return refused(error.status_code, str(error.detail))

    @app.exception_handler(Exception)
    async def other(_: Request, error: Exception) -> Response:
        return refused(500, "the server hit an unexpected error", "see the server log")


def _in_words(errors: Sequence[Any]) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'request'}: {e['msg']}" for e in errors)[:500]


def _answer_model(app: FastAPI, model: Model) -> None:
    @app.get("/api/model")
    def describe(load: bool = True) -> dict[str, Any]:
        """Conditions, limits and typical values of the weights; the first call starts loading them."""
        if load:
            model.load_beside()
        return {**model.describe(), "version": __version__, "notice": NOTICE}

    @app.post("/api/check")
    def check(body: dict[str, Any]) -> dict[str, str | float | None]:
        """The ESV that a request implies, a warning if it is unusual, and the reason if it is invalid."""
        try:
            prior = GenerateRequest.model_validate(body).request().prior
        except ValidationError as error:
            return {"esv": None, "unusual": "", "refused": _in_words(error.errors())}
        except CinesynthError as error:
            return {"esv": None, "unusual": "", "refused": f"{error.message}. {error.hint}"}
        text = unusual(model.get().prior, prior) if model.state == "ready" else ""
        return {"esv": prior.lv_esv_ml, "unusual": text, "refused": ""}


def _answer_jobs(app: FastAPI, shop: Callable[[], Workshop], jobs: Jobs) -> None:
    def taken(request: Request, kind: str, work: Callable[[Job], list[str]]) -> dict[str, Any]:
        return jobs.to_json(jobs.submit(_session(request), kind, work))

    @app.post("/api/generate", status_code=202)
    def generate(request: Request, body: GenerateRequest) -> dict[str, Any]:
        """Generate a case; ``keep`` names a result whose anatomy it shares."""
        if body.keep is None:
            body.request()  # an invalid request is refused before it is queued
        return taken(request, "generate", shop().generate(_session(request), body))

    @app.post("/api/cohort", status_code=202)
    def cohort(request: Request, body: CohortRequest) -> dict[str, Any]:
        """Generate several cases."""
        if not body.sample_priors and body.table is None:
            body.request()
        return taken(request, "cohort", shop().cohort(_session(request), body))

    @app.post("/api/animate", status_code=202)
    def animate(request: Request, body: AnimateRequest) -> dict[str, Any]:
        """Animate an uploaded heart."""
        return taken(request, "animate", shop().animate(_session(request), body))

    @app.post("/api/annotate", status_code=202)
    def annotate(request: Request, body: AnnotateRequest) -> dict[str, Any]:
        """Segment an uploaded cine."""
        return taken(request, "annotate", shop().annotate(_session(request), body))

    @app.get("/api/jobs/{name}")
    def job(request: Request, name: str) -> dict[str, Any]:
        """Progress of a job."""
        return jobs.to_json(jobs.get(_session(request), name))

    @app.delete("/api/jobs/{name}")
    def cancel(request: Request, name: str) -> dict[str, Any]:
        """Cancel a job."""
        found = jobs.get(_session(request), name)
        jobs.cancel(found)
        return jobs.to_json(found)


def _answer_files(app: FastAPI, store: Store, jobs: Jobs, settings: ServeSettings) -> None:
    @app.post("/api/uploads", status_code=201)
    async def upload(request: Request) -> dict[str, Any]:
        """A NIfTI file, or a zip of one DICOM examination, as the body of the request."""
        limit = settings.upload_mib * 2**20
        store.clean(int(request.headers.get("content-length", "0")))
        entry = store.new(_session(request), "upload")
        try:
            await receive(request.stream(), entry, limit)
            kind = await run_in_threadpool(settle, entry)
        except BaseException:
            store.remove(entry)
            raise
        return {"id": entry.name, "kind": kind}

    @app.get("/api/results")
    def results(request: Request) -> list[dict[str, Any]]:
        """Results of this session, newest first."""
        return [_summary(entry) for entry in store.of(_session(request)) if entry.kind not in ("upload", "zip")]

    @app.get("/api/results/{name}")
    def result(request: Request, name: str) -> dict[str, Any]:
        """One result with its record."""
        entry = store.get(_session(request), name)
        return {**_summary(entry), "record": entry.about}

    @app.delete("/api/results/{name}", status_code=204)
    def remove(request: Request, name: str) -> Response:
        """Delete a result and its files."""
        store.remove(store.get(_session(request), name))
        return Response(status_code=204)

    @app.get("/api/results/{name}/files/{file}")
    def fetch(request: Request, name: str, file: str) -> Response:
        """A file of a result."""
        entry = store.get(_session(request), name)
        path = entry.files.get(file)
        if path is None:
            return refused(404, "this result has no such file", f"available: {', '.join(entry.files)}")
        return FileResponse(path, media_type=TYPES.get(path.suffix), filename=file)

    @app.get("/api/jobs/{name}/zip")
    def cohort(request: Request, name: str) -> Response:
        """All results of a job as one zip with a folder per case and a cohort table."""
        from cinesynth.web.work import together  # torch

        session = _session(request)
        entries = [store.get(session, result) for result in jobs.get(session, name).results]
        path = together(entries, store.new(session, "zip"))
        return FileResponse(path, media_type="application/zip", filename="cinesynth-cohort.zip")

    @app.get("/api/results/{name}/zip/{form}")
    def archive(request: Request, name: str, form: str) -> Response:
        """A result as a zip: ``files``, ``nnunet`` or ``dicom``."""
        from cinesynth.web.work import packed  # torch

        path = packed(store.get(_session(request), name), form)
        return FileResponse(path, media_type="application/zip", filename=f"cinesynth-{form}.zip")


def _answer_reports(app: FastAPI, reports: Reports) -> None:
    @app.get("/api/reports")
    def listed() -> list[dict[str, Any]]:
        """Evaluation reports that this server shows."""
        return reports.listed()

    @app.get("/api/reports/{number}")
    def report(number: int) -> Response:
        """One report, as a page without scripts."""
        page = reports.page(number)
        if page is None:
            return refused(404, "no such report", "see /api/reports")
        headers = {"Content-Security-Policy": REPORT_POLICY, "X-Frame-Options": "SAMEORIGIN"}
        return FileResponse(page, media_type="text/html; charset=utf-8", headers=headers)


def _summary(entry: Entry) -> dict[str, Any]:
    shown = {name: entry.about.get(name) for name in ("accepted", "requested", "achieved", "seed")}
    if shown["seed"] is not None:
        shown["seed"] = str(shown["seed"])  # JavaScript cannot represent larger integers than 2^53 exactly
    own = {"id": entry.name, "kind": entry.kind, "made": entry.made, "files": sorted(entry.files)}
    return {**own, **shown, "unusual": entry.about.get("unusual", "")}


# --- Run the server until it is interrupted --------------------------------------------------------------------------


def serve(settings: ServeSettings, say: Callable[[str], None]) -> None:
    """Run the server until it is interrupted; ``say`` receives its URL. `OutputError` if the port is not available."""
    config = uvicorn.Config(
        make_app(settings),
        host=settings.host,
        port=settings.port,
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=5,
        limit_concurrency=64,
    )
    try:
        socket = config.bind_socket()
    except SystemExit:  # raised by uvicorn if it cannot bind
        hint = "choose another --port"
        raise OutputError(f"port {settings.port} of {settings.host} is not available", hint=hint) from None
    port = socket.getsockname()[1]
    say(f"http://{in_url(settings.host)}:{port}")
    uvicorn.Server(config).run(sockets=[socket])
