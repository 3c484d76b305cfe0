import os
import re
import shutil
import subprocess

import pytest

from postfixpy.mail import queue_id
from postfixpy.mail.queue import Queue

from .queue_runner import T


def lines(result):
    return [line.removeprefix("postsuper: ") for line in result.err.splitlines()]


def mode(site, queue, name):
    return os.stat(site.queue.path(queue, name)).st_mode & 0o7777


# One message


def test_delete_one_with_its_logs(site):
    one, other = site.add("deferred"), site.add("active", number=1)
    for log in ("defer", "bounce", "trace"):
        site.note(log, one, b"x")
    site.note("trace", other, b"x")
    result = site.run("postsuper", "-d", one)
    assert (result.status, result.out, lines(result)) == (0, "", [f"{one}: removed", "Deleted: 1 message"])
    assert site.files() == [f"active/{other}", f"trace/{other}"]


def test_ids_from_standard_input(site):
    names = [site.add("active", number=n) for n in range(3)]
    result = site.run("postsuper", "-d", "-", stdin=f"{names[0]}\n{names[2]}\nno/such\n".encode())
    assert lines(result) == [
        f"{names[0]}: removed",
        f"{names[2]}: removed",
        "warning: invalid mail queue id: no/such",
        "Deleted: 2 messages",
    ]
    assert site.files() == [f"active/{names[1]}"]


def test_unknown_id_is_no_error(site):
    result = site.run("postsuper", "-d", "ABCDEF0")
    assert (result.status, lines(result)) == (0, ["Deleted: 0 messages"])


def test_hold_and_release(site):
    name = site.add("active")
    assert lines(site.run("postsuper", "-h", name)) == [f"{name}: placed on hold", "Placed on hold: 1 message"]
    assert site.files() == [f"hold/{name}"]
    assert lines(site.run("postsuper", "-h", name)) == ["Placed on hold: 0 messages"]
    assert lines(site.run("postsuper", "-H", name)) == [f"{name}: released from hold", "Released from hold: 1 message"]
    assert site.files() == [f"deferred/{name[0]}/{name}"]


def test_requeue(site):
    name = site.add("hold")
    os.utime(site.queue.path("hold", name), (1, 1))
    assert lines(site.run("postsuper", "-r", name)) == [f"{name}: requeued", "Requeued: 1 message"]
    assert site.files() == [f"maildrop/{name}"]
    assert os.stat(site.queue.path("maildrop", name)).st_mtime > 1
    assert lines(site.run("postsuper", "-r", name)) == ["Requeued: 0 messages"]


def test_mail_that_was_not_inspected_is_not_held(site):
    name = site.add("maildrop")
    assert lines(site.run("postsuper", "-h", name)) == ["Placed on hold: 0 messages"]
    assert lines(site.run("postsuper", "-d", name)) == [f"{name}: removed", "Deleted: 1 message"]


def test_expire(site):
    name = site.add("hold")
    assert lines(site.run("postsuper", "-e", name)) == [f"{name}: expired", "Force-expired: 1 message"]
    assert mode(site, "hold", name) == 0o710
    assert lines(site.run("postsuper", "-e", name)) == ["Force-expired: 0 messages"]
    result = site.run("postsuper", "-f", name)
    assert lines(result) == [
        f"{name}: released from hold",
        "Force-expired: 0 messages",
        "Released from hold: 1 message",
    ]
    assert mode(site, "deferred", name) == 0o710


def test_only_the_named_queues(site):
    name = site.add("active")
    assert lines(site.run("postsuper", "-d", name, "deferred")) == ["Deleted: 0 messages"]
    assert lines(site.run("postsuper", "-d", name, "active")) == [f"{name}: removed", "Deleted: 1 message"]


def test_incomplete_files_are_not_messages(site):
    with site.queue.create("incoming", now=T * 1_000_000) as file:
        assert lines(site.run("postsuper", "-d", file.id)) == ["Deleted: 0 messages"]


def test_links_are_not_followed(site):
    (site.directory / "outside").write_text("x")
    os.chmod(site.directory / "outside", 0o700)
    os.symlink("../outside", "active/ABCDEF1")
    result = site.run("postsuper", "-e", "ABCDEF1")
    assert "not a regular file" in lines(result)[0]
    assert os.stat("outside").st_mode & 0o7777 == 0o700


# All


def test_all_of_a_queue(site):
    for n in range(3):
        site.add("deferred", number=n)
    kept = site.add("active", number=9)
    assert lines(site.run("postsuper", "-d", "ALL", "deferred")) == ["Deleted: 3 messages"]
    assert site.files() == [f"active/{kept}"]


