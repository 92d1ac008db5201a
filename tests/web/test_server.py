"""What the server answers: hearts, masks, downloads, and errors that say what to do."""

import csv
import io
import time
import zipfile
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from starlette.testclient import TestClient

from cinesynth.cases.writing import write_nifti
from cinesynth.data.phantom import phantom_study
from cinesynth.errors import InputError
from cinesynth.io.reproducibility import case_seed
from cinesynth.synthesis.pipeline import CinePipeline
from cinesynth.types import ClinicalPrior, Diagnosis, Label, volumes_ml
from cinesynth.web.app import make_app
from cinesynth.web.guard import ServeSettings
from cinesynth.web.model import unusual
from cinesynth.weights.registry import shipped_bundles
from tests.data.dicom_files import COLUMNS, ROWS, SLICES, write_stack
from tests.web.conftest import HERE, QUICK, Client, finished


def nifti(shape: tuple[int, ...] = (40, 40, 6, 4)) -> bytes:
    """A cine that anybody could send, packed."""
    rng = np.random.default_rng(0)
    image = nib.Nifti1Image(rng.integers(0, 500, shape).astype(np.int16), np.diag([3.0, 3.0, 10.0, 1.0]))
    return image.to_bytes() if len(shape) == 3 else _packed(image)


def _packed(image: nib.Nifti1Image) -> bytes:
    import gzip

    return gzip.compress(image.to_bytes(), compresslevel=1)


def test_the_page_and_its_files(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert "not for diagnosis" in page.text
    for name in ("app.js", "app.css", "vendor/niivue-0.69.0.js"):
        assert client.get(f"/static/{name}").status_code == 200
    assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "unsafe" not in page.headers["content-security-policy"]


def test_the_model_is_loaded_when_it_is_asked_for(weights: Path) -> None:
    from cinesynth.web.model import Model

    model = Model(weights)
    assert model.describe() == {"state": "absent", "error": ""}
    model.load_beside()
    deadline = time.monotonic() + 30
    while model.state != "ready" and time.monotonic() < deadline:
        time.sleep(0.05)
    description = model.describe()
    low, typical, high = (description["diagnoses"]["DCM"][key]["edv"] for key in ("low", "typical", "high"))
    assert low < typical < high
    assert description["overall"]["count"] == sum(one["count"] for one in description["diagnoses"].values())


def test_a_heart_from_wish_to_files(client: TestClient) -> None:
    job = finished(client, client.post("/api/generate", json=QUICK))
    assert (job["state"], job["error"]) == ("done", None)
    (name,) = job["results"]
    result = client.get(f"/api/results/{name}").json()
    assert result["record"]["synthetic"] is True
    assert result["record"]["size"][2] == 6
    assert {"image.nii.gz", "label.nii.gz", "record.json", "sheet.png", "beat.gif"} == set(result["files"])
    label = client.get(f"/api/results/{name}/files/label.nii.gz").content
    assert label[:2] == b"\x1f\x8b"
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"/api/results/{name}/zip/files").content))
    assert {"image.nii.gz", "label.nii.gz", "case.json"} <= set(archive.namelist())
    inside = zipfile.ZipFile(io.BytesIO(client.get(f"/api/results/{name}/zip/nnunet").content)).namelist()
    assert any(path.endswith("_frame01_0000.nii.gz") for path in inside)
    assert client.get("/api/results").json()[0]["id"] == name
    assert client.delete(f"/api/results/{name}").status_code == 204
    assert client.get(f"/api/results/{name}").status_code == 400


def test_the_same_heart_as_from_the_command_line(client: TestClient, weights: Path, tmp_path: Path) -> None:
    job = finished(client, client.post("/api/generate", json={**QUICK, "seed": 11}))
    found = client.get(f"/api/results/{job['results'][0]}").json()["record"]["volumes_ml"]
    cine = CinePipeline.from_pretrained(weights)(
        ClinicalPrior(Diagnosis.NOR, slices=6), frames=2, seed=11, max_attempts=1, match_volumes=False
    )
    assert found["LV"] == pytest.approx(cine.volumes_ml(3).tolist(), abs=1e-3)


def test_an_anatomy_is_kept(client: TestClient) -> None:
    first = finished(client, client.post("/api/generate", json={**QUICK, "edv": 140.0, "ef": 55.0}))["results"][0]
    job = finished(client, client.post("/api/generate", json={**QUICK, "slices": None, "ef": 40.0, "keep": first}))
    assert job["state"] == "done", job["error"]
    labels = [
        nib.Nifti1Image.from_bytes(_unpacked(client.get(f"/api/results/{name}/files/label.nii.gz").content))
        for name in (first, job["results"][0])
    ]
    first_frames = [np.asarray(label.dataobj)[..., 0] for label in labels]
    assert np.array_equal(*first_frames)


def _unpacked(content: bytes) -> bytes:
    import gzip

    return gzip.decompress(content)


