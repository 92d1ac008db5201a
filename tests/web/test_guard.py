"""What is tried against servers: none of it may leak, lose or hang anything."""

import io
import struct
import threading
import zipfile
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from cinesynth.errors import InputError
from cinesynth.web.app import make_app
from cinesynth.web.guard import ServeSettings, read_password
from cinesynth.web.schemas import without_paths
from cinesynth.web.store import Store
from tests.conftest import Run
from tests.web.conftest import HERE, QUICK, Client, finished
from tests.web.test_server import nifti

CLIMBS = ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%2e%2e/%2e%2e/etc/passwd", "....//etc/passwd", "/etc/passwd",
          "image.nii.gz/../case.json", "image.nii.gz%00.png", "C:\\boot.ini"]  # fmt: skip


@pytest.mark.parametrize("name", CLIMBS)
def test_no_name_leads_out_of_a_result(client: TestClient, name: str) -> None:
    result = finished(client, client.post("/api/generate", json=QUICK))["results"][0]
    for address in (f"/api/results/{result}/files/{name}", f"/api/results/{name}/files/image.nii.gz",
                    f"/api/results/{result}/zip/{name}", f"/static/{name}"):  # fmt: skip
        answer = client.get(address)
        assert answer.status_code in (400, 404), (address, answer.status_code)
        assert "root:" not in answer.text


def test_another_sessions_things_are_not_there(served: Client) -> None:
    mine, theirs = served(), served()
    job = finished(mine, mine.post("/api/generate", json=QUICK))
    result = job["results"][0]
    nowhere = theirs.get("/api/results/AAAAAAAAAAAAAAAAAAAAAA")
    for address in (f"/api/results/{result}", f"/api/results/{result}/files/image.nii.gz", f"/api/jobs/{job['id']}"):
        answer = theirs.get(address)
        assert (answer.status_code, answer.json()) == (400, nowhere.json())  # as if it had never been
        assert mine.get(address).status_code == 200
    assert theirs.delete(f"/api/results/{result}").status_code == 400
    assert theirs.get("/api/results").json() == []
    assert theirs.post("/api/generate", json={**QUICK, "keep": result}).status_code == 400
    upload = mine.post("/api/uploads", content=nifti()).json()["id"]
    assert theirs.post("/api/annotate", json={"upload": upload}).status_code == 400


def test_a_session_that_a_client_makes_up_gets_nothing(client: TestClient) -> None:
    client.cookies.set("cinesynth_session", "x' OR 1=1")
    answer = client.get("/api/results")
    assert answer.json() == []
    assert "HttpOnly" in answer.headers["set-cookie"]
    assert "SameSite=Strict" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "neither NIfTI nor a zip"),
        (b"<html><script>alert(1)</script>", "neither NIfTI nor a zip"),
        (b"\x1f\x8b\x08\x00 broken", "neither NIfTI nor a zip"),
        (b"PK\x03\x04 broken", "neither NIfTI nor a zip"),
        (b"\x89PNG\r\n\x1a\n" + bytes(400), "neither NIfTI nor a zip"),
    ],
)
def test_content_decides_what_an_upload_is(client: TestClient, content: bytes, said: str) -> None:
    answer = client.post("/api/uploads", content=content, headers={"content-type": "application/gzip"})
    assert answer.status_code == 400
    assert said in answer.json()["message"]


def test_more_bytes_than_allowed_are_refused_with_and_without_a_length(client: TestClient) -> None:
    large = bytes(9 * 2**20)
    assert client.post("/api/uploads", content=large).status_code == 413
    chunks = (large[i : i + 2**16] for i in range(0, len(large), 2**16))
    answer = client.post("/api/uploads", content=chunks)
    assert answer.status_code == 413
    assert "larger than 8 MiB" in answer.json()["message"]
    assert client.post("/api/uploads", content=b"x", headers={"content-length": str(5 * 2**30)}).status_code == 413
    assert client.post("/api/generate", content=b" " * 70_000).status_code == 413


def zipped(members: dict[str, bytes]) -> bytes:
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return memory.getvalue()


def test_a_zip_writes_nothing_whatever_its_names_say(client: TestClient, tmp_path: Path) -> None:
    marker = tmp_path / "slipped"
    content = zipped({f"../../../../../../..{marker}": b"x", "/etc/slipped": b"x", "a/../../b": b"x"})
    answer = client.post("/api/uploads", content=content)
    assert answer.status_code == 400
    assert not marker.exists()
    assert str(tmp_path) not in answer.text


