"""The explorer's pages over HTTP."""

import html
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2
import pytest

from builder.errors import InputError
from builder.schema import CONFIGS, features
from eval.explore import search
from eval.explore.app import new_app, serve
from eval.explore.database import NEEDED, Tables, TooSlow
from eval.explore.dataset_files import find_dataset
from eval.explore.filters import Asked
from eval.explore.pages.excerpts import hit_in
from eval.explore.pages.home import home_page
from eval.explore.pages.personas import persona_page
from tests.explore.conftest import HOSTILE, RARE, explorer, spoil
from tests.published_folder import build_tables, write_published_folder
from tests.waiting import wait_until

FIRST = "dpf/p00000/q00000"


def links(answer: httpx2.Response, page: str) -> list[str]:
    """Addresses on this page of one kind, in their order, each once."""
    found = re.findall(rf'href="({page}\?[^"]*)"', answer.text)
    return list(dict.fromkeys(html.unescape(link) for link in found))


def ids(answer: httpx2.Response) -> list[str]:
    """The pairs of a list, in its order."""
    rows = re.findall(r'<th scope="row"><a href="pair\?id=([^"&]+)', answer.text)
    return [row.replace("%2F", "/") for row in rows]


def text_of(answer: httpx2.Response) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", answer.text))


@pytest.fixture(scope="module")
def rows(small_folder):
    """pair_id -> the row as written, with its config and split."""
    tables = build_tables(6, 3)
    spoil(tables)
    return {
        row["pair_id"]: {**row, "config": config, "split": split}
        for config in ("dpf", "contrast")
        for split, own in tables[config].items()
        for row in own
    }


def all_pages(client: httpx2.Client, page: str) -> list[list[str]]:
    """The pairs of each page, from the first to the last."""
    found = []
    while True:
        answer = client.get(page)
        assert answer.status_code == 200
        found.append(ids(answer))
        later = re.search(r'rel="next" href="([^"]*)"', answer.text)
        if not later:
            return found
        page = "/" + html.unescape(later[1])


def test_home_says_what_there_is(client, rows):
    said = text_of(client.get("/"))
    assert "9 personas, 6 questions, 54 pairs in dpf" in said
    assert f"{sum(row['config'] == 'contrast' for row in rows.values())} pairs in contrast" in said
    for split in ("train 18", "seen_test 9", "heldout_test 18", "support 9"):
        assert split in said


def test_the_numbers_of_home_are_those_of_pandas(client, small_folder):
    """Shares leave out what nobody judged, `unscored` among it."""
    import pandas

    for config in ("dpf", "contrast"):
        data = pandas.concat(pandas.read_parquet(path) for path in sorted((small_folder / config).glob("*.parquet")))
        judged = data[~data.judge_verdict.isin(["unscored"]) & data.judge_verdict.notna()]
        assert 0 < len(judged) < data.judge_verdict.notna().sum() < len(data), "the test's data have no such rows"
        expected = [data.persona_id.nunique(), data.prompt_id.nunique()]
        expected += [f"{100 * (judged.judge_verdict == 'chosen').mean():.1f} %"]
        flips = None if config == "dpf" else data.flips.map(lambda flips: flips[0]["flip"]).mean()
        expected += ["–" if flips is None else f"{100 * flips:.1f} %"]
        expected += [f"{100 * data.length_violation.mean():.1f} %", f"{100 * data.attribute_leak.mean():.1f} %"]
        expected += [f"{data.chosen_tokens.mean():.0f} / {data.rejected_tokens.mean():.0f}"]
        table = client.get("/").text.partition("The pairs in numbers</h2>")[2]
        row = re.search(rf'<tr><th scope="row">{config}</th>(.*?)</tr>', table, re.DOTALL)
        assert re.findall(r"<span>(?:<a [^>]*>)?([^<]*)", row[1]) == [str(value) for value in expected]


