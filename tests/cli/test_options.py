"""Old names of verbs and options are understood, and named on stderr."""

import pytest

from cinesynth.cli.options import OPTIONS_BY_VERB, SHARED_OPTIONS, VERBS, with_new_names
from tests.conftest import Run


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("generate --tries 5 --no-control --out x", "generate --max-attempts 5 --no-match-volumes --out x"),
        ("generate --tries=5", "generate --max-attempts=5"),
        ("generate --frames 30", "generate --frames 30"),
        ("export --data d --frames edes", "export --dataset d --select edes"),
        ("report d --out page.html", "qc d --out page.html"),
        ("study spec.yaml --report", "study spec.yaml --report"),
        ("known-hearts --data d", "training-index --dataset d"),
        ("weights use phantom", "weights set-default phantom"),
        ("", ""),
    ],
)
def test_an_old_name_becomes_the_new_one(old: str, new: str) -> None:
    said: list[str] = []
    assert with_new_names(old.split(), said.append) == new.split()
    changed = sum(a.split("=")[0] != b.split("=")[0] for a, b in zip(old.split(), new.split(), strict=True))
    assert len(said) == changed


def test_the_word_is_on_stderr_alone(run: Run) -> None:
    code, out, err = run("weights", "use", "--help")
    assert code == 0
    assert "set-default" in out
    assert err.strip() == "warning: `weights use` is now called `weights set-default`; the old name will stop working"


def test_every_new_name_is_there(run: Run) -> None:
    for new in VERBS.values():
        assert run(*new, "--help")[0] == 0
    for verb, options in OPTIONS_BY_VERB.items():
        words = (verb, "all", "--help") if verb == "train" else (verb, "--help")
        text = run(*words)[1]
        assert all(name in text for name in options.values()), verb
    text = run("generate", "--help")[1]
    assert all(name in text for name in SHARED_OPTIONS.values())
