import os
import stat

import pytest

from postfixpy import log
from postfixpy.errors import TemporaryError
from postfixpy.mail import queue_id
from postfixpy.mail.queue import Queue, lock, make_directories, unlock
from postfixpy.mail.records import Kind, RecordFile, encode_record

NOW = 1_700_000_000_123_456


@pytest.fixture
def said():
    lines = []
    previous = log.set_sink(lambda severity, text: lines.append(f"{severity}: {text}"))
    yield lines
    log.set_sink(previous)


@pytest.fixture
def queue(tmp_path):
    for name in ("incoming", "active", "deferred"):
        (tmp_path / name).mkdir()
    return Queue(str(tmp_path), "deferred, defer", 2)


def test_path(queue, tmp_path):
    assert queue.path("active", "1E24012AB") == f"{tmp_path}/active/1E24012AB"
    assert queue.path("deferred", "1E24012AB") == f"{tmp_path}/deferred/1/E/1E24012AB"
    assert queue.path("deferred", "x") == f"{tmp_path}/deferred/x/_/x"
    long = queue_id.make(NOW, 77, long=True)
    assert queue.path("defer", long) == f"{tmp_path}/defer/1/E/{long}"
    assert Queue().path("active", "1E24012AB") == "active/1E24012AB"
    for bad in (("active", "../etc"), ("a/b", "1"), ("", "1"), ("active", "")):
        with pytest.raises(ValueError, match=r"bad queue"):
            queue.path(*bad)


@pytest.mark.parametrize("long", [False, True])
def test_a_new_file_is_named_after_its_inode_and_time(queue, long):
    with queue.create("incoming", long_ids=long, now=NOW) as file:
        state = os.stat(file.path)
        assert file.arrival == NOW
        assert file.id == queue_id.make(NOW, state.st_ino, long)
        assert stat.S_IMODE(state.st_mode) == 0o600
        assert queue.open_ok("incoming", file.id) is None  # not complete
        file.write(encode_record(Kind.FROM, b""))
        file.commit()
        assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o700
        assert queue.open_ok("incoming", file.id) is not None
    assert os.listdir(queue.directory + "/incoming") == [file.id]


def test_a_collision_of_names_moves_the_time_on(queue):
    with open(f"{queue.directory}/incoming/123456.99", "w"):
        pass
    with queue.create("incoming", now=NOW, pid=99) as file:
        assert file.arrival == NOW + 1


def test_new_file_in_a_hashed_queue(queue):
    with queue.create("deferred", now=NOW) as file:
        assert file.path == f"{queue.directory}/deferred/1/E/{file.id}"


def test_a_file_that_cannot_be_created_is_a_temporary_error(queue):
    with pytest.raises(TemporaryError, match=r"mail_queue_enter: create file .*: No such file or directory"):
        queue.create("hold", now=NOW)


def test_a_failed_rename_leaves_nothing(queue):
    with open(f"{queue.directory}/deferred/1", "w"):
        pass
    with pytest.raises(TemporaryError, match=r"mail_queue_enter: rename"):
        queue.create("deferred", now=NOW)
    assert os.listdir(f"{queue.directory}/deferred") == ["1"]


def test_rename_makes_directories_and_scan_finds_files(queue):
    made = []
    for n in range(5):
        with queue.create("incoming", now=NOW + n * 100_000) as file:
            made.append(file.id)
    for name in made[:3]:
        queue.rename(name, "incoming", "deferred")
    assert sorted(queue.scan("incoming")) == sorted(made[3:])
    assert sorted(queue.scan("deferred")) == sorted(made[:3])
    queue.remove("deferred", made[0])
    assert sorted(queue.scan("deferred")) == sorted(made[1:3])
    with pytest.raises(FileNotFoundError):
        queue.rename(made[0], "deferred", "active")


def test_scan_of_a_missing_queue_warns(queue, said):
    assert list(queue.scan("hold")) == []
    assert said == [f"warning: open directory {queue.directory}/hold: No such file or directory"]


