"""Uploads: nobody fills the disk or the memory with them, and who reads how far one is sees their own."""

import asyncio
import os
import threading
import time
from contextlib import ExitStack

import pytest
from gradio.routes import file_upload_statuses

from wanda_ui.gate import kept
from wanda_ui.gate import uploads as module
from wanda_ui.gate.kept import ALL, EACH, FILES, Kept
from wanda_ui.gate.refusal import RefusedError
from wanda_ui.gate.uploads import MOST_AT_ONCE, MOST_READERS, Uploads

ME, YOU = frozenset({"me"}), frozenset({"you"})


@pytest.fixture
def uploads(monkeypatch):
    monkeypatch.setattr(module, "COMING", 0.0)
    return Uploads()


def read(uploads, name, visitors):
    """-> what ends the reading, or the status it is refused with"""
    try:
        return asyncio.run(uploads.reader(name, visitors))
    except RefusedError as refused:
        return refused.status


def test_the_progress_of_an_upload_is_its_visitors_and_for_few_at_once(uploads):
    assert read(uploads, "a", ME) == 404
    with uploads.coming("here", "a", ME):
        file_upload_statuses.track("a")
        assert read(uploads, "a", YOU) == 404
        ends = [read(uploads, "a", ME) for _ in range(MOST_READERS)]
        assert read(uploads, "a", ME) == 429
        with pytest.raises(RefusedError), uploads.coming("there", "a", YOU):
            pass
    assert "a" in file_upload_statuses._statuses  # until its readers have seen the end
    for end in ends:
        end()
    assert read(uploads, "a", ME) == 404
    assert not {"a"} & {*file_upload_statuses._statuses, *file_upload_statuses._signals}
    assert not uploads._under_way


def test_an_upload_whose_progress_nobody_reads_leaves_nothing(uploads):
    with uploads.coming("here", "b", ME):
        file_upload_statuses.track("b")
    assert not {"b"} & {*file_upload_statuses._statuses, *file_upload_statuses._signals}


def test_few_uploads_of_one_address_come_at_once(uploads):
    with ExitStack() as stack:
        for _ in range(MOST_AT_ONCE):
            stack.enter_context(uploads.coming("here", None, ME))
        with pytest.raises(RefusedError):
            stack.enter_context(uploads.coming("here", None, ME))
        stack.enter_context(uploads.coming("there", None, YOU))
        for _ in range(2 * MOST_AT_ONCE):
            stack.enter_context(uploads.coming("", None, ME))  # on one's own machine
    with uploads.coming("here", None, ME):
        pass
    assert not uploads._at_once


@pytest.fixture
def bring(tmp_path):
    """Keep a file of some bytes of some owner's; -> its path. What is counted is then what is kept."""
    kept = Kept()

    def bringing(name, who, size=10, in_use=()):
        path = tmp_path / name / "a.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"x" * size)
        asyncio.run(kept.keep(str(path), who, 10, lambda: {str(tmp_path / each / "a.txt") for each in in_use}))
        shares = {"": kept._all, **kept._of}
        assert all(share.nbytes == sum(map(kept._sizes.get, share.paths)) for share in shares.values())
        assert {path for share in kept._of.values() for path in share.paths} == set(kept._all.paths) == set(kept._sizes)
        return path

    bringing.kept = kept
    return bringing


def test_of_too_many_uploads_the_oldest_go_and_never_one_that_is_worked_on(bring, tmp_path):
    for number in range(EACH + 3):
        bring(f"{number}", "here", in_use=["0"])
    left = {int(path.name) for path in tmp_path.iterdir()}
    assert left == {0, *range(4, EACH + 3)}
    for number in range(100, 100 + ALL):
        bring(f"{number}", f"of {number}", in_use=["0"])
    left = {int(path.name) for path in tmp_path.iterdir()}
    assert len(left) == ALL
    assert 0 in left
    assert 4 not in left
    assert bring.kept._all.nbytes == 10 * ALL


def test_a_file_of_two_visitors_stays_for_the_other_and_one_that_has_gone_counts_no_more(bring, tmp_path):
    shared, old = bring("shared", "here"), bring("old", "here")
    bring("shared", "there")
    for number in range(EACH - 2):
        last = bring(f"{number}", "here")
    old.unlink()  # as Gradio does after an hour
    bring("more", "here")
    assert last.exists()
    assert (tmp_path / "0" / "a.txt").exists()
    for number in range(100, 100 + EACH):
        bring(f"{number}", "here")
    assert not last.exists()
    assert shared.exists()
    assert bring.kept._owners[str(shared)] == {"there"}


def test_files_are_counted_too_however_small(bring, tmp_path):
    for number in range(EACH * FILES + 5):
        bring(f"{number}", "here", 0)
    assert len(bring.kept._sizes) == len(list(tmp_path.iterdir())) == EACH * FILES


def test_a_file_is_looked_for_only_where_too_much_is_kept_and_none_is_on_the_servers_loop(bring, monkeypatch):
    looked = []
    monkeypatch.setattr(kept, "_gone", lambda paths: looked.append((threading.get_ident(), len(paths))) or [])
    for number in range(EACH):
        bring(f"{number}", "here")
    assert not looked
    bring("more", "here")
    assert len(looked) == 1
    assert looked[0][0] != threading.get_ident()
    assert looked[0][1] == EACH + 1


def test_the_folder_of_an_upload_goes_once_its_file_is_gone_and_nothing_else_does(tmp_path, monkeypatch):
    old = time.time() - 100
    for name in ("full", "gone", "fresh", "elsewhere"):
        (tmp_path / name).mkdir()
    (tmp_path / "full" / "a.txt").write_text("a")
    (tmp_path / "comes-a").write_text("half of a file")
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    for name in ("full", "gone"):
        os.utime(tmp_path / name, (old, old))
    kept.remove_empty(tmp_path / "not there", 50)
    kept.remove_empty(tmp_path, 50)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["comes-a", "elsewhere", "fresh", "full", "link"]
    (tmp_path / "gone").mkdir()
    os.utime(tmp_path / "gone", (old, old))
    monkeypatch.setattr(kept, "AGE", 0.01)

    async def served():
        async with kept.tidied(tmp_path):
            until = time.monotonic() + 10
            while (tmp_path / "gone").exists() and time.monotonic() < until:
                await asyncio.sleep(0.01)

    asyncio.run(served())
    assert not (tmp_path / "gone").exists()
    assert (tmp_path / "full" / "a.txt").exists()
