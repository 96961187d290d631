"""``pytest --strict-skips``: a skip whose reason is not in ``skips.toml`` fails the run."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

LIST = Path(__file__).with_name("skips.toml")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--strict-skips``."""
    parser.addoption(
        "--strict-skips", action="store_true", help="Fail on a skip that tests/skips.toml lacks."
    )


def pytest_configure(config: pytest.Config) -> None:
    """Only in the process that speaks: workers tell it of their skips."""
    if config.getoption("strict_skips") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(StrictSkips(read_list()))


def read_list(path: Path = LIST) -> list[str]:
    """The reasons that are expected, each with a word on why.

    Raises:
        pytest.UsageError: an entry lacks its reason or its why.
    """
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("skip", [])
    for entry in entries:
        if entry.keys() != {"reason", "why"} or not all(str(v).strip() for v in entry.values()):
            raise pytest.UsageError(f"{path}: {entry} needs a reason and a why, and no more")
    return [entry["reason"] for entry in entries]


class StrictSkips:
    """Hears of every skip, wherever it is raised, and remembers those that are not expected."""

    def __init__(self, expected: list[str]) -> None:
        self.expected = expected
        self.strange: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Of a test; an expected failure is no skip."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self._hear(report)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Of a whole file."""
        if report.skipped:
            self._hear(report)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """Fail a run that has passed otherwise."""
        if self.strange and session.exitstatus in (
            pytest.ExitCode.OK,
            pytest.ExitCode.NO_TESTS_COLLECTED,
        ):
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Say which."""
        for test, reason in sorted(self.strange.items()):
            terminalreporter.write_line(
                f"SKIPPED AND NOT EXPECTED {test}: {reason}; let it run, or put its reason into "
                f"{LIST.parent.name}/{LIST.name}",
                red=True,
            )

    def _hear(self, report: Any) -> None:
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        if not any(expected in reason for expected in self.expected):
            self.strange[report.nodeid] = reason
