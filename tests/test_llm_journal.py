"""The journal: what was paid for stays, whatever happens to the process or the file."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import RecipeError, RunError
from stages.llm import Journal, NoReply, Reply
from stages.llm.journal_files import Appender


def key(number: int) -> str:
    return f"{number:032x}"


def reply(text: str, replayed: bool = False) -> Reply:
    return Reply(text, "stop", "m", 3, 2, 0.5, replayed, "because")


def filled(folder: Path, *numbers: int) -> Path:
    with Journal(folder) as journal:
        for number in numbers:
            journal.put(key(number), "t@1", reply(f"text {number}"))
    return folder / "journal-0001.jsonl"


def test_what_is_put_is_got_now_and_later(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        assert journal.get(key(1)) is None
        journal.put(key(1), "t@1", reply("one\nline\u2028two"))
        assert journal.get(key(1)) == reply("one\nline\u2028two", replayed=True)
        assert len(journal) == 1
    with Journal(tmp_path) as journal:
        assert journal.get(key(1)) == reply("one\nline\u2028two", replayed=True)


def test_a_journal_is_plain_jsonl(tmp_path: Path) -> None:
    (line,) = filled(tmp_path, 5).read_bytes().splitlines()
    value = json.loads(line)
    assert value.pop("at").startswith("20")
    assert value == {
        "key": key(5), "ok": 1, "template": "t@1", "model": "m", "finish_reason": "stop", "tokens_in": 3,
        "tokens_out": 2, "cost": 0.5, "text": "text 5", "reasoning": "because",
    }  # fmt: skip


def test_failures_are_recorded_and_never_given(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.put(key(1), "t@1", NoReply("timeout", "too slow", 6))
        assert journal.get(key(1)) is None
        assert (len(journal), journal.damaged) == (0, 0)
    with Journal(tmp_path) as journal:
        assert journal.get(key(1)) is None
        assert (len(journal), journal.damaged) == (0, 0)
    value = json.loads((tmp_path / "journal-0001.jsonl").read_text())
    assert (value["failed"], value["detail"], value["attempts"]) == ("timeout", "too slow", 6)


def test_reading_creates_nothing(tmp_path: Path) -> None:
    with Journal(tmp_path / "none") as journal:
        assert journal.get(key(1)) is None
    assert not (tmp_path / "none").exists()


def test_a_torn_last_line_is_cut_off_and_asked_again(tmp_path: Path) -> None:
    path = filled(tmp_path, 1, 2)
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for size in range(first, len(whole) - 1):
        path.write_bytes(whole[:size])
        with Journal(tmp_path) as journal:
            assert journal.get(key(1)) is not None
            assert journal.get(key(2)) is None
            journal.put(key(3), "t@1", reply("three"))
        with Journal(tmp_path) as journal:
            assert [journal.get(key(number)) is not None for number in (1, 2, 3)] == [True, False, True]
            assert journal.damaged == 0


def test_a_last_line_that_lacks_only_its_end_is_kept(tmp_path: Path) -> None:
    path = filled(tmp_path, 1, 2)
    path.write_bytes(path.read_bytes()[:-1])
    with Journal(tmp_path) as journal:
        journal.put(key(3), "t@1", reply("three"))
    with Journal(tmp_path) as journal:
        assert all(journal.get(key(number)) is not None for number in (1, 2, 3))


@given(st.data())
def test_any_damage_costs_the_damaged_lines_only(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("journal")
    path = filled(folder, *range(5))
    lines = path.read_bytes().splitlines(keepends=True)
    victim = data.draw(st.integers(0, 4))
    start = data.draw(st.integers(0, len(lines[victim]) - 2))
    garbage = data.draw(st.binary(max_size=20)).replace(b"\n", b"")
    lines[victim] = lines[victim][:start] + garbage + b"\n"
    path.write_bytes(b"".join(lines))
    with Journal(folder) as journal:
        found = [journal.get(key(number)) for number in range(5)]
        assert all(found[number] == reply(f"text {number}", True) for number in range(5) if number != victim)
        if start:
            assert found[victim] in (None, reply(f"text {victim}", True))


def test_two_journals_of_one_folder_write_apart_and_read_each_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stages.llm.journal._LOOK_AGAIN_S", 0.0)
    with Journal(tmp_path) as one, Journal(tmp_path) as two:
        one.put(key(1), "t@1", reply("one"))
        two.put(key(2), "t@1", reply("two"))
        one.put(key(3), "t@1", reply("three"))
        assert len(list(tmp_path.iterdir())) == 2
        for journal in (one, two):
            assert [journal.get(key(number)) is not None for number in (1, 2, 3)] == [True] * 3
    with Journal(tmp_path) as journal:
        journal.put(key(4), "t@1", reply("four"))
    assert len(list(tmp_path.iterdir())) == 2


def test_the_file_of_a_killed_process_is_taken_over(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from stages.llm import Journal, Reply\n"
        "journal = Journal(Path(sys.argv[1]))\n"
        "journal.put(f'{1:032x}', 't@1', Reply('x', 'stop', 'm', 1, 1, None, False))\n"
        "os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[1])
    assert done.returncode == -9
    with Journal(tmp_path) as journal:
        assert journal.get(key(1)) is not None
        journal.put(key(2), "t@1", reply("two"))
    assert [path.name for path in tmp_path.iterdir()] == ["journal-0001.jsonl"]


def test_replay_journals_are_read_only(tmp_path: Path) -> None:
    shipped = filled(tmp_path / "shipped", 1, 2)
    torn = shipped.read_bytes()[:-1]
    shipped.write_bytes(torn)
    shipped.chmod(0o444)
    with Journal(tmp_path / "own", replay=[shipped, tmp_path / "shipped"]) as journal:
        assert journal.get(key(1)) == reply("text 1", True)
        assert journal.get(key(2)) == reply("text 2", True)
        journal.put(key(3), "t@1", reply("three"))
    assert shipped.read_bytes() == torn
    with Journal(replay=[shipped]) as journal:
        journal.put(key(9), "t@1", reply("kept nowhere"))
        assert journal.get(key(9)) is None
        assert journal.get(key(1)) is not None


def test_journals_may_be_written_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "hand.jsonl"
    value = {"ok": True, "text": "by hand", "finish_reason": "stop", "model": "m", "tokens_in": 1, "tokens_out": 1}
    lines = [json.dumps(value | {"cost": None, "key": key(1)}), "", "not json", json.dumps(value | {"key": "short"})]
    path.write_text("\n".join(lines))
    with Journal(replay=[path]) as journal:
        found = journal.get(key(1))
        assert found is not None
        assert (found.text, found.reasoning) == ("by hand", "")
        assert journal.damaged == 2


def test_a_replay_journal_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no journal at"):
        Journal(replay=[tmp_path / "missing.jsonl"])


def test_long_lines_are_read_whole(tmp_path: Path) -> None:
    texts = ["x" * size for size in (16_000, 16_384, 40_000, 1)]
    with Journal(tmp_path) as journal:
        for number, text in enumerate(texts):
            journal.put(key(number), "t@1", reply(text))
        assert [journal.get(key(number)) for number in range(4)] == [reply(text, True) for text in texts]


def test_a_full_disk_stops_the_run_and_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = filled(tmp_path, 1)
    before = path.read_bytes()
    write, calls = os.write, list[int]()

    def full(descriptor: int, data: bytes) -> int:
        calls.append(1)
        if len(calls) == 1:
            return write(descriptor, data[:10])
        raise OSError(28, "No space left on device")

    with Journal(tmp_path) as journal:
        monkeypatch.setattr("stages.llm.journal_files.os.write", full)
        with pytest.raises(RunError, match="No space left"):
            journal.put(key(2), "t@1", reply("two"))
        monkeypatch.undo()
        assert path.read_bytes() == before
        journal.put(key(3), "t@1", reply("three"))
        assert journal.get(key(3)) is not None


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with Journal(tmp_path / "file" / "sub") as journal, pytest.raises(RunError, match="put the store elsewhere"):
        journal.put(key(1), "t@1", reply("one"))


def test_an_appender_needs_no_newline_to_begin_with(tmp_path: Path) -> None:
    descriptor = os.open(tmp_path / "x", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"torn" * 10_000)
    appender = Appender(tmp_path / "x", descriptor)
    assert appender.append(b"{}\n") == 0
    appender.close()
    assert (tmp_path / "x").read_bytes() == b"{}\n"
