"""Defect 9: the same command resumes, bit for bit, in every stage."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from safetensors.torch import load_file

from cinesynth.cli.train import train
from cinesynth.cli.weights import bundle
from cinesynth.config import STAGES, Config, dump_config, load_config
from cinesynth.config.migration import RENAMED_STAGES, original_name, original_settings, stage_path
from cinesynth.errors import ConfigError, InputError, WeightsError
from cinesynth.training.run import train_all, train_stage
from cinesynth.training.stages import TimeLimitReached
from cinesynth.weights.bundle import write_bundle
from cinesynth.weights.folder import Bundle, stage_info
from tests.training.tiny import TINY


class Interrupted(Exception):
    pass


def quiet(*_: object) -> None:
    pass


def digests(run: Path) -> dict[str, str]:
    return {s: hashlib.sha256(stage_path(run, s, ".safetensors").read_bytes()).hexdigest() for s in STAGES}


def as_before(run: Path) -> None:
    """Give files, folders, settings and records of a run the names of revision ffe2e86."""
    for old, new in RENAMED_STAGES.items():
        for path in [*run.glob(new), *run.glob(f"{new}.*")]:
            path.rename(path.with_name(path.name.replace(new, old)))
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump(original_settings(config), sort_keys=False))
    for path in run.glob("*.json"):
        text = json.loads(path.read_text())
        if "stage" in text:
            text["stage"], text["config"] = original_name(text["stage"]), original_settings(text["config"])
            text["parents"] = {original_name(parent): sha for parent, sha in text["parents"].items()}
            path.write_text(json.dumps(text))


@pytest.fixture(scope="module")
def undisturbed(phantoms: Path, tiny: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("undisturbed")
    train_all(phantoms, run, tiny, quiet)
    return run


def test_a_run_interrupted_in_each_stage_ends_with_the_same_weights(
    phantoms: Path, tiny: Config, undisturbed: Path, tmp_path: Path
) -> None:
    interruptions = {
        ("vae", 3),
        ("residual_motion", 1),
        ("latents", 5),
        ("anatomy_diffusion", 3),
        ("motion_diffusion", 2),
    }

    def disturb(name: str, done: int, *_: object) -> None:
        if (name, done) in interruptions:
            interruptions.remove((name, done))
            raise Interrupted

    for _ in range(6):
        try:
            train_all(phantoms, tmp_path, tiny, disturb)
            break
        except Interrupted:
            as_before(tmp_path)  # what was begun under the old names goes on
    assert not interruptions
    assert digests(tmp_path) == digests(undisturbed)
    steps = [line.split(",")[0] for line in (tmp_path / "vae" / "metrics.jsonl").read_text().splitlines()]
    assert steps == [f'{{"step": {step}' for step in range(1, 5)]


class Pieces:
    """A clock that is over at every second look."""

    limited = True
    looks = 0

    @property
    def over(self) -> bool:
        self.looks += 1
        return self.looks % 2 == 0


def test_a_run_cut_into_pieces_ends_with_the_same_weights(
    phantoms: Path, tiny: Config, undisturbed: Path, tmp_path: Path
) -> None:
    """Stopped between checkpoints too, and in the middle of the latents."""
    stopped: set[str] = set()
    for _ in range(200):
        try:
            train_all(phantoms, tmp_path, tiny, quiet, Pieces())  # type: ignore[arg-type]
            break
        except TimeLimitReached as stop:
            stopped.add(stop.stage if 0 < stop.done < stop.total else "nowhere")
    assert stopped == {*STAGES, "latents"}
    assert digests(tmp_path) == digests(undisturbed)
    assert max(path.stat().st_size for path in tmp_path.rglob("*.safetensors")) < 16 << 20


def test_no_run_loses_more_than_minutes(
    phantoms: Path, tiny: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps may take half a minute each: then a checkpoint is not waited for until `checkpoint_every_steps`."""
    settings = tiny.training.vae
    rare = settings.model_copy(update={"checkpoint_every_steps": 100, "validate_every_steps": settings.steps})
    monkeypatch.setattr("cinesynth.training.trainer.CHECKPOINT_MINUTES", 0.0)
    config = tiny.model_copy(update={"training": tiny.training.model_copy(update={"vae": rare})})

    def killed(_name: str, done: int, *_: object) -> None:
        if done == 2:
            raise Interrupted

    with pytest.raises(Interrupted):
        train_stage("vae", phantoms, tmp_path, config, killed)
    seen: list[int] = []
    train_stage("vae", phantoms, tmp_path, config, lambda _name, done, *_: seen.append(done))
    assert seen == [3, 4]


