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


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("generate --count 2 --overwrite --out x", "--overwrite cannot be combined with --count"),
        ("generate --cohort c.csv --overwrite --out x", "--overwrite cannot be combined with --cohort"),
        ("generate --edv 120 --workers 2 --out x", "--workers cannot be combined with a single case"),
        ("export --to nifti --dataset d --out x --select edes", "--select has no effect on --to nifti"),
        ("export --to dicom --dataset d --out x --label-order mnms", "--label-order has no effect on --to dicom"),
        ("export --to nifti --dataset d --out x --no-segmentations", "--segmentations has no effect on --to nifti"),
        ("export --to nifti --case c --out x --split test", "--split has no effect without --dataset"),
        ("export --to nifti --case c --out x --subject s1", "--subject has no effect without --dataset"),
        ("score --dataset d --count 0 --frames 30", "--frames has no effect with --count 0"),
        ("score --dataset d --count 0 --no-match-volumes", "--match-volumes has no effect with --count 0"),
        ("study s.yaml --out x --slurm partition=gpu", "--slurm has no effect without --launcher slurm"),
        ("study s.yaml --out x --unit a --list", "--list has no effect beside --unit"),
        ("study s.yaml --out x --list --report", "--report has no effect beside --list"),
    ],
)
def test_an_option_without_effect_is_refused(run: Run, command: str, said: str) -> None:
    code, _, err = run(*command.split())
    assert code == 2
    assert said in " ".join(err.split())
    assert "hint: leave it out" in err


def test_options_of_another_target_are_no_options_of_the_default(run: Run) -> None:
    """Defaults are not given: what is refused is only what somebody typed."""
    code, _, err = run("export", "--to", "nifti", "--dataset", "nowhere", "--out", "x")
    assert code == 3
    assert "not a dataset" in err
