"""Kills at random moments of what is written to the disk, and disks that take no more: the old is there, or the new."""

import shutil
from pathlib import Path

import pytest
from model.test_gguf_file import write
from safe.kills import run

LINE = "Kill and disk"
KINDS = ["saving", "profile", "replay", "analysis", "shrinking", "low memory", "first start"]
TIMES = {True: 30, False: 3}


@pytest.mark.timeout(1800)  # each kill of a first start starts the process that converts anew
def test_the_old_or_the_new_is_there_whole_and_nothing_beside_it(dense, tiny_llama, tmp_path, figures, whole):
    shutil.copytree(Path(dense), tmp_path / "dense")
    (tmp_path / "dense" / "LICENSE").write_text("Apache " * 1600)  # as most models have one, and other such files
    (tmp_path / "dense" / "preprocessor_config.json").write_text("{}")
    write(tmp_path / "model.gguf", tiny_llama)
    for folder in [tmp_path, *tmp_path.parents][:3]:
        folder.chmod(0o755)  # who may not write may still look
    killed, refused = run(KINDS, tmp_path, TIMES[whole])
    kills = TIMES[whole] * len(KINDS)
    assert [one.kind for one in killed] == KINDS
    broken = [(one.kind, one.broken) for one in killed if one.broken]
    strays = [(one.kind, one.strays) for one in killed if one.strays]
    assert not broken, broken
    assert not strays, strays
    assert sum(one.early for one in killed) >= kills / 5, "the kills came when all was written"
    figures.exactly(LINE, f"kills, of {kills}, that left neither the old nor the new", len(broken), 0)
    figures.exactly(LINE, "of them, with strays after the next start", len(strays), 0)
    # An analysis that cannot be kept is measured again, which nobody need be told.
    strange = [one for one in refused if one.strange or not (one.said or one.kind == "analysis")]
    changed = [one for one in refused if one.changed]
    assert not strange, strange
    assert not changed, changed
    figures.exactly(LINE, "full and read-only folders that ended otherwise than in our sentence", len(strange), 0)
    figures.exactly(LINE, "of them, in which anything had changed", len(changed), 0)
