"""What ``make test-engines`` reads and writes: reports of runs, explanations of differences, the document's table."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import replace
from pathlib import Path

import pytest

from dev.engines import __main__ as engines
from dev.engines import differences, table
from dev.engines.differences import Difference
from dev.engines.releases import RELEASES
from dev.engines.session import Run
from dev.junit import Outcome, Verdict, read_junit

TOP = Path(__file__).parents[2]
LIFE = "tests/engine/test_lifecycle.py"
PASSED, SKIPPED, FAILED = (Outcome(verdict) for verdict in Verdict)
REPORT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest">
<testcase classname="tests.engine.test_lifecycle" name="test_plain" time="0.1" />
<testcase classname="tests.engine.test_lifecycle" name="test_with[a.b-1]"><failure message="no&#10;more"/></testcase>
<testcase classname="tests.engine.test_lifecycle" name="test_skipped"><skipped message="no grpcurl"/></testcase>
<testcase classname="tests.engine.test_lifecycle.TestIt" name="test_inner" />
<testcase classname="tests.engine.test_lifecycle" name="test_torn" />
<testcase classname="tests.engine.test_lifecycle" name="test_torn"><error message="left behind">…</error></testcase>
</testsuite></testsuites>
"""


def difference(tests: str, *engines: str, title: str = "Other") -> Difference:
    """An explanation."""
    return Difference(title, "Because.", engines, (re.compile(f"tests/engine/test_{tests}"),))


def runs(**changes: dict[str, Outcome]) -> dict[str, Run]:
    """A run on each engine; all passed, but for the changes."""
    outcomes = {f"{LIFE}::test_conformance_01_it": PASSED, f"{LIFE}::test_b[x]": PASSED}
    return {name: Run("1.2", "1.41", outcomes | changes.get(name[:6], {})) for name in RELEASES}


def test_a_report_gives_each_tests_worst_outcome_by_its_id(tmp_path: Path) -> None:
    (tmp_path / "report.xml").write_text(REPORT)
    assert {
        f"{LIFE}::test_plain": PASSED,
        f"{LIFE}::test_with[a.b-1]": Outcome(Verdict.FAILED, "no"),
        f"{LIFE}::test_skipped": Outcome(Verdict.SKIPPED, "no grpcurl"),
        f"{LIFE}::TestIt::test_inner": PASSED,
        f"{LIFE}::test_torn": Outcome(Verdict.FAILED, "left behind"),
    } == read_junit(tmp_path / "report.xml")


@pytest.mark.parametrize("content", ["", "<testsuites><testsuite>", None])
def test_no_or_half_a_report_is_said_to_be_none(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "report.xml").write_text(content)
    with pytest.raises(ValueError, match=r"report\.xml is no report"):
        read_junit(tmp_path / "report.xml")


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    run = Run("28.5.2", "1.51", {f"{LIFE}::test_a": Outcome(Verdict.FAILED, "why")}, (f"{LIFE}::test_b",))
    run.write(tmp_path / "run.json")
    assert run == Run.read(tmp_path / "run.json")


def test_a_test_that_one_engine_lacks_is_noticed() -> None:
    assert {"b"} == differences.missing([{"a": PASSED, "b": PASSED}, {"a": FAILED}])
    assert set() == differences.missing([{"a": PASSED}, {"a": FAILED}])
    assert set() == differences.missing([])


def test_a_failure_needs_an_explanation_for_its_own_engine_and_a_skipped_test_needs_none() -> None:
    outcomes = {f"{LIFE}::test_{name}": outcome for name, outcome in zip("abc", (PASSED, FAILED, SKIPPED), strict=True)}
    known = [difference(r"lifecycle\.py::test_b", "podman-5.4")]
    assert {} == differences.unexplained("podman-5.4", outcomes, known)
    assert {f"{LIFE}::test_b": FAILED} == differences.unexplained("docker-26.1", outcomes, known)


def test_an_explanation_matches_whole_ids() -> None:
    assert not difference(r"lifecycle\.py::test_b", "podman-5.4").explains("podman-5.4", f"{LIFE}::test_b[x]")


def test_an_explanation_of_what_passes_is_noticed() -> None:
    idle = difference(r"lifecycle\.py::test_a", "docker-26.1", title="Idle")
    outcomes = {f"{LIFE}::test_a": PASSED}
    assert [("Idle", idle.tests[0].pattern)] == differences.outdated("docker-26.1", outcomes, [idle])
    assert [] == differences.outdated("docker-28.5", outcomes, [idle])
    assert [] == differences.outdated("docker-26.1", outcomes, [replace(idle, sometimes=True)])