def test_a_judge_who_scored_nothing_prefers_nothing(tmp_path):
    def unscored(tables):
        for splits in tables.values():
            for row in (row for rows in splits.values() for row in rows if "judge_verdict" in row):
                row["judge_verdict"] = "unscored"

    tables = Tables(find_dataset(str(write_published_folder(tmp_path / "data", change=unscored))))
    assert [row["chosen"] for row in home_page(tables)["numbers"]] == [None, None]
    assert {part["judged"] for part in persona_page(tables, "p00000")["pairs"]} == {0}


@pytest.mark.parametrize(
    "page", ["/", "/personas", "/prompts", "/pairs", f"/pair?id={FIRST}", "/persona?id=p00000", "/prompt?id=q00000"]
)
def test_pages_run_no_foreign_script_and_show_no_markup_of_the_data(client, page):
    answer = client.get(page)
    assert answer.status_code == 200
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert not re.search(r"<script(?! src=\"page/)|<img|<[^>]*\s(on\w+|style)=|<b>play|<b>her|<i>", answer.text)


def test_every_link_of_every_page_leads_somewhere(client):
    """All pages are reached from the first one; none of their relative links is broken."""
    seen, waiting = set(), ["./"]
    while waiting and len(seen) < 250:
        link = waiting.pop()
        answer = client.get("/" + link.removeprefix("./"))
        assert answer.status_code == 200, link
        found = {html.unescape(x) for x in re.findall(r'<a [^>]*href="([^"#]*)"', answer.text)}
        waiting += [x for x in sorted(found - seen) if x not in waiting]
        seen |= found
    assert len(seen) > 100


def test_paging_shows_every_pair_once_and_goes_back(client, rows):
    pages = all_pages(client, "/pairs")
    assert len(pages) > 2
    assert sorted(pair for page in pages for pair in page) == sorted(rows)
    last = client.get("/pairs?after=999999")
    assert "No more pairs on this side" in text_of(last)
    third = client.get("/pairs?after=49")
    earlier = re.search(r'rel="prev" href="([^"]*)"', third.text)
    assert earlier
    assert ids(client.get("/" + html.unescape(earlier[1]))) == pages[1]


@pytest.mark.parametrize(
    ("asked", "fits"),
    [
        ("config=contrast", lambda row: row["config"] == "contrast"),
        ("split=support", lambda row: row["split"] == "support"),
        ("persona=p00003", lambda row: row["persona_id"] == "p00003"),
        ("partner=p00003", lambda row: row.get("partner_persona_id") == "p00003"),
        ("prompt=q00004", lambda row: row["prompt_id"] == "q00004"),
        ("topic=work+%26+%3Cb%3Eplay%3C%2Fb%3E", lambda row: row["topic"].startswith("work")),
        ("group=unseen", lambda row: row["persona_group"] == "unseen"),
        ("verdict=rejected", lambda row: row["judge_verdict"] == "rejected"),
        ("flip=yes", lambda row: bool(row.get("flips")) and row["flips"][0]["flip"]),
        ("flip=no", lambda row: bool(row.get("flips")) and not row["flips"][0]["flip"]),
        ("length=yes", lambda row: row["length_violation"]),
        ("leak=yes&config=dpf", lambda row: row["attribute_leak"] and row["config"] == "dpf"),
        ("q=lawyer&in=chosen", lambda row: "lawyer" in row["chosen"][0]["content"]),
        ("q=LAWYER&in=rejected", lambda row: "lawyer" in row["rejected"][0]["content"]),
        ("q=old+cars&in=question", lambda row: "old cars" in row["prompt"][-1]["content"]),
        ("q=100+%25_sure%5C", lambda row: HOSTILE in (row.get("critique") or "")),
        ("q=%25", lambda row: "%" in (row.get("critique") or "")),
        ("q=as+this+person&in=critique&split=seen_test", lambda row: "critique" in row and row["split"] == "seen_test"),
        (
            "q=farmer&persona=p00001&verdict=chosen",
            lambda row: row["persona_id"] == "p00001" and row["judge_verdict"] == "chosen",
        ),
    ],
)
def test_a_filter_gives_the_rows_that_fit(client, rows, asked, fits):
    expected = sorted(pair for pair, row in rows.items() if fits(row))
    assert expected, "the test's data have no such row"
    pages = all_pages(client, f"/pairs?{asked}")
    assert sorted(pair for page in pages for pair in page) == expected
    assert re.search(rf"\b{len(expected)} pairs?\b", text_of(client.get(f"/pairs?{asked}")))


