"""The explorer's pages: one GET route each, so that every view and every row has an address that can be passed on."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eval.explore import filters
from eval.explore.database import Tables, TooSlow
from eval.explore.dataset_files import find_dataset
from eval.explore.drawing import draw
from eval.explore.filters import BadRequest, NotFound, read_address
from eval.explore.pages.home import home_page
from eval.explore.pages.pair import pair_page
from eval.explore.pages.pairs import pairs_page
from eval.explore.pages.personas import persona_page, personas_page
from eval.explore.pages.questions import prompt_page, prompts_page
from eval.explore.pages.search import search_page
from eval.explore.results import RESULT_PARAMETERS, ResultsFolder, overview, result_page, scores_of
from eval.explore.search import Busy
from eval.web.server import launch, new_server, page_response

# `persona report` writes its style into the page, and a script that this page does without.
REPORT_POLICY = "sandbox; default-src 'none'; img-src data:; style-src 'unsafe-inline'; frame-ancestors 'none'"

# Of pages outside of our templates: the server's own speak of forms and of what was saved, and here nothing is ever saved.
ERROR_WORDS = {
    400: ("This request could not be read", "Go to the start and try again from there."),
    404: ("There is nothing here", "The address may have been cut off or mistyped. Go to the start and search from there."),
    405: ("This page cannot be reached that way", "Pages here are only read. Go to the start and follow the links from there."),
    413: ("This is too much", "Pages here take nothing but their address. Go to the start and search from there."),
    500: ("Something went wrong", "The error is in the log of the program that serves this page. Reload the page, or go to the start."),
    503: ("Not possible just now", "Wait a moment, then reload this page."),
}  # fmt: skip


def serve(dataset: str, results: Path | None = None, host: str = "127.0.0.1", port: int = 7861) -> None:
    """Serve the pages until interrupted.

    Raises InputError where the folder is no published dataset, the results are not of it, something is not installed or the port is taken.
    """
    server = new_app(dataset, results, say=lambda text: print(text, file=sys.stderr, flush=True))
    launch(server, host, port, announce=f"Explore {dataset} at http://{host}:{port}/ (end with Ctrl-C).")


def new_app(dataset: str, results: Path | None = None, say: Callable[[str], None] = lambda text: None) -> Any:
    """The application with all its pages, not yet served. Raises InputError as `serve` does."""
    published = find_dataset(dataset)
    given = None
    if results is not None:
        from eval.rows import content_hash

        given = ResultsFolder(results, content_hash(published.folder))
    tables = Tables(published, given.files() if given is not None else (), say)
    server = new_server(f"Explore {published.name}", ERROR_WORDS)
    _add_routes(server, tables, given)
    return server


def _add_routes(server: Any, tables: Tables, given: ResultsFolder | None) -> None:
    from fastapi import Request
    from fastapi.responses import FileResponse, RedirectResponse

    def answer(template: str, values: dict[str, Any]) -> Any:
        return page_response(draw(template, {**common, **values}))

    def problem(status: int, title: str, text: str) -> Any:
        headers = {"retry-after": "5"} if status == 503 else None
        return page_response(draw("problem.html", {**common, "title": title, "text": text}), status, headers)

    def page(path: str, known: Sequence[str], template: str, make: Callable[[filters.Asked], Any]) -> None:
        """A route whose values `make` gives; an address that cannot be answered gives a page that says why."""

        def handler(request: Any) -> Any:
            try:
                made = make(read_address(request.query_params.multi_items(), known))
                return RedirectResponse(made, 303) if isinstance(made, str) else answer(template, made)
            except BadRequest as error:
                return problem(400, "This address cannot be answered", str(error))
            except NotFound as error:
                return problem(404, "Not in this dataset", str(error))
            except Busy:
                text = "Other searches are running, and more are waiting. Try again in a few seconds, or leave out the words to search for."
                return problem(503, "Busy", text)
            except TooSlow:
                text = (
                    "This took too long and was stopped. Narrow it down with another filter, or try again in a moment."
                )
                return problem(503, "Stopped", text)

        # A plain function runs in a thread of its own, so that a long search stops nobody else.
        handler.__annotations__ = {"request": Request}
        server.get(path)(handler)

    common = {
        "root": "",
        "name": tables.published.name,
        "version": tables.published.version,
        "has_results": given is not None,
        "configs_present": tuple(tables.published.files),
    }
    pair_known = ("id", "view", *filters.PAIR_PARAMETERS)
    page("/", (), "home.html", lambda asked: home_page(tables))
    page("/search", ("q",), "search.html", lambda asked: search_page(tables, asked["q"]) if asked["q"] else "./")
    page("/personas", filters.PERSONA_PARAMETERS, "personas.html", lambda asked: personas_page(tables, asked))
    page("/persona", ("id",), "persona.html", lambda asked: persona_page(tables, asked["id"]))
    page("/prompts", filters.PROMPT_PARAMETERS, "prompts.html", lambda asked: prompts_page(tables, asked))
    page("/prompt", ("id", "config", "after", "before"), "prompt.html", lambda asked: prompt_page(tables, asked))
    page("/pairs", filters.PAIR_PARAMETERS, "pairs.html", lambda asked: pairs_page(tables, asked))

    def one_pair(asked: filters.Asked) -> dict[str, Any]:
        values = pair_page(tables, asked)
        return {**values, "scores": [] if given is None else scores_of(tables, given, values["row"]["pair_id"])}

    page("/pair", pair_known, "pair.html", one_pair)

    def no_results(asked: filters.Asked) -> Any:
        raise NotFound("No results were given. Start with: persona explore DATASET --results RESULTS_FOLDER")

    page("/results", (), "results.html", no_results if given is None else lambda asked: overview(given))
    page(
        "/result",
        RESULT_PARAMETERS,
        "result.html",
        no_results if given is None else lambda asked: result_page(tables, given, asked),
    )

    @server.get("/report")
    def report() -> Any:
        path = None if given is None else given.report()
        if path is None:
            return problem(404, "There is no report", "Write one with: persona report RESULTS_FOLDER --dataset DATASET")
        return FileResponse(path, media_type="text/html", headers={"content-security-policy": REPORT_POLICY})