def test_every_explanation_has_a_reason_known_engines_and_expressions_that_compile() -> None:
    found = differences.read()
    assert len(found) == len({difference.title for difference in found})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ('reason = ""', "needs title, reason"),
        ("engines = []", "needs title, reason"),
        ('engines = ["docker-1"]', "no such engine: docker-1"),
        ('tests = ["("]', "unterminated|missing"),
    ],
)
def test_an_explanation_that_cannot_be_one_is_refused(tmp_path: Path, change: str, said: str) -> None:
    values = {"title": '"T"', "reason": '"R"', "engines": '["podman-5.4"]', "tests": '["x"]'}
    key, _, value = change.partition(" = ")
    lines = [f"{name} = {text}" for name, text in (values | {key: value}).items()]
    (tmp_path / "d.toml").write_text("\n".join(["[[difference]]", *lines]))
    with pytest.raises(ValueError, match=said):
        differences.read(tmp_path / "d.toml")


def test_the_table_counts_and_refers_to_what_explains_the_rest() -> None:
    made = table.text(runs(podman={f"{LIFE}::test_b[x]": FAILED}), [difference(r"lifecycle\.py::.*", "podman-5.4")])
    assert "| all tests | all 2 | all 2 | all 2 | 1 of 2 (1) |" in made
    assert re.search(r"^\| 1: .* \| all 1 \| all 1 \| all 1 \| all 1 \|$", made, re.MULTILINE)
    assert f"1. **Other** (Podman 5.4). Because.\n   Tests: `{LIFE}::test_b`." in made
    assert "Not explained" not in made


def test_the_table_counts_of_a_part_of_the_tests_what_was_run() -> None:
    all_runs = runs(podman={f"{LIFE}::test_b[x]": PASSED})
    part = {f"{LIFE}::test_b[x]": PASSED}
    all_runs["podman-5.4"] = dataclasses.replace(all_runs["podman-5.4"], outcomes=part, selection="b")
    made = table.text(all_runs, [])
    assert "| all tests | all 2 | all 2 | all 2 | all 1 |" in made
    assert re.search(r"^\| 1: .* \| all 1 \| all 1 \| all 1 \| not run \|$", made, re.MULTILINE)
    assert "On Podman 5.4, only the tests that pytest's `-k` selects by `b` were run." in made


def test_the_table_names_a_skipped_test_and_does_not_count_it() -> None:
    made = table.text(runs(podman={f"{LIFE}::test_b[x]": SKIPPED}), [])
    assert "| all tests | all 2 | all 2 | all 2 | all 1 |" in made
    assert f"Skipped on Podman 5.4, since the machine lacked what they need: `{LIFE}::test_b`." in made


def test_the_table_shows_what_nothing_explains() -> None:
    made = table.text(runs(podman={f"{LIFE}::test_b[x]": FAILED}), [])
    assert "1 of 2 (?)" in made
    assert f"**Not explained:** `{LIFE}::test_b`" in made


def test_the_table_replaces_only_what_a_run_made(tmp_path: Path) -> None:
    document = tmp_path / "engines.md"
    document.write_text("# Engines\n\n<!-- from here on made by `make test-engines` -->\n\nstale\n")
    table.write(runs(), [], document)
    text = document.read_text()
    assert text.startswith("# Engines\n\n<!--")
    assert "stale" not in text
    table.write(runs(), [], document)
    assert text == document.read_text()
    document.write_text("# Engines\n")
    with pytest.raises(ValueError, match="lacks the line"):
        table.write(runs(), [], document)


def test_the_document_names_the_engines_that_there_are() -> None:
    text = (TOP / "docs" / "engines.md").read_text()
    assert list(RELEASES) == re.findall(r"^\| `([\w.-]+)` \|", text, re.MULTILINE)
    heads = re.findall(r"^\| \| (Docker .*) \|$", text, re.MULTILINE)
    assert {" | ".join(release.title for release in RELEASES.values())} == set(heads)
    assert "Not explained" not in text


@pytest.mark.parametrize(
    ("arguments", "selections"),
    [
        ([], {**dict.fromkeys(RELEASES, ""), "podman-5.4": "conformance"}),
        (["podman-5.4"], {"podman-5.4": "conformance"}),
        (["-k", "pull", "docker-28.5", "podman-5.4"], {"docker-28.5": "pull", "podman-5.4": "pull"}),
    ],
)
def test_podman_runs_the_conformance_tests_unless_others_are_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], selections: dict[str, str]
) -> None:
    run: dict[str, str] = {}
    images: list[str] = []
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    monkeypatch.setattr(engines.os, "geteuid", lambda: 0)
    monkeypatch.setattr(engines, "run_file", tmp_path.joinpath)
    monkeypatch.setattr(engines, "ensure_bot_image", images.append)
    monkeypatch.setattr(engines, "_run", lambda name, _, selection: run.setdefault(name, selection) == selection)
    assert 0 == engines.main(arguments)
    assert selections == run
    assert bool(images) == ("" in selections.values())