def test_a_search_finds_words_whatever_their_case_and_shows_where(client):
    answer = client.get(f"/pairs?q={RARE}")
    assert len(ids(answer)) == 1
    assert f"<mark>{RARE.upper()}</mark>" in answer.text


def test_a_pair_shows_everything_that_is_known_of_it(client):
    answer = client.get(f"/pair?id={FIRST}")
    said = text_of(answer)
    assert "What do you think about working late?" in said
    assert "As a nurse I like working late." in said
    assert "Rules about working late are rules." in said
    assert HOSTILE in said
    assert said.count("roleplay") == 4
    assert "0.75" in said
    assert "Age, Big five scores" in said
    assert "persona?id=p00000" in answer.text


def test_the_mirror_of_a_contrast_pair_leads_back(client, rows):
    pair = next(pair for pair, row in rows.items() if row["config"] == "contrast")
    answer = client.get(f"/pair?id={pair}")
    mirror = next(link for link in links(answer, "pair") if rows[pair]["mirror_pair_id"].replace("/", "%2F") in link)
    back = client.get("/" + mirror)
    assert rows[pair]["rejected"][0]["content"] in text_of(back)
    assert any(pair.replace("/", "%2F") in link for link in links(back, "pair"))


@pytest.mark.parametrize("asked", ["verdict=tie", "q=lawyer", "config=contrast&q=nurse&in=rejected"])
def test_previous_and_next_stay_in_the_filter(client, asked):
    expected = [pair for page in all_pages(client, f"/pairs?{asked}") for pair in page]
    answer = client.get(f"/pair?id={expected[0]}&{asked}")
    walked = [expected[0]]
    assert 'rel="prev"' not in answer.text
    while later := re.search(r'rel="next" href="([^"]*)"', answer.text):
        answer = client.get("/" + html.unescape(later[1]))
        walked.append(re.search(r"<b>((?:dpf|contrast)/[^<]+)</b>", answer.text)[1])
    assert walked == expected
    earlier = re.search(r'rel="prev" href="([^"]*)"', answer.text)
    assert earlier
    assert expected[-2].replace("/", "%2F") in earlier[1]


def test_plain_texts_and_the_row(client):
    marked, plain = client.get(f"/pair?id={FIRST}"), client.get(f"/pair?id={FIRST}&view=plain")
    assert "<ins>" in marked.text
    assert "<ins>" not in plain.text
    assert '"judge_score": 0.5' in html.unescape(client.get(f"/pair?id={FIRST}&view=row").text)


def test_personas_by_attribute(client):
    values = client.get("/personas?show=religion")
    assert "Catholic 8" in text_of(values)
    assert "Jain <i> 1" in text_of(values)
    assert re.findall(r"p0000\d(?=</a></th>)", client.get("/personas?religion=Jain+%3Ci%3E").text) == ["p00000"]
    assert re.findall(r"p0000\d(?=</a></th>)", client.get("/personas?age=65..74").text) == ["p00001"]
    assert "3 personas" in text_of(client.get("/personas?group=unseen"))
    assert "9 personas" in text_of(client.get("/personas?openness=Average"))
    assert "8 personas" in text_of(client.get("/personas?sex=%28not+given%29"))
    assert "1 persona\n" in text_of(client.get("/personas?q=%25_sure"))


def test_a_persona_shows_values_where_they_are_from_and_why_they_are_absent(client):
    said = text_of(client.get("/persona?id=p00000"))
    assert "census record" in said
    assert "applies, and the answer is none" in said
    assert HOSTILE in said
    assert "honesty" in said
    assert "dpf, train" in said


def test_a_question_shows_its_answers(client):
    said = text_of(client.get("/prompt?id=q00001"))
    assert "Rules about eating meat are rules." in said
    assert said.count("I like eating meat.") == 9
    assert "controversial: 1 of 1" in said
    assert "All of" not in text_of(client.get("/prompts?votes=few&topic=life"))


