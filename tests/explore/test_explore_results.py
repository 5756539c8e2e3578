"""Results beside the data: tables, the rows behind them, and the way from a row to its pair and back."""

import html
import os
import re
import subprocess
import sys
from pathlib import Path

import httpx2
import pytest

from builder.errors import InputError
from eval.explore.app import new_app
from eval.explore.results import ResultsFolder
from eval.models import evaluate_models
from tests.explore.conftest import explorer
from tests.published_folder import write_published_folder
from tests.waiting import wait_until

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def results(small_folder, tmp_path_factory):
    """Of the two baselines, which need no model."""
    folder = tmp_path_factory.mktemp("results")
    evaluate_models(small_folder, [], folder)
    return folder


@pytest.fixture(scope="module")
def client(small_folder, results):
    with explorer(small_folder, results) as address, httpx2.Client(base_url=address, timeout=60) as found:
        yield found


def test_the_tables_of_the_report_are_shown(client):
    for _ in range(4):
        answer = client.get("/results")
        if "being drawn" not in answer.text:
            break
    assert 'href="result?name=models-shorter-answer"' in answer.text
    assert "Revision against base answer (dpf)." in answer.text
    assert not re.search(r"<[^>]*\s(on\w+|style)=|<script(?! src=\"page/)", answer.text)


def test_a_row_of_a_result_leads_to_its_pair_and_the_pair_names_the_scorer(client):
    answer = client.get("/result?name=models-shorter-answer&condition=wrong&q=p00002")
    links = [html.unescape(link) for link in re.findall(r'href="(pair\?id=[^"]*)"', answer.text)]
    assert links
    assert "<td>none</td>" not in answer.text
    said = client.get("/" + links[0])
    assert said.status_code == 200
    assert 'href="result?name=models-shorter-answer"' in said.text


@pytest.mark.parametrize(
    ("page", "status"),
    [
        ("/result?name=../models-shorter-answer", 404),
        ("/result?name=models-shorter-answer&file=../x.parquet", 400),
        ("/result?name=models-shorter-answer&mode=x", 400),
        ("/result?name=models-shorter-answer&condition=%27+OR+1%3D1", 200),
        ("/report", 404),
    ],
)
def test_an_address_that_cannot_be_answered_gives_a_clear_page(client, page, status):
    answer = client.get(page)
    assert answer.status_code == status
    assert "Traceback" not in answer.text


def test_results_of_another_dataset_are_refused(results, tmp_path):
    other = write_published_folder(tmp_path / "other")
    with pytest.raises(InputError, match="another dataset"):
        new_app(str(other), results)


def test_a_report_in_the_folder_is_shown_without_script(results, small_folder):
    (results / "report.html").write_text("<p>The report</p>", encoding="utf-8")
    try:
        with explorer(small_folder, results) as address:
            answer = httpx2.get(f"{address}/report", timeout=30)
    finally:
        (results / "report.html").unlink()
    assert "The report" in answer.text
    assert answer.headers["content-security-policy"].startswith("sandbox; default-src 'none'")


def test_the_program_that_draws_the_tables_ends_with_the_explorer(results):
    """However it ends: here it is killed."""
    slow = "import time, eval.results as r; r.load_results = lambda folder: time.sleep(60); "
    slow += "import eval.explore.sections as s; s.main()"
    code = f"""
import pathlib, subprocess, sys, time
from eval.explore.results import ResultsFolder
start = subprocess.Popen.__init__
def slowly(self, command, **options):
    start(self, [sys.executable, "-c", {slow!r}, command[-1]], **options)
    print(self.pid, flush=True)
subprocess.Popen.__init__ = slowly
given = ResultsFolder(pathlib.Path(sys.argv[1]), sys.argv[2])
time.sleep(60)
"""
    # The explorer's own input stays open: it is not what the program must heed.
    started = subprocess.Popen(
        [sys.executable, "-c", code, str(results), content_of(results)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    child = int(started.stdout.readline())
    os.kill(child, 0)
    started.kill()
    started.wait()
    wait_until(lambda: not alive(child), 120, "the end of the program")
    started.stdin.close()
    started.stdout.close()


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_tables_that_cannot_be_drawn_are_said_to(results, monkeypatch):
    monkeypatch.setattr("eval.explore.results.sys.executable", "/nonexistent/python")
    sections, problem = ResultsFolder(results, content_of(results)).sections(seconds=20)
    assert (sections, problem) == ([], "FileNotFoundError")


def content_of(results):
    from eval.results import load_results

    return next(result.dataset["content_sha256"] for result in load_results(results) if result.dataset)
