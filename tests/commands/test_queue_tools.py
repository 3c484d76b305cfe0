"""What the queue commands share."""

import grp
import os
import pwd
from types import SimpleNamespace

import pytest

from postfixpy.commands.queue_tools import group_hint


@pytest.fixture
def queue(tmp_path, monkeypatch):
    """A queue of another user, open to a group in which this user is not."""
    (tmp_path / "maildrop").mkdir()
    if os.geteuid() == 0:
        os.chown(tmp_path / "maildrop", 0, grp.getgrnam("daemon").gr_gid)
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
    monkeypatch.setattr(os, "getegid", lambda: 54321)
    monkeypatch.setattr(os, "getgroups", lambda: [54321])
    return SimpleNamespace(queue_directory=str(tmp_path))


def test_a_user_outside_the_group_is_told_of_it(queue):
    group = grp.getgrgid(os.stat(f"{queue.queue_directory}/maildrop").st_gid).gr_name
    assert group_hint(queue) == (
        f"only group {group} may use {queue.queue_directory}. Postfix's commands are set-gid; postfixpy's are scripts "
        f'and cannot be: "usermod -aG {group} nobody" lets this user submit mail and see the queue'
    )


def test_the_group_is_no_answer_for_others(queue, monkeypatch):
    group = os.stat(f"{queue.queue_directory}/maildrop").st_gid
    monkeypatch.setattr(os, "getgroups", lambda: [group])
    assert group_hint(queue) == ""
    monkeypatch.setattr(os, "getgroups", list)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert group_hint(queue) == ""
    os.rmdir(f"{queue.queue_directory}/maildrop")
    monkeypatch.setattr(os, "geteuid", lambda: pwd.getpwnam("nobody").pw_uid)
    assert group_hint(queue) == ""