def test_search_goes_to_an_id_and_else_shows_what_there_is(client):
    for text, page in ((FIRST, "pair"), ("p00002", "persona"), ("q00002", "prompt")):
        answer = client.get("/search", params={"q": text})
        assert answer.status_code == 303
        assert answer.headers["location"].startswith(page)
    said = text_of(client.get("/search?q=nurse"))
    assert "p00000" in said
    assert "hold it in the question, an answer or the critique" in said


@pytest.mark.parametrize(
    ("page", "status", "words"),
    [
        ("/pairs?persona_id=p00000", 400, "There is no filter “persona_id”"),
        ("/pairs?q=" + "a" * 10_000, 400, "10,000 characters"),
        ("/pairs?q=%27%3B+DROP+TABLE+pairs%3B--", 200, "No pair fits"),
        ("/pairs?persona=%27+OR+1%3D1--", 200, "No pair fits"),
        ("/pairs?topic=%27+OR+1%3D1--", 400, "No pair has the topic"),
        ("/pairs?after=99999999999999999999999999", 400, "number of a row"),
        ("/pairs?after=" + "0" * 20 + "9" * 300, 400, "number of a row"),
        ("/pairs?after=-1", 400, "number of a row"),
        ("/pairs?before=0", 200, "No more pairs"),
        ("/pairs?flip=maybe&flip=yes", 400, "given twice"),
        ("/pairs?flip=maybe", 400, "yes or no"),
        ("/pairs?in=prompt&q=a", 400, "“in” is one of"),
        ("/pair?id=dpf/p99999/q00000", 404, "There is no pair dpf/p99999/q00000"),
        ("/pair?id=%00%FF%27%22", 404, "There is no pair"),
        ("/pair", 404, "There is no pair"),
        (f"/pair?id={FIRST}&view=x", 400, "plain or row"),
        ("/persona?id=../../etc/passwd", 404, "There is no persona"),
        ("/prompt?id=zz", 404, "There is no question"),
        ("/personas?show=profile%22", 400, "There is no attribute"),
        ("/personas?age=1e9", 400, "neither"),
        ("/personas?age=" + "9" * 400, 400, "neither"),
        ("/personas?age=..", 400, "neither"),
        ("/personas?income=..", 400, "neither"),
        ("/personas?show=age&age=..", 400, "neither"),
        ("/prompts?votes=none", 400, "one of"),
        ("/results", 404, "No results were given"),
        ("/pairs?__theme=dark", 200, "pairs."),
    ],
)
def test_an_address_that_cannot_be_answered_gives_a_clear_page(client, page, status, words):
    answer = client.get(page)
    assert answer.status_code == status
    assert words in text_of(answer)
    assert "Traceback" not in answer.text


def test_nothing_of_gradio_is_reachable(client):
    for path in ("/config", "/gradio_api/info", "/docs", "/openapi.json", "/file=/etc/passwd", "/nothing"):
        assert client.get(path).status_code == 404


def test_a_query_is_stopped_at_its_time_limit(small_folder):
    tables = Tables(find_dataset(str(small_folder)))
    with pytest.raises(TooSlow):
        tables.ask(
            "SELECT count(*) FROM range(10000000) a, range(10000000) b WHERE (a.range * b.range) % 7 = 3", seconds=0.2
        )
    assert tables.ask("SELECT 1 AS one") == [{"one": 1}]


def test_the_database_reads_no_other_file(small_folder):
    tables = Tables(find_dataset(str(small_folder)))
    for query in (
        f"SELECT * FROM read_text('{small_folder / 'README.md'}')",
        "SELECT * FROM read_csv('http://127.0.0.1:9/x.csv')",
        "SET enable_external_access = true",
        f"COPY (SELECT 1) TO '{small_folder / 'written.csv'}'",
    ):
        with pytest.raises(tables._errors):
            tables.ask(query)
    assert not (small_folder / "written.csv").exists()


