"""Nothing is dropped silently: what an ingestion leaves out is on a list, with the reason."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cinesynth.data.ingest import ingest, read_skipped, write_skipped
from cinesynth.data.sources import Skipped, Source
from cinesynth.errors import DataError
from cinesynth.types import Study

MakeStudy = Callable[..., Study]


def source(make_study: MakeStudy, *names: str, skipped: tuple[Skipped, ...] = ()) -> Source:
    """Drawn studies; the ones called ``bad...`` cannot be read."""

    def read(name: str) -> Study:
        if name.startswith("bad"):
            raise DataError(f'{name} is broken, like "this", or\nthat', hint="copy it again")
        return make_study(name)

    return Source(names, read, skipped)


def test_what_is_left_out_is_listed_with_its_reason(make_study: MakeStudy, tmp_path: Path) -> None:
    out = tmp_path / "data"
    skipped = (Skipped("scout", "one slice"),)
    summary = ingest(source(make_study, "a", "bad1", "b", skipped=skipped), out, on_error="skip")
    assert [row.subject for row in summary.added] == ["a", "b"]
    assert [each.name for each in summary.skipped] == ["bad1", "scout"]
    assert read_skipped(out) == summary.skipped
    assert summary.skipped[0].hint == "copy it again"
    assert (out / "skipped.csv").read_text().startswith("name,reason,hint\nbad1,")


def test_the_list_grows_and_tells_everything_once(make_study: MakeStudy, tmp_path: Path) -> None:
    out = tmp_path / "data"
    ingest(source(make_study, "a", "bad1"), out, on_error="skip")
    ingest(source(make_study, "b", "bad1", "bad2"), out, on_error="skip")
    assert [each.name for each in read_skipped(out)] == ["bad1", "bad2"]


def test_where_nothing_is_left_out_there_is_no_list(make_study: MakeStudy, tmp_path: Path) -> None:
    ingest(source(make_study, "a"), tmp_path / "data", on_error="skip")
    assert not (tmp_path / "data" / "skipped.csv").exists()
    assert read_skipped(tmp_path / "data") == ()


def test_stop_leaves_nothing_behind(make_study: MakeStudy, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="bad1 is broken"):
        ingest(source(make_study, "a", "bad1"), tmp_path / "data", on_error="stop")
    assert not (tmp_path / "data").exists()


def test_a_source_of_which_nothing_can_be_read_says_why(make_study: MakeStudy, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no study could be read") as caught:
        ingest(source(make_study, *(f"bad{i}" for i in range(9))), tmp_path / "data", on_error="skip")
    assert "bad0 is broken" in caught.value.message
    assert "and 4 more" in caught.value.message
    assert caught.value.hint
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("text", ["", "name,reason\na,b\n", "name,reason,hint\na,b\n", "\xff"])
def test_a_damaged_list_is_told_before_anything_is_read(make_study: MakeStudy, tmp_path: Path, text: str) -> None:
    ingest([make_study("a")], tmp_path)
    (tmp_path / "skipped.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(DataError, match=r"skipped\.csv is damaged"):
        ingest(Source(("b",), lambda _: pytest.fail("read")), tmp_path)


def test_a_list_under_the_old_name_goes_on(make_study: MakeStudy, tmp_path: Path) -> None:
    ingest(source(make_study, "a", "bad1"), tmp_path, on_error="skip")
    (tmp_path / "skipped.csv").rename(tmp_path / "rejected.csv")
    ingest(source(make_study, "b", "bad2"), tmp_path, on_error="skip")
    assert [each.name for each in read_skipped(tmp_path)] == ["bad1", "bad2"]
    assert not (tmp_path / "rejected.csv").exists()


def test_the_list_comes_back(tmp_path: Path) -> None:
    entries = (Skipped("é, ü", 'a "b"\nc', ""), Skipped("x", "y", "z"))
    write_skipped(tmp_path, entries)
    assert read_skipped(tmp_path) == entries
