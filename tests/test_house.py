"""The house rules that a program can see."""

import ast
import importlib.util
import json
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from importlinter.cli import lint_imports

import cinesynth
from cinesynth.config import load_config, presets

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = [
    *(
        ROOT / name
        for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "MODEL_CARD.md", "benchmarks/README.md")
    ),
    *sorted((ROOT / "docs").rglob("*.md")),
]
EXPERIMENTS = sorted((ROOT / "docs" / "experiments").glob("0*.md"))
UNPICKLERS = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def trees() -> Iterator[tuple[Path, ast.Module]]:
    for path in SOURCES:
        yield path, ast.parse(path.read_text())


def functions() -> Iterator[tuple[str, int]]:
    for path, tree in trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name_of(path)}:{node.lineno} {node.name}", (node.end_lineno or 0) - node.lineno + 1


# --- the package -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("module", ["cinesynth", "cinesynth.cli", "cinesynth.web.app"])
def test_import_is_silent_and_brings_nothing_heavy(module: str) -> None:
    code = f"""
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("the import reached for the network")
socket.socket.connect = refuse
import cinesynth, {module}
heavy = {{"torch", "diffusers", "matplotlib", "accelerate", "monai"}} & set(sys.modules)
assert not heavy, heavy
assert "CinePipeline" in dir(cinesynth)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_pipeline_is_exported_lazily() -> None:
    from cinesynth.synthesis.pipeline import CinePipeline

    assert cinesynth.CinePipeline is CinePipeline
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = cinesynth.Nothing


def test_the_four_presets_load() -> None:
    assert {"smoke", "small", "compact", "base", "paper"} <= set(presets())
    for preset in presets():
        assert load_config(preset).preset == preset


def test_each_preset_says_what_it_costs() -> None:
    for path in (ROOT / "src/cinesynth/presets").glob("*.yaml"):
        assert path.read_text().startswith(f"# {path.stem}: "), f"{path.name} has no header"


def test_the_version_is_one() -> None:
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == cinesynth.__version__
    assert f"## [{cinesynth.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


# --- the command line and the documents ---------------------------------------------------------------------------


def help_of(words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    from cinesynth.cli import main

    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(sys, "argv", ["cinesynth", *words, "--help"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code in (0, None), f"cinesynth {' '.join(words)} is not a command"
    return capsys.readouterr().out


def commands(page: Path) -> Iterator[list[str]]:
    """Words of each command line in the ``bash`` blocks of a page, or in the recipes of the Makefile."""
    if page.suffix == ".md":
        lines = "\n".join(re.findall(r"```bash\n(.*?)```", page.read_text(), flags=re.DOTALL)).splitlines()
    else:
        lines = [x.replace("$(BIN)/", "").lstrip() for x in page.read_text().splitlines() if x.startswith("\t$(BIN)")]
    whole = "\n".join(lines).replace("\\\n", " ").splitlines()  # a backslash continues a command on the next line
    yield from filter(None, (shlex.split(line, comments=True) for line in whole))


def test_help_names_the_verbs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = help_of([], monkeypatch, capsys)
    for verb in ("ingest", "prepare", "train", "bundle", "score", "generate"):
        assert re.search(rf"\b{verb}\b", text), f"cinesynth --help does not name {verb}"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "Makefile"], ids=name_of)
def test_documented_commands_exist(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    for words in commands(page):
        if words[0] == "make":
            assert set(words[1:]) <= targets, " ".join(words)
        if words[0] == "cinesynth":
            text = help_of(words[1:2], monkeypatch, capsys)
            if re.search(r"Usage:.*COMMAND", text):
                text = help_of(words[1:3], monkeypatch, capsys)
            for option in (w for w in words if w.startswith("--")):
                assert re.search(rf"{option}\b", text), f"{' '.join(words)}: no {option}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{name_of(page)} links to {target}"


@pytest.mark.parametrize("page", EXPERIMENTS, ids=lambda page: page.stem)
def test_an_experiment_is_short_and_its_figures_are_kept(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    assert re.findall(r"^## (.*)$", text, flags=re.MULTILINE) == ["Question", "Command", "Result", "Conclusion"]
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert sum(line.startswith("|---") for line in rows) == 1, "one table"
    assert len(re.sub(r"^\|.*$", "", text, flags=re.MULTILINE).split()) <= 300

    record = json.loads((ROOT / "benchmarks" / "results" / f"{page.stem}.json").read_text())
    assert record["experiment"] == page.stem
    shown = [cell.strip(" *`") for line in rows[2:] for cell in line.strip("|").split("|")]
    kept = [value for row in record["tables"]["result"] for value in row.values()]
    assert [number(cell.replace("`", "")) for cell in shown] == [number(str(value)) for value in kept]


def test_the_reference_covers_every_module_command_and_setting() -> None:
    """`docs/hooks.py` generates these pages when mkdocs runs."""
    pytest.importorskip("mkdocs")
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "hooks.py")
    assert spec is not None
    assert spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    modules = {".".join(p.relative_to(ROOT / "src").with_suffix("").parts) for p in SOURCES if p.stem != "__main__"}
    pages = "\n".join(hooks.api_pages().values())
    assert set(re.findall(r"^::: (.*)$", pages, flags=re.MULTILINE)) == {m.removesuffix(".__init__") for m in modules}
    assert "### cinesynth generate\n" in hooks.commands()
    assert "| `--edv " in hooks.commands()
    assert "| `grid.size` | [64, 64, 12] | [96, 96, 12] | [192, 192, 16] |" in hooks.settings()


def number(cell: str) -> float | str:
    try:
        return float(cell)
    except ValueError:
        return " ".join(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cell.replace("*", "")).split())


# --- the code ------------------------------------------------------------------------------------------------------


def test_imports_point_one_way(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    failed = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert not failed, capsys.readouterr().out


def opens_pickles(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] in UNPICKLERS for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        return (node.module or "").split(".")[0] in UNPICKLERS
    if isinstance(node, ast.Attribute):
        return ast.unparse(node) in ("torch.load", "torch.save")
    if isinstance(node, ast.keyword) and node.arg == "allow_pickle":
        return not (isinstance(node.value, ast.Constant) and node.value.value is False)
    return False


@pytest.mark.parametrize("code", ["import pickle", "torch.load(p)", "np.load(p, allow_pickle=True)"])
def test_the_pickle_detector_sees(code: str) -> None:
    assert any(opens_pickles(node) for node in ast.walk(ast.parse(code)))


def test_nothing_is_pickled() -> None:
    found = [
        f"{name_of(p)}:{getattr(node, 'lineno', '?')}"
        for p, t in trees()
        for node in ast.walk(t)
        if opens_pickles(node)
    ]
    assert not found


def test_files_are_short() -> None:
    lengths = {name_of(path): path.read_text().count("\n") for path in SOURCES}
    assert {name: lines for name, lines in lengths.items() if lines > 300} == {}


def test_functions_are_short() -> None:
    lengths = dict(functions())
    assert {name: lines for name, lines in lengths.items() if lines > 60} == {}
    assert statistics.median(lengths.values()) <= 10


def test_every_defect_of_the_released_code_has_its_test() -> None:
    """`docs/explanation/differences-from-the-paper.md` lists fourteen; a test names each it keeps out."""
    text = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    named = {int(number) for number in re.findall(r"[Dd]efect (\d+)", text)}
    assert named == set(range(1, 15))