@pytest.mark.parametrize("further", [{}, {"edv": 150.0, "ef": 50.0}])
def test_a_diagnosis_that_no_training_subject_had_is_refused(client: TestClient, further: dict) -> None:
    wish = {**QUICK, "diagnosis": "RV", **further}
    for path, more in (("generate", {}), ("cohort", {"count": 2}), ("cohort", {"count": 2, "sample_priors": True})):
        job = finished(client, client.post(f"/api/{path}", json={**wish, **more}))
        assert job["state"] == "failed"
        assert "no training subject has the diagnosis RV" in job["error"]["message"]


def test_several_hearts_one_after_another(client: TestClient) -> None:
    wish = {**QUICK, "slices": None, "count": 3, "sample_priors": True}
    job = finished(client, client.post("/api/cohort", json=wish))
    assert len(set(job["results"])) == 3
    seeds = {client.get(f"/api/results/{name}").json()["seed"] for name in job["results"]}
    assert seeds == {str(case_seed(0, number)) for number in range(3)}  # text: no digit is lost in a browser


def test_a_case_of_a_cohort_is_made_again_from_its_seed_as_the_page_shows_it(client: TestClient) -> None:
    cohort = finished(client, client.post("/api/cohort", json={**QUICK, "count": 2}))["results"][1]
    seed = client.get(f"/api/results/{cohort}").json()["seed"]
    alone = finished(client, client.post("/api/generate", json={**QUICK, "seed": seed}))["results"][0]
    label, again = (client.get(f"/api/results/{name}/files/label.nii.gz").content for name in (cohort, alone))
    assert label == again


def test_a_table_asks_for_hearts_and_they_come_as_a_cohort(client: TestClient) -> None:
    wish = {**QUICK, "slices": None, "table": "diagnosis,slices,count\nDCM,6,2\nNOR,5,1\n"}
    job = finished(client, client.post("/api/cohort", json=wish))
    assert len(job["results"]) == 3
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"/api/jobs/{job['id']}/zip").content))
    rows = list(csv.DictReader(io.StringIO(archive.read("cohort.csv").decode())))
    assert [(row["requested_diagnosis"], row["requested_slices"]) for row in rows] == [
        ("DCM", "6"),
        ("DCM", "6"),
        ("NOR", "5"),
    ]
    assert "case_0002/label.nii.gz" in archive.namelist()


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ("diagnosis,edv\nDCM,9000\n", "table.csv, line 2"),
        ("diagnosis,colour\nDCM,red\n", "colour"),
        ("diagnosis,count\nDCM,5000\n", "asks for 5000 cases"),
        ("", "describes no case"),
    ],
)
def test_a_table_that_cannot_be_met_is_refused_by_its_line(client: TestClient, table: str, said: str) -> None:
    answer = client.post("/api/cohort", json={"table": table})
    assert answer.status_code == 400
    assert said in answer.json()["message"]


def test_a_zip_of_dicom_is_read_where_it_lies(client: TestClient) -> None:
    """The DICOM that the server gave comes back as the same cine; its segmentations are set aside."""
    result = finished(client, client.post("/api/generate", json={**QUICK, "frames": 6, "slices": 7}))["results"][0]
    sent = client.post("/api/uploads", content=client.get(f"/api/results/{result}/zip/dicom").content)
    assert (sent.status_code, sent.json().get("kind")) == (201, "dicom"), sent.text
    state = client.app.state  # type: ignore[attr-defined]
    entry = next(each for each in state.store._entries.values() if each.name == sent.json()["id"])
    plane = state.model.get().grid.size[:2]
    assert sorted(nib.load(entry.files["image"]).shape) == sorted([*plane, 7, 6])
    assert list(entry.folder.iterdir()) == [entry.files["image"]]


def test_a_zip_of_an_ed_stack_is_an_image_without_time(client: TestClient, tmp_path: Path) -> None:
    write_stack(tmp_path / "ed")
    with zipfile.ZipFile(tmp_path / "ed.zip", "w") as archive:
        for path in (tmp_path / "ed").glob("IM??00.dcm"):
            archive.write(path, path.name)
    sent = client.post("/api/uploads", content=(tmp_path / "ed.zip").read_bytes())
    assert (sent.status_code, sent.json().get("kind")) == (201, "dicom"), sent.text
    store = client.app.state.store  # type: ignore[attr-defined]
    entry = next(each for each in store._entries.values() if each.name == sent.json()["id"])
    assert nib.load(entry.files["image"]).shape == (COLUMNS, ROWS, SLICES)