@pytest.mark.parametrize(
    ("option", "queue", "text"),
    [
        ("-h", "hold", "Placed on hold: 2 messages"),
        ("-H", "deferred", "Released from hold: 1 message"),
        ("-r", "maildrop", "Requeued: 3 messages"),
    ],
)
def test_move_all(site, option, queue, text):
    active, deferred, held = site.add("active"), site.add("deferred", number=1), site.add("hold", number=2)
    assert lines(site.run("postsuper", option, "ALL")) == [text]
    moved = {"-h": {active, deferred, held}, "-H": {deferred, held}, "-r": {active, deferred, held}}[option]
    assert {os.path.basename(name) for name in site.files() if name.startswith(queue)} == moved


def test_actions_in_the_order_given(site):
    name = site.add("active")
    result = site.run("postsuper", "-h", "ALL", "-H", "ALL", "-e", name)
    assert lines(result) == [
        f"{name}: expired",
        "Force-expired: 1 message",
        "Placed on hold: 1 message",
        "Released from hold: 1 message",
    ]


# Structure


def test_hashing_is_repaired(site):
    name = site.add("active")
    os.rename(site.queue.path("active", name), f"deferred/{name}")
    os.makedirs("active/A")
    os.makedirs("active/strange")
    site.note("defer", name, b"x")
    os.rename(site.queue.path("defer", name), f"defer/{name}")
    result = site.run("postsuper")
    assert (result.status, result.err) == (0, "")
    assert site.files() == [f"defer/{name[0]}/{name}", f"deferred/{name[0]}/{name}"]
    assert os.listdir("active") == []


def test_hashing_that_is_no_longer_wanted(site):
    name = site.add("deferred")
    site.configure("hash_queue_names = defer")
    site.run("postsuper", "-s")
    assert site.files() == [f"deferred/{name}"]
    assert os.listdir("deferred") == [name]


def test_names_follow_inodes_in_two_passes(site):
    # Two messages restored from a backup, each with the name that the other one's inode asks for.
    one, two = site.add("deferred"), site.add("deferred", number=1)
    path_one, path_two = site.queue.path("deferred", one), site.queue.path("deferred", two)
    inode_one, inode_two = os.stat(path_one).st_ino, os.stat(path_two).st_ino
    wrong_one = queue_id.replace_inode(one, inode_two)
    os.rename(path_one, site.queue.path("deferred", wrong_one))
    site.note("defer", wrong_one, b"log of one")
    result = site.run("postsuper", "-s")
    assert lines(result) == [
        "Renamed to match inode number: 1 message",
        "warning: QUEUE FILE NAMES WERE CHANGED TO MATCH INODE NUMBERS",
    ]
    assert os.stat(site.queue.path("deferred", one)).st_ino == inode_one
    assert os.stat(site.queue.path("deferred", two)).st_ino == inode_two
    with open(site.queue.path("defer", one)) as log:
        assert log.read() == "log of one"
    assert site.run("postsuper", "-s").err == ""


def test_long_names_become_short_ones(site):
    name = site.add("active", long=True)
    inode = os.stat(site.queue.path("active", name)).st_ino
    site.run("postsuper", "-s")
    assert site.files() == [f"active/12345{inode:X}"]


def test_long_names_stay_where_they_are_wanted(site):
    site.configure("enable_long_queue_ids = yes")
    name = site.add("active", long=True)
    os.rename(f"active/{name}", f"active/{(other := queue_id.replace_inode(name, 77))}")
    assert site.run("postsuper", "-s").err == ""
    assert site.files() == [f"active/{other}"]
    site.run("postsuper", "-S")
    assert site.files() == [f"active/{name}"]


def test_no_action_by_id_after_names_changed(site):
    name = site.add("active")
    os.rename(f"active/{name}", "active/12345ABCDEF")
    result = site.run("postsuper", "-s", "-d", name)
    assert result.status == 1
    assert lines(result) == [
        "error: QUEUE FILE NAMES WERE CHANGED TO MATCH INODE NUMBERS",
        "fatal: CHECK YOUR QUEUE IDS AND RE-ISSUE THE COMMAND",
        "warning: OPERATION INCOMPLETE -- RERUN COMMAND TO FIX THE QUEUE FIRST",
    ] or lines(result) == [
        "error: QUEUE FILE NAMES WERE CHANGED TO MATCH INODE NUMBERS",
        "warning: OPERATION INCOMPLETE -- RERUN COMMAND TO FIX THE QUEUE FIRST",
        "fatal: CHECK YOUR QUEUE IDS AND RE-ISSUE THE COMMAND",
    ]
    assert site.files() == [f"active/{name}"]


def test_old_temporary_files_are_purged(site):
    with site.queue.create("incoming", now=T * 1_000_000) as old:
        os.utime(old.path, (T, T))
    with site.queue.create("incoming", now=T * 1_000_000 + 77) as new:
        pass
    site.note("defer", new.id, b"old logs are kept")
    os.utime(site.queue.path("defer", new.id), (T, T))
    site.run("postsuper", "-p")
    assert site.files() == [f"defer/{new.id[0]}/{new.id}", f"incoming/{new.id}"]