def test_new_directories_are_synced_into_their_parents(queue, monkeypatch):
    synced = []
    monkeypatch.setattr("postfixpy.mail.queue.sync_directory", synced.append)
    top = queue.directory
    make_directories(f"{top}/deferred/A/B/AB12")
    assert synced == [f"{top}/deferred", f"{top}/deferred/A"]
    assert stat.S_IMODE(os.stat(f"{top}/deferred/A").st_mode) == 0o700
    make_directories(f"{top}/deferred/A/B/AB13")
    assert len(synced) == 2


def test_open_with_create_makes_directories(queue):
    (log_file := queue.open("defer", "1E24012AB", os.O_RDWR | os.O_CREAT)).close()
    assert log_file.path.endswith("defer/1/E/1E24012AB")
    with pytest.raises(FileNotFoundError):
        queue.open("defer", "2E24012AB")


def test_open_ok_says_what_is_wrong(queue, said, tmp_path):
    (tmp_path / "active" / "1D").mkdir()
    assert queue.open_ok("active", "1D") is None
    assert said == [f"warning: {tmp_path}/active/1D: uid {os.getuid()}: not a regular file"]
    os.symlink("/etc/passwd", tmp_path / "active" / "1L")
    assert queue.open_ok("active", "1L") is None
    assert "not a regular file" in said[1]
    assert queue.open_ok("active", "missing") is None
    assert queue.open_ok("active", "a.b") is None
    assert len(said) == 2
    assert queue.open_ok("a_b", "x") is None
    assert said[2] == "warning: bad mail queue name: a_b"


def test_a_lasting_second_link_is_warned_of(queue, said):
    with queue.create("incoming", now=NOW) as file:
        file.commit()
    os.link(file.path, file.path.replace("incoming", "active"))
    changed = os.stat(file.path).st_ctime
    assert queue.open_ok("incoming", file.id, changed + 59)
    assert said == []
    assert queue.open_ok("incoming", file.id, changed + 61)
    assert said == [f"warning: {file.path}: uid {os.getuid()}: file has 2 links"]


def test_mark_done(queue):
    with queue.create("active", now=NOW) as file:
        file.write(encode_record("S", b"me") + encode_record("R", b"you"))
        file.mark_done(-1)
        file.mark_done(4)
        file.seek(0)
        assert [(r.kind, r.payload) for r in RecordFile(file, file.path)] == [("S", b"me"), ("D", b"you")]
        with pytest.raises(ValueError, match=r"deliver_completed: bad offset 0"):
            file.mark_done(0)


def test_mark_corrupt(queue, said):
    with queue.create("active", now=NOW) as file:
        file.commit()
        file.mark_corrupt()
        assert stat.S_IMODE(os.stat(file.path).st_mode) == 0o400
        assert said == [f"warning: corrupted queue file: {file.path}"]
        assert queue.open_ok("active", file.id) is None


def test_locks(queue):
    with queue.create("active", now=NOW) as first:
        with queue.open("active", first.id) as second:
            assert lock(first.fd, exclusive=False)
            assert lock(second.fd, exclusive=False)
            assert not lock(second.fd, exclusive=True)
            unlock(first.fd)
            assert lock(second.fd, exclusive=True)
            assert not lock(first.fd, exclusive=False)
        assert lock(first.fd, exclusive=True, wait=True)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_directory_that_may_only_be_written_takes_messages(tmp_path):
    """The maildrop queue, for a user in its group."""
    (tmp_path / "maildrop").mkdir()
    (tmp_path / "maildrop").chmod(0o300)
    with Queue(str(tmp_path), "", 1).create("maildrop", now=NOW) as file:
        file.write(b"x")
        file.commit(0o444)
    (tmp_path / "maildrop").chmod(0o700)
    assert os.stat(file.path).st_mode & 0o777 == 0o744
