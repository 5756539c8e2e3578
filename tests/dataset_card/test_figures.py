"""Figures are pictures, and the same counts give the same bytes whatever the user's settings are."""

import io
import struct

import pytest

from dataset_card.figures import persona_figure, topic_figure

TOPICS = {
    "Work": 13,
    "Travel ($50 to $90)": 3,
    "A topic whose name goes on and on and on and on until it must be cut": 1,
}
HISTOGRAMS = {
    "age": {"18 to 29": 3, "30 to 44": 9, "45 and more": 5},
    "household_language": {"English": 12, "Español": 4, "x_1^2 $": 1},
    "religion": {},
}


def chunks(png: bytes) -> list[bytes]:
    """The names of a PNG file's chunks; checks the signature on the way."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    position, names = 8, []
    while position < len(png):
        length, name = struct.unpack(">I4s", png[position : position + 8])
        names.append(name)
        position += 12 + length
    return names


@pytest.mark.parametrize("draw", [lambda: topic_figure(TOPICS), lambda: persona_figure(HISTOGRAMS)])
def test_a_figure_is_a_png_without_date_or_version(draw):
    from matplotlib.image import imread

    png = draw()
    names = chunks(png)
    assert names[0] == b"IHDR"
    assert names[-1] == b"IEND"
    assert not {b"tEXt", b"iTXt", b"zTXt", b"tIME"} & set(names)
    picture = imread(io.BytesIO(png))
    assert picture.shape[0] > 100
    assert picture.shape[1] > 400
    assert picture.std() > 0.01


def test_the_same_counts_give_the_same_bytes_under_other_settings():
    import matplotlib

    first = persona_figure(HISTOGRAMS)
    with matplotlib.rc_context({"font.size": 22, "axes.facecolor": "red", "savefig.dpi": 31}):
        assert persona_figure(HISTOGRAMS) == first
    assert topic_figure(TOPICS) == topic_figure(dict(reversed(TOPICS.items())))


def test_other_counts_give_another_picture():
    assert topic_figure({"Work": 1, "Food": 2}) != topic_figure({"Work": 1, "Food": 3})


def test_nothing_to_show_is_still_a_picture():
    assert chunks(topic_figure({}))[-1] == b"IEND"
    assert chunks(persona_figure({}))[-1] == b"IEND"