@pytest.mark.skipif("small" not in shipped_bundles(), reason="no weights are shipped in this checkout")
def test_a_heart_that_is_sent_is_measured_and_set_in_motion(tmp_path: Path) -> None:
    """An analytic heart of known millilitres, by weights that know hearts."""
    study = phantom_study(0, frames=6).study
    write_nifti(tmp_path / "ed.nii.gz", study.image[0], study.affine)
    known_ml = float(volumes_ml(study.label, Label.LV, study.voxel_ml)[0])
    app = make_app(ServeSettings(weights=Path("small")))
    with TestClient(app, base_url=HERE) as client:
        upload = client.post("/api/uploads", content=(tmp_path / "ed.nii.gz").read_bytes()).json()["id"]
        job = finished(client, client.post("/api/annotate", json={"upload": upload}))
        assert job["state"] == "done", job["error"]
        result = client.get(f"/api/results/{job['results'][0]}").json()
        assert result["record"]["volumes_ml"]["LV"][0] == pytest.approx(known_ml, rel=0.2)
        assert {"image.nii.gz", "label.nii.gz"} <= set(result["files"])
        wish = {"upload": upload, "ef": 45.0, "frames": 4, "max_attempts": 1}
        job = finished(client, client.post("/api/animate", json=wish))
        assert job["state"] == "done", job["error"]
        record = client.get(f"/api/results/{job['results'][0]}").json()["record"]
        assert record["frames"] == 4
        assert record["achieved"]["ef_percent"] == pytest.approx(45.0, abs=5.0)
        assert "personal data" in record["notice"]


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"edv": 900.0}, "900"),
        ({"ef": 50.0}, "EDV"),
        ({"diagnosis": "COLD"}, "COLD"),
        ({"frames": 1000}, "frames"),
        ({"seed": -1}, "seed"),
        ({"colour": "red"}, "colour"),
        ({"edv": "much"}, "edv"),
        ({"slices": 0}, "0 slices"),
    ],
)
def test_what_no_heart_is_like_is_refused_before_it_waits(client: TestClient, wish: dict, said: str) -> None:
    answer = client.post("/api/generate", json=wish)
    assert answer.status_code == 400
    assert said in answer.json()["message"]
    assert answer.json()["hint"]


def test_a_wish_far_from_all_patients_is_flagged_and_not_forbidden(weights: Path, client: TestClient) -> None:
    prior = CinePipeline.from_pretrained(weights).prior
    typical = prior.draw(0, Diagnosis.NOR)
    assert unusual(prior, typical) == ""
    odd = ClinicalPrior(Diagnosis.NOR, 450.0, slices=4)
    assert "SD from the" in unusual(prior, odd)
    assert unusual(prior, ClinicalPrior()) == ""
    assert client.post("/api/check", json={"edv": 200.0, "ef": 50.0}).json()["esv"] == pytest.approx(100.0)
    for wish, said in (({"ef": 50.0}, "EDV"), ({"frames": None}, "frames")):
        assert said in client.post("/api/check", json=wish).json()["refused"]


def test_a_waiting_job_and_a_running_one_are_cancelled(client: TestClient) -> None:
    long = {**QUICK, "frames": 60, "max_attempts": 5}
    running, waiting = (client.post("/api/generate", json={**long, "seed": seed}).json() for seed in (1, 2))
    assert client.delete(f"/api/jobs/{waiting['id']}").json()["state"] == "cancelled"
    client.delete(f"/api/jobs/{running['id']}")
    deadline = time.monotonic() + 30
    while (job := client.get(f"/api/jobs/{running['id']}").json())["state"] == "running":
        assert time.monotonic() < deadline
    assert job["state"] == "cancelled"
    assert job["results"] == []


def test_one_session_may_not_fill_the_queue(served: Client) -> None:
    client, other = served(), served()
    jobs = [client.post("/api/generate", json={**QUICK, "frames": 40}) for _ in range(6)]
    assert [answer.status_code for answer in jobs][:4] == [202] * 4
    refused = [answer for answer in jobs if answer.status_code == 400]
    assert refused
    assert "already waiting" in refused[0].json()["message"]
    theirs = other.post("/api/generate", json=QUICK)
    assert theirs.status_code == 202
    for answer in jobs:
        if answer.status_code == 202:
            client.delete(f"/api/jobs/{answer.json()['id']}")
    assert finished(other, theirs)["state"] == "done"


def test_reports_are_shown_and_may_run_nothing(weights: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_text(f"<script>alert(1)</script>{name}")
    app = make_app(ServeSettings(weights=weights, reports=tmp_path))
    with TestClient(app, base_url=HERE) as client:
        assert [one["name"] for one in client.get("/api/reports").json()] == ["first", "second"]
        page = client.get("/api/reports/1")
        assert page.text.endswith("second")
        policy = page.headers["content-security-policy"]
        assert "sandbox" in policy
        assert "script" not in policy
        assert client.get("/api/reports/2").status_code == 404
        assert client.get("/api/reports/-1").status_code in (400, 404)
    with pytest.raises(InputError, match="is not a directory"):
        make_app(ServeSettings(weights=weights, reports=tmp_path / "none"))
