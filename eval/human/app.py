"""The study as raters meet it: which request gets which page, and what it writes. docs/human_study.md names every address.

A POST writes and answers with a redirect, so that reload, Back and a double click lose and repeat nothing. Nothing is kept between two
requests but in the database.
"""

import io
import logging
import os
import secrets
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from builder.errors import InputError
from eval.human import pages, refusals
from eval.human.export import export_files
from eval.human.forms import Fields, address_of, characters_pasted, is_password, question_number, read_form
from eval.human.material import ShownPersona
from eval.human.opening import open_study
from eval.human.pages import VISIT, Asked, Typed, link
from eval.human.records import CHOICES, Rater
from eval.human.refusals import Refused
from eval.human.store import PANEL_ID, AlreadyFinishedError, Store, StudyFullError, plain_text
from eval.human.study import LONGEST_ANSWER, Study
from eval.web.rate_limit import RateLimit
from eval.web.server import launch, new_server, page_response

PASSWORD = "PERSONA_STUDY_PASSWORD"  # the environment variable that opens /export
SHORTEST_PASSWORD = 12  # characters
FAILURES_PER_MINUTE = 20  # of one address: unknown tokens, wrong passwords
LONGEST_TOKEN = 64  # characters that are looked up; ours have 22
NEW_RATERS_PER_MINUTE = 5  # of one address, in an open study: whoever makes ids up does not take all places at once


@dataclass(frozen=True)
class Desk:
    """What every request needs. password: of /export, shut without one. proxies: how many stand before us, each adding the address that
    it was asked from to X-Forwarded-For; 0 believes no such line."""

    study: Study
    store: Store
    password: str | None
    proxies: int
    by_rater: RateLimit
    newcomers: RateLimit = field(default_factory=lambda: RateLimit(NEW_RATERS_PER_MINUTE))  # by address
    failures: RateLimit = field(default_factory=lambda: RateLimit(FAILURES_PER_MINUTE))  # by address


def serve(study_path: Path, database: Path | None, host: str, port: int, proxies: int = 0) -> None:
    """Serve until Ctrl-C or SIGTERM. Raises InputError as open_study does, for a weak password, and where the port is taken."""
    password = os.environ.get(PASSWORD) or None
    if password is not None and len(password) < SHORTEST_PASSWORD:
        raise InputError(
            f"{PASSWORD} has {len(password)} characters, and whoever guesses it has every answer. Give at least {SHORTEST_PASSWORD}, or "
            "unset it to keep /export shut."
        )
    study, store = open_study(study_path, database)
    try:
        server = study_server(study, store, password=password, proxies=proxies)
        launch(server, host, port, announce=_announcement(study_path, study, store, host, port, password is not None))
    finally:
        store.close()
    print(f"Stopped. Every answer is in {store.path}.")


def _announcement(study_path: Path, study: Study, store: Store, host: str, port: int, export_open: bool) -> str:
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    issued = len(store.raters())
    lines = [
        f"{study.title} is served at {address}",
        f"{study.raters} places: {study.personas} personas, {study.raters_per_persona} raters each.",
    ]
    if study.recruiting == "open":
        lines.append(
            f"Whoever comes may take part. Give the panel {address}/?{study.panel_parameter}=ID, with its placeholder for ID."
        )
    elif issued:
        lines.append(f"{issued} tokens are issued; raters need the links that `persona annotate tokens` wrote.")
    else:
        lines.append(f"No token is issued yet. Run: persona annotate tokens {study_path} --address {address}")
    lines.append(f"Answers are kept in {store.path}")
    lines.append(
        f"/export is {'open to who has the password.' if export_open else f'shut; set {PASSWORD} to open it.'}"
    )
    lines.append(f"Look on with: persona annotate status {study_path}    End with Ctrl-C.")
    return "\n".join(lines)


def study_server(study: Study, store: Store, *, password: str | None = None, proxies: int = 0) -> Any:
    """The `gradio.Server` of the study, for eval.web.server.launch."""
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request

    desk = Desk(study, store, password, proxies, RateLimit(study.requests_per_minute))
    server = new_server(study.title)

    def answered(answer: Callable[[Desk, str, Fields], Any], address: str, fields: Fields) -> Any:
        try:
            return answer(desk, address, fields)
        except InputError as error:
            # Such errors are written for who runs the study, and name its files: a rater gets a page without them.
            logging.getLogger("uvicorn.error").error("%s", error)
            raise refusals.no_storage(fields.get("token", "")) from None

    def get(path: str, answer: Callable[[Desk, str, Fields], Any]) -> None:
        def page(request: Request) -> Any:
            return answered(answer, address_of(request, proxies), dict(request.query_params))

        server.get(path)(page)

    def post(path: str, answer: Callable[[Desk, str, Fields], Any]) -> None:
        async def page(request: Request) -> Any:
            return await run_in_threadpool(answered, answer, address_of(request, proxies), await read_form(request))

        server.post(path)(page)

    get("/", start)
    post("/begin", begin)
    get("/question", question)
    post("/answer", answer)
    get("/finish", review)
    post("/finish", finish)
    get("/thanks", thanks)

    @server.get("/export")
    def export(request: Request) -> Any:
        authorization = request.headers.get("authorization")
        return answered(
            lambda desk, address, _: export_zip(desk, address, authorization), address_of(request, proxies), {}
        )

    @server.exception_handler(Refused)
    def refused(request: Request, error: Refused) -> Any:
        headers = {"retry-after": str(int(error.wait) + 1)} if error.wait else {}
        html = pages.message_page(study, error.title, error.words, error.forward, error.forward_words)
        return page_response(html, error.status, headers)

    return server


