"""The dashboard's addresses. Pages are drawn by the server; what changes is sent as it changes (server-sent events)."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING

import anyio
from anyio.to_thread import run_sync
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from orchestrator.cli.common import find_run
from orchestrator.cli.dashboard import log_search
from orchestrator.cli.dashboard.actions import FLAGS, Actions
from orchestrator.cli.dashboard.fragments import FOLDER, Fragments, changed
from orchestrator.report.page import charts, gather, html
from orchestrator.words.errors import GpuplanError, UsageError

if TYPE_CHECKING:
    from orchestrator.ledger import Ledger
    from orchestrator.words.spec import RunSpec
    from orchestrator.world.home import Home

LOOK_S = 1.0  # between two looks, at least
IDLE = 10  # times as long as a look took is waited before the next one
REPORT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'"
TITLES = {"down": ("End {run}?", "Yes, end it"), "resume": ("Go on with {run}?", "Yes, go on")}


class Dashboard:
    """What answers each address. `stopping`: whether the server is about to end."""

    def __init__(self, home: Home, ledger: Ledger, stopping: Callable[[], bool] = lambda: False) -> None:
        self._home, self._ledger, self._stopping = home, ledger, stopping
        self._actions = Actions(home.path)
        self._fragments = Fragments(home, ledger, self._actions)
        self._style = f"{html.style()}\n{(FOLDER / 'dashboard.css').read_text('utf-8')}"
        self._script = (FOLDER / "dashboard.js").read_text("utf-8")

    def application(self) -> Starlette:
        """For a server."""
        return Starlette(
            routes=[
                Route("/", self._overview),
                Route("/events", self._overview_events),
                Route("/style.css", self._text(lambda: self._style, "text/css")),
                Route("/dashboard.js", self._text(lambda: self._script, "text/javascript")),
                Route("/runs/{run}", self._run),
                Route("/runs/{run}/events", self._run_events),
                Route("/runs/{run}/logs", self._logs),
                Route("/runs/{run}/report", self._report),
                Route("/runs/{run}/gpus/{number:int}.svg", self._gpus),
                Route("/runs/{run}/{kind}", self._ask, methods=["GET"]),
                Route("/runs/{run}/{kind}", self._act, methods=["POST"]),
            ],
            exception_handlers={GpuplanError: self._trouble, 404: self._missing},
        )

    @staticmethod
    def _text(read: Callable[[], str], kind: str) -> Callable[[Request], Response]:
        return lambda _request: Response(read(), media_type=kind)

    def _overview(self, _request: Request) -> Response:
        return HTMLResponse(self._fragments.page("overview.html", parts=self._fragments.overview(), events="/events"))

    def _run(self, request: Request) -> Response:
        spec = self._spec(request)
        parts, events = self._fragments.run(spec), f"/runs/{spec.run}/events"
        page = self._fragments.page("run.html", run=spec.run, plan=spec.plan.name, parts=parts, events=events)
        return HTMLResponse(page)

    def _overview_events(self, _request: Request) -> Response:
        return self._stream(self._fragments.overview)

    def _run_events(self, request: Request) -> Response:
        spec = self._spec(request)
        return self._stream(lambda: self._fragments.run(spec))

    def _logs(self, request: Request) -> Response:
        spec = self._spec(request)
        folder = self._home.run_folder(spec.run) / "logs"
        names = log_search.names(folder)
        asked, text = request.query_params.get("step", ""), request.query_params.get("q", "")
        step = asked if asked or text else next(iter(names), "")  # nothing asked: the one that was written last
        found = log_search.search(folder, step, text)
        if found is None:
            raise UsageError(f"{spec.run} has no output of a step {step}", remedy="/logs lists what there is")
        page = self._fragments.page("logs.html", run=spec.run, names=names, step=step, q=text, found=found, events="")
        return HTMLResponse(page)

    def _report(self, request: Request) -> Response:
        spec = self._spec(request)
        driven = self._home.is_driven(spec.run)
        account = gather.account(self._ledger, spec, self._home.run_folder(spec.run), driven=driven)
        return HTMLResponse(html.page(account), headers={"Content-Security-Policy": REPORT_POLICY})

    def _gpus(self, request: Request) -> Response:
        """What a machine's GPUs did over time: an image, for its colours are set within it, as no page of ours is."""
        pictures, number = self._fragments.gpus(self._spec(request)), request.path_params["number"]
        if number >= len(pictures):
            return self._missing(request)
        svg = charts.alone(pictures[number][1])
        return Response(svg, media_type="image/svg+xml", headers={"Content-Security-Policy": REPORT_POLICY})

    def _ask(self, request: Request) -> Response:
        spec, kind = self._spec(request), request.path_params["kind"]
        if kind not in TITLES:
            return self._missing(request)
        title, yes = TITLES[kind]
        page = self._fragments.page(
            "question.html", run=spec.run, kind=kind, title=title.format(run=spec.run), yes=yes, events="",
            sentences=self._fragments.question(spec, kind),
        )  # fmt: skip
        return HTMLResponse(page)

    def _act(self, request: Request) -> Response:
        spec, kind = self._spec(request), request.path_params["kind"]
        if kind not in FLAGS:
            return self._missing(request)
        self._actions.start(spec.run, kind)
        return RedirectResponse(f"/runs/{spec.run}", 303)

    def _spec(self, request: Request) -> RunSpec:
        """The run that the address names. UsageError: there is none, or its folder is damaged."""
        run = request.path_params["run"]
        if self._ledger.runs.maybe(id=run) is None:
            raise UsageError(f"there is no run {run}", remedy="the first page lists them all")
        return find_run(self._home, self._ledger, run)

    def _stream(self, draw: Callable[[], dict[str, str]]) -> Response:
        return StreamingResponse(self._parts(draw), media_type="text/event-stream")

    async def _parts(self, draw: Callable[[], dict[str, str]]) -> AsyncIterator[str]:
        """An event for each part that is another one than it was; a remark now and then, so that a cut is noticed."""
        sent: dict[str, str] = {}
        while not self._stopping():
            began = time.monotonic()
            try:
                parts = await run_sync(draw)
            except GpuplanError as error:  # held, or gone meanwhile: said in the place of the first part
                parts = {next(iter(sent), "now"): self._fragments.trouble(error)}
            new = changed(sent, parts)
            sent |= new
            for name, text in new.items():
                yield f"event: part\ndata: {json.dumps({'id': name, 'html': text})}\n\n"
            if not new:
                yield ": nothing new\n\n"
            await anyio.sleep(max(LOOK_S, IDLE * (time.monotonic() - began)))

    def _trouble(self, _request: Request, error: Exception) -> Response:
        assert isinstance(error, GpuplanError)
        status = 404 if isinstance(error, UsageError) else 503
        page = self._fragments.page("message.html", title=error.message, said=error.remedy, events="")
        return HTMLResponse(page, status)

    def _missing(self, request: Request, _error: Exception | None = None) -> Response:
        page = self._fragments.page("message.html", title="There is no such page", said=request.url.path, events="")
        return HTMLResponse(page, 404)