def test_a_zip_that_grows_without_end_is_refused(client: TestClient) -> None:
    answer = client.post("/api/uploads", content=zipped({f"{i}.dcm": bytes(2**24) for i in range(4)}))
    assert answer.status_code == 400
    assert "suspicious archive" in answer.json()["message"]


def test_a_header_that_claims_terabytes_costs_nothing(client: TestClient) -> None:
    header = bytearray(nifti((8, 8, 4)))
    struct.pack_into("<8h", header, 40, 4, 30000, 30000, 3000, 100, 1, 1, 1)
    sent = client.post("/api/uploads", content=bytes(header))
    assert sent.status_code == 201
    job = finished(client, client.post("/api/annotate", json={"upload": sent.json()["id"]}))
    assert job["state"] == "failed"
    assert "/" not in job["error"]["message"].replace("and/or", "")


def test_html_in_what_is_asked_stays_text(client: TestClient) -> None:
    answer = client.post("/api/generate", json={"vendor": "<img src=x onerror=alert(1)>"})
    told = answer.json() if answer.status_code != 202 else finished(client, answer)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert told.get("state") in (None, "failed")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 400),
        ({"host": "[::1]:7860"}, 202),
        ({"host": "127.0.0.1.evil.example:7860"}, 400),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": HERE, "sec-fetch-site": "same-origin"}, 202),
        ({}, 202),
    ],
)
def test_other_pages_cannot_ask(client: TestClient, headers: dict[str, str], status: int) -> None:
    answer = client.post("/api/generate", json=QUICK, headers=headers)
    assert answer.status_code == status
    assert "access-control-allow-origin" not in answer.headers
    if status == 202:
        finished(client, answer)


def test_twenty_at_once_all_get_an_answer(served: Client) -> None:
    codes: list[int] = []

    def ask() -> None:
        client = served()
        codes.append(client.post("/api/generate", json=QUICK).status_code)

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert codes == [202] * 20
    client = served()
    assert finished(client, client.post("/api/generate", json=QUICK))["state"] == "done"  # after all of them


def test_the_oldest_results_make_room(tmp_path: Path) -> None:
    store = Store(limit_bytes=3000, keep_s=3600)
    entries = [store.new("me", "generate") for _ in range(4)]
    for i, entry in enumerate(entries):
        entry.made = float(i) + entry.made
        (entry.folder / "x").write_bytes(bytes(1000))
    store.clean()
    assert [entry.folder.exists() for entry in entries] == [False, True, True, True]
    with pytest.raises(InputError, match="not in your session"):
        store.get("me", entries[0].name)
    store.close()
    assert not store.root.exists()


def test_nothing_stays_behind(weights: Path) -> None:
    app = make_app(ServeSettings(weights=weights))
    with TestClient(app, base_url=HERE) as client:
        finished(client, client.post("/api/generate", json=QUICK))
        root = app.state.store.root
        assert any(root.iterdir())
    assert not root.exists()


def test_a_password_is_asked_for(weights: Path) -> None:
    app = make_app(ServeSettings(weights=weights, host="0.0.0.0", password="long enough"))
    with TestClient(app, base_url="http://lab.example:7860") as client:
        for auth in (None, ("me", "wrong"), ("me", "")):
            answer = client.get("/", auth=auth)
            assert answer.status_code == 401
            assert "Basic" in answer.headers["www-authenticate"]
        assert client.get("/api/model", headers={"authorization": "Basic %%%"}).status_code == 401
        assert client.get("/", auth=("me", "long enough")).status_code == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "lab.example"])
def test_nobody_serves_strangers_without_saying_so(host: str, run: Run) -> None:
    code, _, err = run("serve", "--host", host)
    assert code == 2
    assert "--password-file, or --no-auth" in err
    assert ServeSettings(host=host, no_auth=True).is_local is False


def test_a_password_file_is_for_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("long enough\n")
    path.chmod(0o644)
    with pytest.raises(InputError, match="readable by other users"):
        read_password(path)
    path.chmod(0o600)
    assert read_password(path) == "long enough"
    path.write_text("short\n")
    with pytest.raises(InputError, match="shorter than 8"):
        read_password(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("/tmp/cinesynth-x/abc/image.nii.gz cannot be read", "image.nii.gz cannot be read"),
        ("weights in /home/someone/w: altered", "weights in w: altered"),
        ("3/4 of the heart, and/or 1 mm", "3/4 of the heart, and/or 1 mm"),
        ("C:\\Users\\me\\a.nii is damaged", "a.nii is damaged"),
    ],
)
def test_no_path_of_the_server_is_told(text: str, told: str) -> None:
    assert without_paths(text) == told