def start(desk: Desk, address: str, fields: Fields) -> Any:
    """GET /: the instructions, or the page where the rater was."""
    token = fields.get("token", "").strip()
    if token:
        rater = _rater(desk, address, token)
        if rater.state == "new":
            return page_response(pages.instructions_page(desk.study, token))
        return _redirect("thanks" if rater.state == "finished" else "question", token=token)
    if desk.study.recruiting == "open":
        # Without an id of a panel the form has one of its own, so that a double click on Begin makes one rater.
        panel = fields.get(desk.study.panel_parameter, "").strip() or f"{VISIT}{secrets.token_urlsafe(16)}"
        if not PANEL_ID.fullmatch(panel):
            raise refusals.incomplete()
        return page_response(pages.instructions_page(desk.study, panel=panel))
    return page_response(pages.token_page(desk.study))


def begin(desk: Desk, address: str, fields: Fields) -> Any:
    """POST /begin: consent is given; the rater gets a persona."""
    token, panel, consent = fields.get("token", ""), fields.get("panel", ""), fields.get("consent") == "yes"
    rater = _rater(desk, address, token) if token or desk.study.recruiting != "open" else None
    if rater is not None and rater.state != "new":
        return _redirect("question", token=token)
    if not consent:
        problem = "Tick the box to agree, if you want to take part."
        return page_response(pages.instructions_page(desk.study, token, panel, problem), 422)
    if rater is None:
        rater, token = _newcomer(desk, address, panel)
    try:
        rater = desk.store.begin(rater.rater_id)
    except StudyFullError:
        raise Refused(
            409,
            "All places are taken",
            "Thank you for coming. Everybody who is needed is taking part already, so there is nothing to do for you now, and no answer of "
            "yours was recorded. A place may become free again: you can try once more later.",
            link("./", token=token),
            "Try again",
        ) from None
    return _redirect("question", token=token)


def question(desk: Desk, address: str, fields: Fields) -> Any:
    """GET /question: never one beyond the first that is open."""
    token = fields.get("token", "")
    rater = _rater(desk, address, token)
    if rater.state != "open":
        return _redirect("thanks" if rater.state == "finished" else "./", token=token)
    persona, asked = _asked(desk, rater)
    number, farthest = question_number(fields.get("n", "")), _first_open(asked)
    if number is None and farthest is None:
        return _redirect("finish", token=token)
    if number is None or number > (farthest or len(asked)):
        return _redirect("question", token=token, n=farthest or len(asked))
    desk.store.show(rater.rater_id, asked[number - 1].item_id)
    saved = _saved(asked, fields)
    return page_response(pages.question_page(desk.study, token, rater.rater_id, persona, asked, number, saved=saved))


def answer(desk: Desk, address: str, fields: Fields) -> Any:
    """POST /answer: saved before anything is sent back; what does not fit comes back as it was typed."""
    token = fields.get("token", "")
    rater = _rater(desk, address, token)
    if rater.state == "new":
        return _redirect("./", token=token)
    persona, asked = _asked(desk, rater)
    this = next((one for one in asked if one.item_id == fields.get("item")), None)
    if this is None:
        raise Refused(
            422,
            "This question is not one of yours",
            "Nothing was saved, and nothing that was saved before is lost. Go on with your own questions.",
            link("question", token=token),
            "To my questions",
        )
    typed = Typed(
        fields.get("choice", ""), plain_text(fields.get("reason", "")), characters_pasted(fields.get("pasted", ""))
    )
    problems = _problems(desk.study, typed)
    if not problems:
        try:
            desk.store.save(rater.rater_id, this.item_id, typed.choice, typed.reason, typed.pasted)
        except AlreadyFinishedError:
            raise refusals.final(token) from None
    if problems and rater.state == "finished":
        raise refusals.final(token)
    if problems:
        html = pages.question_page(
            desk.study, token, rater.rater_id, persona, asked, this.number, typed=typed, problems=problems
        )
        return page_response(html, 422)
    following = _first_open([one for one in asked if one is not this])
    if following is None:
        return _redirect("finish", token=token, saved=this.number)
    return _redirect("question", token=token, n=following, saved=this.number)


def review(desk: Desk, address: str, fields: Fields) -> Any:
    """GET /finish: everything once more, before it is final."""
    token = fields.get("token", "")
    rater = _rater(desk, address, token)
    if rater.state != "open":
        return _redirect("thanks" if rater.state == "finished" else "./", token=token)
    _, asked = _asked(desk, rater)
    if _first_open(asked) is not None:
        return _redirect("question", token=token)
    return page_response(pages.finish_page(desk.study, token, rater.rater_id, asked, _saved(asked, fields)))