def test_the_verb_says_what_is_left(
    phantoms: Path, tiny: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(list(STAGES), phantoms, tmp_path, tiny, minutes=1e-6)
    told = " ".join(capsys.readouterr().err.split())
    assert "vae stopped at 1 of 4: 3 left" in told
    assert "the same command goes on (then residual_motion, anatomy_diffusion, motion_diffusion)" in told
    with pytest.raises(InputError, match="must be positive"):
        train(list(STAGES), phantoms, tmp_path, tiny, minutes=0)


def test_a_finished_run_is_left_alone(phantoms: Path, tiny: Config, undisturbed: Path) -> None:
    before = digests(undisturbed)
    train_stage("vae", phantoms, undisturbed, tiny, lambda *_: pytest.fail("trained again"))
    assert digests(undisturbed) == before


def test_every_stage_says_what_it_saw(undisturbed: Path) -> None:
    """Defect 8: nothing is left out silently."""
    for stage in STAGES:
        info = stage_info(undisturbed, stage)
        assert info["trained_on"]["subjects"] == {"phantom": 7}
        assert info["trained_on"]["frames"] == 42
        assert info["environment"]["git_revision"]
        assert len(info["data_hash"]) == 64
    assert stage_info(undisturbed, "anatomy_diffusion")["trained_on"]["examples"] == 14


def test_other_settings_are_refused(phantoms: Path, undisturbed: Path) -> None:
    other = load_config("smoke", [*TINY, "training.seed=5"])
    with pytest.raises(ConfigError, match=r"training\.seed: 0 in the run, 5 now"):
        train_stage("vae", phantoms, undisturbed, other, quiet)


def test_stages_of_different_runs_are_not_mixed(phantoms: Path, undisturbed: Path, tmp_path: Path) -> None:
    """Defect 2: a stage knows the codec, and so the scale, that it was trained on."""
    other = load_config("smoke", [*TINY, "training.seed=1"])
    train_stage("vae", phantoms, tmp_path, other, quiet)
    for stage in STAGES[1:]:
        for suffix in ("json", "safetensors"):
            (tmp_path / f"{stage}.{suffix}").write_bytes((undisturbed / f"{stage}.{suffix}").read_bytes())
    with pytest.raises(WeightsError, match="was trained with vae"):
        write_bundle(tmp_path, tmp_path / "bundle", {}, {})


def test_the_verb_names_the_terms_of_the_data(
    phantoms: Path, undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle(undisturbed, phantoms, tmp_path / "weights")
    info = Bundle.load(tmp_path / "weights").info
    assert (info["licence"], info["licences"]) == ("Apache-2.0", {"phantom": "Apache-2.0"})
    assert info["citations"] == []
    told = capsys.readouterr().out
    assert "licence Apache-2.0" in told
    assert "hint" not in told


def test_a_bundle_loads_and_an_altered_one_does_not(undisturbed: Path, tmp_path: Path) -> None:
    write_bundle(undisturbed, tmp_path, {"note": "test"}, {"licence": "Apache-2.0"})
    assert Bundle.load(tmp_path).info["licence"] == "Apache-2.0"
    path = tmp_path / "anatomy_diffusion.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(WeightsError, match="altered"):
        Bundle.load(tmp_path)
    path.unlink()
    with pytest.raises(WeightsError, match="missing"):
        Bundle.load(tmp_path)


def kill_in(stage: str, command: list[str], run: Path, lines: int, extra_seconds: float) -> None:
    """Start the command, wait until ``stage`` has done ``lines`` steps and a little longer, and kill -9."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    metrics, deadline = run / stage / "metrics.jsonl", time.monotonic() + 300
    while process.poll() is None and time.monotonic() < deadline:
        if metrics.is_file() and len(metrics.read_text().splitlines()) >= lines:
            break
        time.sleep(0.02)
    time.sleep(extra_seconds)
    if process.poll() is None:
        os.kill(process.pid, signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_killed_at_a_random_moment_of_each_stage(
    phantoms: Path, tiny: Config, undisturbed: Path, tmp_path: Path
) -> None:
    """The real thing: kill -9 from outside in each of the four stages, then to the end."""
    (tmp_path / "tiny.yaml").write_text(dump_config(tiny))
    run, moments = tmp_path / "run", random.Random(0)
    command = [sys.executable, "-m", "cinesynth", "train", "all", "--dataset", str(phantoms)]
    command += ["--run", str(run), "--preset", str(tmp_path / "tiny.yaml")]
    for stage in STAGES:
        kill_in(stage, command, run, moments.randint(1, 3), moments.uniform(0.0, 0.3))
        piece = subprocess.run([*command, "--minutes", "0.001"], check=True, capture_output=True, text=True)
        finished = (run / f"{STAGES[-1]}.json").is_file()  # fast machines: what was left of the last stage fits a piece
        assert finished != ("the same command goes on" in piece.stderr)
    subprocess.run(command, check=True, capture_output=True)
    assert digests(run) == digests(undisturbed)


@pytest.mark.slow
def test_two_processes_train(phantoms: Path, undisturbed: Path, tiny: Config, tmp_path: Path) -> None:
    """Each process takes half of every batch; the sum is the same step up to rounding."""
    (tmp_path / "tiny.yaml").write_text(dump_config(tiny))
    command = [str(Path(sys.executable).with_name("accelerate")), "launch", "--multi_gpu", "--num_processes", "2"]
    command += [
        "--num_machines",
        "1",
        "--mixed_precision",
        "no",
        "--dynamo_backend",
        "no",
        "-m",
        "cinesynth",
        "train",
        "all",
    ]
    command += ["--dataset", str(phantoms), "--run", str(tmp_path / "run"), "--preset", str(tmp_path / "tiny.yaml")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true"}
    subprocess.run(command, check=True, capture_output=True, env=environment, timeout=600)
    for stage in STAGES:
        assert stage_info(tmp_path / "run", stage)["trained_on"]["subjects"] == {"phantom": 7}


def test_training_starts_from_weights_that_are_there(
    phantoms: Path, tiny: Config, undisturbed: Path, tmp_path: Path
) -> None:
    quick = ["training.vae.learning_rate=1e-9", "training.vae.ema_decay=0", "training.vae.warmup_steps=0"]
    still = load_config("smoke", [*TINY, *quick])
    info = train_stage("vae", phantoms, tmp_path / "run", still, quiet, initial=undisturbed)
    assert info["trained_on"]["started_from"] == stage_info(undisturbed, "vae")["id"]
    before, after = (load_file(folder / "vae.safetensors") for folder in (undisturbed, tmp_path / "run"))
    name = "vae.encoder.stem.conv.weight"
    assert float((before[name] - after[name]).abs().max()) < 1e-6  # it learned next to nothing
    assert float(before[name].abs().max()) > 1e-2


def test_a_stage_does_not_change_where_it_started(
    phantoms: Path, tiny: Config, undisturbed: Path, tmp_path: Path
) -> None:
    def stop(*_: object) -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        train_stage("vae", phantoms, tmp_path, tiny, stop)
    with pytest.raises(ConfigError, match="begun from nothing, now it should start from"):
        train_stage("vae", phantoms, tmp_path, tiny, quiet, initial=undisturbed)
    wider = load_config("smoke", [*TINY, "vae.latent_channels=5"])
    with pytest.raises(WeightsError, match="vae cannot start from"):
        train_stage("vae", phantoms, tmp_path / "other", wider, quiet, initial=undisturbed)