def test_a_search_that_is_stopped_says_how_far_it_came_and_goes_on(small_folder, monkeypatch):
    """With a bite of a few rows and time for one bite, the pages together still find everything once."""
    tables = Tables(find_dataset(str(small_folder)))
    asked = Asked({"q": "nurse"})
    expected, after = [], None
    while True:
        page = search.find_pairs(tables, asked, after)
        expected += page.numbers
        if not page.later:
            break
        after = page.numbers[-1]
    monkeypatch.setattr(search, "FIRST_BITE", 5)
    monkeypatch.setattr(search, "LARGEST_BITE", 5)
    clock = iter(range(10_000))
    monkeypatch.setattr(search.time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(search, "SEARCH_SECONDS", 3)
    found, after, stops = [], None, 0
    fresh = Tables(find_dataset(str(small_folder)))
    for _ in range(200):
        page = search._find_texts(fresh, asked, after, None)
        found += page.numbers
        stops += page.stopped_at is not None
        if not page.later:
            break
        after = page.stopped_at if page.stopped_at is not None else page.numbers[-1]
    assert found == expected
    assert stops > 3


def hold(semaphore, places):
    assert all(semaphore.acquire(blocking=False) for _ in range(places))


def no_room():
    if search._room.acquire(blocking=False):
        search._room.release()
        return False
    return True


def test_searches_beyond_those_that_may_wait_are_refused_at_once_and_quick_pages_go_on(small_folder, monkeypatch):
    """Both turns are taken, so that eight wait; the ninth is told so, and a pair is shown without waiting for its neighbours."""
    monkeypatch.setattr(search, "_searches", threading.BoundedSemaphore(search.AT_ONCE))
    monkeypatch.setattr(search, "_room", threading.BoundedSemaphore(search.AT_ONCE + search.MOST_WAITING))
    hold(search._searches, search.AT_ONCE)
    hold(search._room, search.AT_ONCE)
    with explorer(small_folder) as address, ThreadPoolExecutor(search.MOST_WAITING) as pool:
        waiting = [pool.submit(httpx2.get, f"{address}/pairs?q=word{n}", timeout=30) for n in range(8)]
        wait_until(no_room, 120, "eight searches that wait")
        started = time.monotonic()
        refused = httpx2.get(f"{address}/pairs?q=another", timeout=30)
        assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
        assert "Other searches are running" in text_of(refused)
        assert ids(httpx2.get(f"{address}/pairs", timeout=30))
        pair = httpx2.get(f"{address}/pair?id={FIRST}&q=late", timeout=30)
        assert "Previous and Next not found in time: see the list" in text_of(pair)
        listed = links(pair, "pairs")[0]
        assert time.monotonic() - started < search.WAIT_SECONDS / 2
        search._searches.release(search.AT_ONCE)
        assert {future.result().status_code for future in waiting} == {200}
        # What was not found in time is not kept.
        again = httpx2.get(f"{address}/pair?id={FIRST}&q=late", timeout=30)
        assert "not found in time" not in text_of(again)
        assert 'rel="next"' in again.text
        assert FIRST in ids(httpx2.get(f"{address}/{listed}", timeout=30))


def test_neighbours_that_time_cut_short_are_no_end_and_not_kept(small_folder, monkeypatch):
    tables = Tables(find_dataset(str(small_folder)))
    asked = Asked({"q": "lawyer"})
    first, second = search.find_pairs(tables, asked).numbers[:2]
    monkeypatch.setattr(search, "FIRST_BITE", 1)
    monkeypatch.setattr(search, "LARGEST_BITE", 1)
    with monkeypatch.context() as late:
        late.setattr(search, "NEIGHBOUR_SECONDS", 0)
        assert search.neighbours(tables, asked, second) == search.Beside(None, None, ("Previous", "Next"))
    assert search.neighbours(tables, asked, second).earlier == first
    assert search.neighbours(tables, asked, first).earlier is None
    assert search.neighbours(tables, asked, first).unknown == ()


def test_equal_questions_asked_at_once_are_answered_once(small_folder):
    tables = Tables(find_dataset(str(small_folder)))
    begun, go_on, made = threading.Event(), threading.Event(), []

    def make():
        begun.set()
        assert go_on.wait(20)
        made.append(1)
        return "found"

    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(tables.keep, "key", make)
        assert begun.wait(20)
        others = [pool.submit(tables.keep, "key", make) for _ in range(2)]
        go_on.set()
        assert [future.result() for future in (first, *others)] == ["found"] * 3
    assert made == [1]
    # An error is not kept.
    with pytest.raises(ZeroDivisionError):
        tables.keep("other", lambda: 1 / 0)
    assert tables.keep("other", lambda: 2) == 2


def test_pages_of_errors_speak_of_the_explorer(small_folder, monkeypatch):
    def broken(tables, asked):
        raise RuntimeError("broken on purpose")

    monkeypatch.setattr("eval.explore.app.prompts_page", broken)
    with explorer(small_folder) as address:
        missing, failed = httpx2.get(f"{address}/nothing"), httpx2.get(f"{address}/prompts")
    assert (missing.status_code, failed.status_code) == (404, 500)
    assert "Go to the start and search from there" in text_of(missing)
    assert "in the log of the program" in text_of(failed)
    assert "saved" not in text_of(missing) + text_of(failed)


@pytest.mark.parametrize(
    ("text", "sought", "marked"),
    [
        ("\u0130\u0130\u0130 The Nurse sleeps", "nurse", "Nurse"),
        ("a (b) [c]", "(B)", "(B)"),
        ("nothing", "nurse", None),
        ("anything", "", None),
    ],
)
def test_marks_stand_on_the_words_that_were_sought(text, sought, marked):
    """A capital I with a dot has two characters when it is small, which moved every mark behind it."""
    hit = hit_in(text, sought)
    assert (None if hit is None else text[slice(*hit)].lower()) == (None if marked is None else marked.lower())


def test_what_must_be_there_is_what_the_schema_publishes():
    for config in CONFIGS:
        assert set(NEEDED[config]) == set(features(config))


@pytest.mark.parametrize(
    ("config", "change", "words"),
    [
        ("dpf", lambda table: table.drop_columns(["judge", "prompt_tokens"]), "has no column judge, prompt_tokens"),
        ("personas", lambda table: table.drop_columns(["group"]), "config personas has no column group"),
        ("prompts", lambda table: table.drop_columns(["topic"]), "has no column topic"),
        ("judgements", lambda table: table.drop_columns(["reason"]), "has no column reason"),
        ("personas", lambda table: replaced(table, "age", 17.5), "age holds “17.5”, which is no whole number"),
        ("personas", lambda table: replaced(table, "age", "forty"), "age holds “forty”, which is no whole number"),
        ("personas", lambda table: replaced(table, "extras", "none"), "holds extras as VARCHAR"),
    ],
)
def test_a_folder_with_other_columns_is_refused_at_the_start(tmp_path, small_folder, config, change, words):
    import pyarrow.parquet as parquet

    shutil.copytree(small_folder, tmp_path / "data")
    path = sorted((tmp_path / "data" / config).glob("*.parquet"))[0]
    parquet.write_table(change(parquet.read_table(path)), path)
    with pytest.raises(InputError, match=words):
        new_app(str(tmp_path / "data"))


def replaced(table, name, value):
    import pyarrow as arrow

    place = table.column_names.index(name)
    return table.set_column(place, name, arrow.array([value] * table.num_rows))


def test_a_folder_with_pairs_alone_is_explored_and_says_what_is_not_there(tmp_path, small_folder):
    import yaml

    shutil.copytree(small_folder, tmp_path / "data")
    card = tmp_path / "data" / "README.md"
    header = yaml.safe_load(card.read_text().split("---\n", 2)[1])
    header["configs"] = [entry for entry in header["configs"] if entry["config_name"] in ("dpf", "contrast")]
    card.write_text(f"---\n{yaml.safe_dump(header)}---\n")
    with explorer(tmp_path / "data") as address, httpx2.Client(base_url=address, timeout=30) as client:
        for page in ("/", "/pairs", "/pairs?q=nurse", f"/pair?id={FIRST}", "/search?q=nurse"):
            assert client.get(page).status_code == 200, page
        assert not re.search(r'href="(personas|prompts)"', client.get("/").text)
        for page in ("personas", "personas?q=a", "personas?group=seen", "personas?adult=yes", "persona?id=p00000"):
            said = client.get(f"/{page}")
            assert (said.status_code, "has no config personas" in text_of(said)) == (404, True), page
        for page in ("prompts?q=a", "prompts?votes=all", "prompt?id=q00000"):
            said = client.get(f"/{page}")
            assert (said.status_code, "has no config prompts" in text_of(said)) == (404, True), page


def test_parts_are_numbered_through_several_files_of_a_split(small_folder, tmp_path):
    """A split in two files is one list."""
    import pyarrow.parquet as parquet
    import yaml

    folder = tmp_path / "data"
    write_published_folder(folder, seen=6, unseen=3, change=spoil)
    card = (folder / "README.md").read_text().split("---\n", 2)
    header = yaml.safe_load(card[1])
    entry = header["configs"][0]["data_files"][0]
    table = parquet.read_table(folder / entry["path"])
    names = [f"dpf/part-{number}.parquet" for number in range(2)]
    for name, part in zip(names, (table.slice(0, 7), table.slice(7)), strict=True):
        parquet.write_table(part, folder / name)
    (folder / entry["path"]).unlink()
    entry["path"] = "dpf/part-*.parquet"
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(header)}---\n")
    one, two = Tables(find_dataset(str(small_folder))), Tables(find_dataset(str(folder)))
    for number in (0, 6, 7, 17, 18):
        assert one.whole_row(number) == two.whole_row(number) | {
            "file_row_number": one.whole_row(number)["file_row_number"]
        }