def test_strange_names_are_reported(site):
    (site.directory / "active" / "what.is.this").write_text("")
    (site.directory / "active" / "ABC").write_text("")
    os.symlink("/etc/passwd", "active/link")
    result = site.run("postsuper", "-s")
    assert sorted(lines(result)) == [
        "warning: bogus file name: active/ABC",
        "warning: bogus file name: active/what.is.this",
    ]
    assert site.files() == ["active/ABC", "active/what.is.this"]  # the link, which is no file, was removed


# The command line


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["-d", "X1", "nosuch"], "fatal: invalid directory name: nosuch"),
        (["-z"], "fatal: usage: postsuper [-c config_dir] [-d queue_id (delete)]"),
        (["-c", "relative"], "fatal: -c requires absolute pathname"),
    ],
)
def test_bad_arguments(site, arguments, text):
    result = site.run("postsuper", *arguments)
    assert result.status == 1
    assert text in result.err


def test_another_user_may_not(site, monkeypatch):
    monkeypatch.setattr("os.geteuid", lambda: os.stat(site.directory).st_uid + 12345)
    result = site.run("postsuper", "-d", "ALL")
    assert (result.status, lines(result)) == (1, ["fatal: use of this command is reserved for the superuser"])


def test_owner_of_a_private_queue_may(site, monkeypatch):
    name = site.add("active")
    os.chown(site.directory, 12345, -1) if os.getuid() == 0 else None
    monkeypatch.setattr("os.geteuid", lambda: os.stat(site.directory).st_uid)
    assert lines(site.run("postsuper", "-d", name)) == [f"{name}: removed", "Deleted: 1 message"]


@pytest.mark.real
@pytest.mark.parametrize(
    "arguments",
    [
        ["-h", "ID"],
        ["-H", "ALL"],
        ["-e", "ALL"],
        ["-f", "ALL"],
        ["-r", "ID"],
        ["-s"],
        [],
        ["-d", "ALL"],
        ["-d", "no.such"],
    ],
)
def test_same_as_the_real_one(site, arguments):
    """Two copies of a queue, one for each program: what they say and what they leave."""
    if os.getuid() != 0:
        pytest.skip("the real one wants root")

    def prepare():
        for path in site.files():
            os.unlink(path)
        names = [site.add("active"), site.add("hold", number=1), site.add("maildrop", number=2)]
        os.rename(site.queue.path("active", site.add("active", number=3)), "deferred/12345ABCDEF")
        for root, _, files in os.walk(site.directory):
            os.chmod(root, 0o755)
            for name in (root, *(os.path.join(root, file) for file in files)):
                shutil.chown(name, "postfix")
        os.chown(site.directory, 0, 0)
        return [argument.replace("ID", names[0]) for argument in arguments]

    def outcome(run):
        result = run(prepare())
        told = sorted(re.sub(r"[0-9A-F]{6,}", "ID", result[1]).splitlines())
        left = sorted((os.path.dirname(path).split("/")[0], os.stat(path).st_mode) for path in site.files())
        return result[0], told, left

    def real(words):
        for directory in [site.directory, *site.directory.parents][:4]:
            os.chmod(directory, 0o755)
        done = subprocess.run(["postsuper", "-c", str(site.directory / "etc"), *words], capture_output=True, text=True)
        return done.returncode, done.stderr

    def ours(words):
        done = site.run("postsuper", *words)
        return done.status, done.err

    assert outcome(ours) == outcome(real)


@pytest.mark.real
@pytest.mark.parametrize("long", [False, True])
def test_the_real_one_finds_our_names_and_places_right(site, long):
    """Ids, inode numbers and hashing of `mail.queue` as the real postsuper -S computes them."""
    if os.getuid() != 0:
        pytest.skip("the real one wants root")
    hashing = "hash_queue_names = deferred, active\nhash_queue_depth = 3"
    site.configure(f"enable_long_queue_ids = {'yes' if long else 'no'}\n{hashing}")
    site.queue = Queue("", "deferred, active", 3)
    for number in range(20):
        site.add(("deferred", "active", "hold", "incoming")[number % 4], number=number * 7, long=long)
    files = site.files()
    for root, _, names in os.walk(site.directory):
        os.chmod(root, 0o755)
        for name in (root, *(os.path.join(root, file) for file in names)):
            shutil.chown(name, "postfix")
    os.chown(site.directory, 0, 0)
    for directory in [site.directory, *site.directory.parents][:4]:
        os.chmod(directory, 0o755)
    real = subprocess.run(
        ["postsuper", "-c", str(site.directory / "etc"), "-S"], capture_output=True, text=True, check=False
    )
    assert (real.returncode, real.stderr) == (0, "")
    assert site.files() == files
