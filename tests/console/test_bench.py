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


def test_a_result_replaces_the_old_one_and_nothing_else() -> None:
    first, second = MEASUREMENTS[:2]
    page = f"# Title\n\nwords\n\n{BEGIN}\n\n{END}\n\nmore words\n"
    both = with_results(page, {second: "## second, old", first: "## first\n\n| a |\n|---|"})
    assert both.startswith("# Title\n\nwords\n")
    assert both.endswith("\n\nmore words\n")
    assert both.index("## first") < both.index("## second, old")
    again = with_results(both, {second: "## second, new"})
    assert "## second, old" not in again
    assert "## first\n\n| a |\n|---|\n" in again
    assert with_results(again, {second: "## second, new"}) == again


def test_a_page_without_marks_gets_them_at_its_end() -> None:
    name = MEASUREMENTS[0]
    assert "## new" in with_results("", {name: "## new"})
    added = with_results("# Title\n", {name: "## new"})
    assert added.startswith("# Title\n")
    assert with_results(added, {}) == added


def test_only_results_of_the_names_asked_for_are_read(tmp_path: Path) -> None:
    results = tmp_path / "benchmarks" / "results"
    results.mkdir(parents=True)
    for name in MEASUREMENTS[:2]:
        (results / f"{name}.md").write_text(f"## {name}\n")
    wanted = MEASUREMENTS[1:3]
    assert read_results(tmp_path, wanted) == {MEASUREMENTS[1]: f"## {MEASUREMENTS[1]}"}


def test_wrong_names_are_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["bench", "nonsense"])
    assert ended.value.code == 2
    assert "warm_reads" in capsys.readouterr().err
