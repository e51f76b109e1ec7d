from __future__ import annotations

from pathlib import Path

import pytest

from headrace.console.bench import BEGIN, END, MEASUREMENTS, find_checkout, read_results, with_results
from headrace.console.cli import main
from headrace.model.errors import SettingsError

ROOT = Path(__file__).resolve().parents[2]


def test_every_measurement_is_a_script_of_the_checkout() -> None:
    root = find_checkout(ROOT)
    assert all((root / "benchmarks" / f"{name}.py").is_file() for name in MEASUREMENTS)


def test_an_installed_package_says_that_it_has_none(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="source checkout"):
        find_checkout(tmp_path)


def test_results_replace_the_old_ones_and_nothing_else(tmp_path: Path) -> None:
    page = f"# Title\n\nwords\n\n{BEGIN}\nold\n{END}\n\nmore words\n"
    once = with_results(page, ["## new"])
    assert "old" not in once
    assert once.startswith("# Title\n\nwords\n")
    assert once.endswith("\n\nmore words\n")
    assert with_results(once, ["## new"]) == once
    assert "## new" in with_results("", ["## new"])
    assert with_results("# Title\n", ["## new"]).startswith("# Title\n")


def test_results_come_in_order(tmp_path: Path) -> None:
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    for name in reversed(MEASUREMENTS[:2]):
        (results / f"{name}.md").write_text(f"## {name}\n")
    assert read_results(tmp_path) == [f"## {name}" for name in MEASUREMENTS[:2]]


def test_wrong_names_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "nonsense"])
    assert ended.value.code == 2
    assert "warm_reads" in capsys.readouterr().err