def finish(desk: Desk, address: str, fields: Fields) -> Any:
    """POST /finish."""
    token = fields.get("token", "")
    rater = _rater(desk, address, token)
    if rater.state == "open":
        _, asked = _asked(desk, rater)
        if _first_open(asked) is not None:
            return _redirect("question", token=token)
        desk.store.finish(rater.rater_id)
    return _redirect("./" if rater.state == "new" else "thanks", token=token)


def thanks(desk: Desk, address: str, fields: Fields) -> Any:
    """GET /thanks: the completion code, for who has finished."""
    token = fields.get("token", "")
    rater = _rater(desk, address, token)
    if rater.state != "finished":
        return _redirect("./", token=token)
    return page_response(pages.thanks_page(desk.study, rater.rater_id))


def export_zip(desk: Desk, address: str, authorization: str | None) -> Any:
    """GET /export: what `persona annotate export` writes, for who has the password. There is no such page where no password is set."""
    from fastapi import HTTPException
    from starlette.responses import Response

    if desk.password is None:
        raise HTTPException(404)
    if authorization is not None:
        wait = desk.failures.wait(address)
        if wait:  # before the password is looked at: a right one says nothing either
            raise refusals.too_many(wait, "./")
        if is_password(authorization, desk.password):
            content = io.BytesIO()
            with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
                for name, data in export_files(desk.store).items():
                    # Of a fixed date: the same answers give the same file.
                    archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), data, zipfile.ZIP_DEFLATED)
            headers = {"content-disposition": f'attachment; filename="{desk.store.path.stem}-export.zip"'}
            return Response(content.getvalue(), media_type="application/zip", headers=headers)
        desk.failures.take(address)
    words = "This page is for who runs the study. Give any user name, and the password that was set when the study was started."
    html = pages.message_page(desk.study, "A password is needed", words, "./", "To the start")
    return page_response(html, 401, {"www-authenticate": 'Basic realm="Export of the study", charset="UTF-8"'})


def _rater(desk: Desk, address: str, token: str) -> Rater:
    """Raises Refused for a token that was not issued, and for a rater, or an address with wrong tokens, that comes too often."""
    rater = desk.store.rater(token) if 0 < len(token) <= LONGEST_TOKEN and token.isascii() else None
    if rater is not None:
        wait = desk.by_rater.take(rater.rater_id)
        if wait:
            raise refusals.too_many(wait, link("./", token=token))
        return rater
    # Only who is wrong is kept waiting: raters behind the same address go on.
    wait = desk.failures.take(address)
    if wait:
        raise refusals.too_many(wait, "./")
    raise Refused(
        404,
        "This link is not known",
        "No part of the study belongs to it. It may have been cut off where it was copied: open it again from where it was sent to you, "
        "and take care that it is whole.",
        "./",
        "Enter the token by hand" if desk.study.recruiting == "tokens" else "To the start",
    )


def _newcomer(desk: Desk, address: str, panel: str) -> tuple[Rater, str]:
    """The rater of a panel's id, who may have come before. Raises Refused for what is no id, and for an address with too many new ones."""
    panel = panel.strip()
    if not PANEL_ID.fullmatch(panel):
        raise refusals.incomplete()
    token = desk.store.panel_token(panel)
    if desk.store.rater(token) is None:
        wait = desk.newcomers.take(address)
        if wait:
            raise refusals.too_many(wait, link("./", **{desk.study.panel_parameter: panel}))
        desk.store.token_for(panel)
    return _rater(desk, address, token), token


def _asked(desk: Desk, rater: Rater) -> tuple[ShownPersona, list[Asked]]:
    persona = next(one for one in desk.store.material.personas if one.persona_id == rater.persona_id)
    return persona, pages.asked_of(persona, desk.store.items_of(rater), desk.store.answers(rater.rater_id))


def _first_open(asked: list[Asked]) -> int | None:
    return next((one.number for one in asked if one.answer is None), None)


def _problems(study: Study, typed: Typed) -> list[tuple[str, str]]:
    """(id of the field, what to do) of everything that is missing, so that nobody mends one thing only to meet the next."""
    found = []
    if typed.choice not in CHOICES:
        found.append(("choice-A", "Choose one of the two answers."))
    length = len(typed.reason.strip())
    if length < study.minimum_characters:
        found.append(
            (
                "reason",
                f"Your reasoning has {length} characters. Write {study.minimum_characters} or more: why would this person prefer it?",
            )
        )
    elif length > LONGEST_ANSWER:
        found.append(
            ("reason", f"Your reasoning has {length:,} characters. Shorten it to {LONGEST_ANSWER:,} or fewer.")
        )
    return found


def _saved(asked: list[Asked], fields: Fields) -> int | None:
    number = question_number(fields.get("saved", ""))
    return number if number is not None and number <= len(asked) and asked[number - 1].answer is not None else None


def _redirect(page: str, **values: object) -> Any:
    from starlette.responses import RedirectResponse

    return RedirectResponse(link(page, **values), status_code=303)