def test_wrong_folders_are_refused(tmp_path, small_folder):
    for source, words in (
        (tmp_path / "none", "is not a folder"),
        (tmp_path, "has no README.md"),
        ("hub:nothing", "no address"),
    ):
        with pytest.raises(InputError, match=words):
            find_dataset(str(source))
    card = tmp_path / "README.md"
    for text, words in (
        ("# Mine\n", "lists no configs"),
        ("---\nconfigs: [{config_name: other, data_files: []}]\n---\n", "none of the configs"),
        ("---\nconfigs: [{config_name: dpf, data_files: []}]\n---\n", "no data_files for the config dpf"),
        ("---\nconfigs: [{config_name: dpf, data_files: [{split: train, path: ''}]}]\n---\n", "which names none"),
        ("---\nconfigs: [{config_name: dpf, data_files: [{split: train, path: ../x.parquet}]}]\n---\n", "outside"),
        ("---\nconfigs: [{config_name: dpf, data_files: [{split: train, path: x.parquet}]}]\n---\n", "not there"),
    ):
        card.write_text(text)
        with pytest.raises(InputError, match=words):
            find_dataset(str(tmp_path))
    card.write_text("---\nconfigs: [{config_name: dpf, data_files: [{split: train, path: x.parquet}]}]\n---\n")
    (tmp_path / "x.parquet").write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match="cannot be read"):
        new_app(str(tmp_path))
    with pytest.raises(InputError, match="evaluation result"):
        new_app(str(small_folder), tmp_path)


def test_a_taken_port_is_an_input_error(address, small_folder):
    port = int(address.rpartition(":")[2])
    with pytest.raises(InputError, match="--port"):
        serve(str(small_folder), None, "127.0.0.1", port)


def test_without_duckdb_it_says_what_to_install(small_folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "duckdb", None)
    with pytest.raises(InputError, match=r"persona-testbed\[annotate\]"):
        new_app(str(small_folder))


def test_a_dataset_on_the_hub_is_explored_through_the_cache(hub, small_folder):
    hub.commit("org/name", small_folder, ("v1.0.0",))
    with explorer("hub:org/name@v1.0.0") as found:
        said = text_of(httpx2.get(f"{found}/", timeout=30))
        assert "9 personas, 6 questions" in said
        assert 'load_dataset("org/name", "dpf", revision="v1.0.0")' in said


def test_what_it_imports_is_light():
    code = "import sys, eval.explore.app, eval.explore.results\n"
    code += "print([m for m in ('torch', 'transformers', 'trl', 'datasets') if m in sys.modules])"
    root = Path(__file__).parent.parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
