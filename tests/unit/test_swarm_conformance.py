"""What ``make test-swarm`` reads and writes: the report of its run, the declared differences, the document's table."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from dev.engines.session import Run
from dev.engines.table import conforms, promises
from dev.junit import Outcome, Verdict, read_junit, read_properties
from dev.swarm import conformance, differences, table
from dev.swarm.differences import Difference

TOP = Path(__file__).parents[2]
MODULE = "tests/swarm/test_conformance_runs.py"
PASSED, SKIPPED, FAILED = (Outcome(verdict) for verdict in Verdict)
OTHERWISE = Difference("Otherwise", "Because.", (2, 4), (f"{MODULE}::test_conformance_02_x",))
REPORT = """<?xml version="1.0" encoding="utf-8"?>
<testsuites><testsuite name="pytest">
<properties><property name="installed" value="20.10.24+dfsg1 1.41"/>
<property name="docker-28.5" value="28.5.2 1.51"/></properties>
<testcase classname="tests.swarm.test_conformance_runs" name="test_a[installed]" time="0.1" />
<testcase classname="tests.swarm.test_conformance_runs" name="test_a[docker-28.5]"><failure message="no"/></testcase>
<testcase classname="tests.swarm.test_conformance_runs" name="test_b[docker-28.5-installed images]" />
<testcase classname="tests.swarm.test_conformance_runs" name="test_b[x-installed-y]" />
<testcase classname="tests.swarm.test_bed" name="test_c" />
</testsuite></testsuites>
"""


def functions(module: str) -> set[str]:
    """The tests of a module, also those in classes, and of the classes of the backends' contract that it inherits."""
    tree = ast.parse((TOP / module).read_text(encoding="utf-8"))
    found = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    for imported in (node for node in tree.body if isinstance(node, ast.ImportFrom)):
        if any(each.name.endswith("Contract") for each in imported.names):
            found |= functions(f"{str(imported.module).replace('.', '/')}.py")
    return found


def runs(**outcomes: Outcome) -> dict[str, Run]:
    """A run of one engine, of the tests of these numbers."""
    return {
        "installed": Run("20.10", "1.41", {f"{MODULE}::test_conformance_{n[1:]}_x": o for n, o in outcomes.items()})
    }


def test_the_outcomes_of_a_run_are_told_apart_by_engine(tmp_path: Path) -> None:
    path = tmp_path / "report.xml"
    path.write_text(REPORT)
    found = conformance.runs_of(read_junit(path), read_properties(path))
    assert {"installed": ("20.10.24+dfsg1", "1.41"), "docker-28.5": ("28.5.2", "1.51")} == {
        name: (run.version, run.api_version) for name, run in found.items()
    }
    assert [f"{MODULE}::test_a[installed]", f"{MODULE}::test_b[x-installed-y]"] == list(found["installed"].outcomes)
    assert {Verdict.FAILED, Verdict.PASSED} == {each.verdict for each in found["docker-28.5"].outcomes.values()}
    assert {} == conformance.runs_of(read_junit(path), {})


def test_every_difference_names_promises_and_tests_that_there_are() -> None:
    declared = differences.read()
    assert len(declared) == len({difference.title for difference in declared})
    for difference in declared:
        assert set(difference.promises) <= set(promises()), difference.title
        for test in difference.tests:
            module, _, name = test.partition("::")
            assert name in functions(module), test


def test_every_promise_is_tested_on_a_swarm_or_declared_to_differ() -> None:
    modules = [f"tests/swarm/{path.name}" for path in (TOP / "tests" / "swarm").glob("test_*.py")]
    names = {f"::{name}" for module in modules for name in functions(module)}
    tested = {number for number in promises() if any(conforms(number) in name for name in names)}
    declared = {number for difference in differences.read() for number in difference.promises}
    assert set(range(1, 19)) <= tested
    assert set(promises()) == tested | declared


@pytest.mark.parametrize("lacking", ["title", "reason", "promises", "tests"])
def test_a_difference_that_is_incomplete_is_refused(tmp_path: Path, lacking: str) -> None:
    values = {"title": '"T"', "reason": '"R"', "promises": "[1]", "tests": '["x"]'}
    lines = [f"{name} = {value}" for name, value in values.items() if name != lacking]
    (tmp_path / "d.toml").write_text("\n".join(["[[difference]]", *lines]))
    with pytest.raises(ValueError, match="needs title, reason"):
        differences.read(tmp_path / "d.toml")


def test_the_table_counts_passed_tests_and_refers_to_the_differences() -> None:
    made = table.text(runs(_01=PASSED, _02=PASSED, _03=SKIPPED), [OTHERWISE])
    assert re.search(r"^\| \| Docker 20\.10 \| differences \|$", made, re.MULTILINE)
    cells = dict(re.findall(r"^\| (\d+): .* (\| [^|]* \| [^|]*) \|$", made, re.MULTILINE))
    assert ["| all 1 | ", "| all 1 | 1", "| not run | ", "| all 1 | 1"] == [cells[number] for number in "1234"]
    assert f"1. **Otherwise.** Because.\n   Tests: `{OTHERWISE.tests[0]}`." in made
    assert "Failed" not in made


def test_the_table_shows_what_failed_and_which_part_was_run() -> None:
    (run,) = runs(_01=FAILED, _02=PASSED).values()
    made = table.text({"installed": Run(run.version, run.api_version, run.outcomes, selection="conformance")}, [])
    assert re.search(r"^\| 1: .* \| 0 of 1 \|  \|$", made, re.MULTILINE)
    assert f"**Failed on Docker 20.10:** `{MODULE}::test_conformance_01_x`" in made
    assert "On Docker 20.10, only the tests named `conformance` were run." in made


def test_the_document_has_the_table_of_both_engines_and_the_differences_as_they_are_declared() -> None:
    text = table.DOCUMENT.read_text(encoding="utf-8")
    heads = re.findall(r"^\| \| (Docker .*) \| differences \|$", text, re.MULTILINE)
    assert [len(conformance.ENGINES)] == [head.count("Docker ") for head in heads]
    own = table.text({}, differences.read())
    assert own[own.index("## Differences") :] == text[text.index("## Differences") :]
    assert "**Failed" not in text
