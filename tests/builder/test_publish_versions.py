"""Version numbers: the step between two, the least that a difference allows, and the changelog."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.errors import InputError
from builder.files import read_json, write_json
from builder.published import parse_version
from builder.publishing.diff import diff_versions
from builder.publishing.versions import (
    STEPS,
    changelog_entry,
    next_version,
    refuse_small_step,
    step_between,
    tag_of,
    version_of,
)

numbers = st.tuples(*[st.integers(0, 30)] * 3).map(lambda three: ".".join(map(str, three)))


def version_folder(folder, version="1.2.3", configs=(), licence=None, **more):
    """A published folder without rows, which differs from another only by its licence or its configs."""
    folder.mkdir()
    build = {"version": version, "configs": {config: {} for config in configs}, "content_sha256": "0" * 64, **more}
    write_json(folder / "build.json", build if licence is None else build | {"licence": licence})
    return folder


@pytest.fixture
def before(tmp_path):
    return version_folder(tmp_path / "before")


@pytest.fixture
def differences(before, tmp_path):
    """{step: a difference from `before` that asks for it}; what asks for a patch needs rows and is in test_publish_diff."""
    return {
        "none": diff_versions(before, before),
        "minor": diff_versions(before, version_folder(tmp_path / "minor", configs=["prompts"])),
        "major": diff_versions(before, version_folder(tmp_path / "major", configs=["prompts"], licence="cc0-1.0")),
    }


@pytest.mark.parametrize("text", ["1.2", "1.2.3.4", "v1.2.3", "01.2.3", "1.2.3-rc1", "", "1.2.3\n", "١.2.3"])
def test_a_version_is_three_plain_numbers(text):
    with pytest.raises(InputError, match="not of the form"):
        parse_version(text)


@given(numbers)
def test_tags_name_versions(version):
    assert version_of(tag_of(version)) == version
    assert version_of(version) is None


@pytest.mark.parametrize("tag", ["v1.2", "v1.2.3-rc1", "V1.2.3", "main", "v01.2.3"])
def test_other_tags_name_none(tag):
    assert version_of(tag) is None


@given(numbers, st.sampled_from(STEPS))
def test_the_next_version_takes_the_step_and_nothing_smaller_does(version, step):
    least = next_version(version, step)
    assert step_between(version, least) == ("patch" if step == "none" else step)
    major, minor, patch = parse_version(least)
    below = [(major, minor, patch - 1), (major, minor - 1, 99), (major - 1, 99, 99)]
    for lower in below:
        if min(lower) >= 0:
            taken = step_between(version, ".".join(map(str, lower)))
            assert STEPS.index(taken) < max(STEPS.index(step), 1)


@given(numbers, numbers)
def test_only_a_higher_version_is_a_step(a, b):
    assert (step_between(a, b) == "none") == (parse_version(b) <= parse_version(a))


@pytest.mark.parametrize(
    ("asked", "refused", "allowed"),
    [
        ("none", ["1.2.3", "1.2.2", "0.9.0"], ["1.2.4", "1.2.9", "1.3.0", "2.0.0"]),
        ("minor", ["1.2.3", "1.2.4", "1.2.99", "1.1.0"], ["1.3.0", "1.4.2", "2.0.0"]),
        ("major", ["1.2.3", "1.2.4", "1.3.0", "1.99.0", "0.1.0"], ["2.0.0", "3.1.4"]),
    ],
)
def test_a_smaller_step_than_asked_is_refused_and_a_larger_one_is_not(before, differences, asked, refused, allowed):
    for version in refused:
        with pytest.raises(InputError, match=r"Give (1\.2\.4|1\.3\.0|2\.0\.0) or more"):
            refuse_small_step(before, version, differences[asked])
    for version in allowed:
        refuse_small_step(before, version, differences[asked])


def test_a_refusal_names_what_asks_for_more_and_the_least_version(before, differences):
    with pytest.raises(InputError) as refused:
        refuse_small_step(before, "1.3.0", differences["major"])
    assert str(refused.value) == (
        "--version 1.3.0 is a minor step from 1.2.3, and what changed asks for a major one: licence: cc-by-4.0 became cc0-1.0. "
        "Give 2.0.0 or more."
    )
    with pytest.raises(InputError, match=r"--version 1\.2\.3 is not above 1\.2\.3.* Give 2\.0\.0 or more"):
        refuse_small_step(before, "1.2.3", differences["major"])


def test_the_changelog_grows_at_the_front_and_names_the_step_taken(tmp_path):
    first = version_folder(tmp_path / "1", "1.0.0")  # as versions were published before there was a changelog
    second = tmp_path / "2"
    entries = changelog_entry(first, "1.1.0", diff_versions(first, version_folder(second, "1.1.0", ["prompts"])))
    assert entries == [
        {"version": "1.1.0", "previous": "1.0.0", "step": "minor", "changes": ["prompts: config added, 0 prompts"]}
    ]
    write_json(second / "build.json", read_json(second / "build.json") | {"changelog": entries})
    third = changelog_entry(second, "2.0.0", diff_versions(second, second))
    assert [(entry["version"], entry["previous"], entry["step"]) for entry in third] == [
        ("2.0.0", "1.1.0", "major"),  # by the numbers, though nothing asked for it
        ("1.1.0", "1.0.0", "minor"),
    ]


@pytest.mark.parametrize("build", [{}, {"version": "1.0"}, {"version": 1}, []])
def test_a_folder_without_a_version_is_refused(tmp_path, differences, build):
    write_json(tmp_path / "build.json", build)
    with pytest.raises(InputError, match="says version"):
        refuse_small_step(tmp_path, "1.3.0", differences["minor"])


def test_a_changelog_that_is_none_is_refused(tmp_path, differences):
    write_json(tmp_path / "build.json", {"version": "1.0.0", "changelog": "much"})
    with pytest.raises(InputError, match="not a list"):
        changelog_entry(tmp_path, "1.3.0", differences["minor"])
