from postfixpy.commands import mailq


def test_mailq_is_sendmail_by_another_name(monkeypatch):
    called = []
    monkeypatch.setattr("postfixpy.commands.sendmail.main", lambda argv: called.append(argv) or 5)
    assert mailq.main(["/usr/bin/mailq", "-v"]) == 5
    assert called == [["mailq", "-v"]]


def test_mailq_lists(site):
    name = site.add("hold")
    site.monkeypatch.setenv("MAIL_CONFIG", str(site.directory / "etc"))
    site.capfd.readouterr()
    assert mailq.main(["mailq"]) == 0
    assert f"{name}!" in site.capfd.readouterr().out
