"""Live settings, and the overrides that were set while the system ran."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from footage import at_once

from comemory.alerts.config import WebhookSettings
from comemory.errors import ConfigError, SourceError
from comemory.live.config import LiveSettings, read_live
from comemory.live.config.overrides import Overrides
from comemory.live.service import camera_flags

TOML = """
model = "models/gate"
[cameras.gate]
url = "rtsp://user:pass@gate.lan/live"
zones = [[[0, 0], [0.5, 0], [0.5, 0.5]]]
hours = ["mon-fri 08:00-18:00"]
[cameras.yard]
url = "yard.mp4"
model = "models/yard"
[alerts.desk]
kind = "webhook"
url = "https://desk.lan/hook"
"""


def write(folder: Path, text: str = TOML) -> Path:
    path = folder / "live.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_relative_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    read = read_live(write(tmp_path))
    assert read.bundle_of("gate") == tmp_path / "models" / "gate"
    assert read.bundle_of("yard") == tmp_path / "models" / "yard"
    assert read.cameras["yard"].url == str(tmp_path / "yard.mp4")
    assert read.cameras["gate"].url == "rtsp://user:pass@gate.lan/live"


def test_relative_paths_have_no_dots(tmp_path: Path) -> None:
    site = tmp_path / "site"
    (tmp_path / "elsewhere" / "deep").mkdir(parents=True)
    site.mkdir()
    (site / "link").symlink_to(tmp_path / "elsewhere" / "deep")
    text = """
out = "../new/./live"
model = "{}/site/../models/gate"
[cameras.gate]
url = "../new/live.mp4"
[cameras.yard]
url = "link/../yard.mp4"
[store]
url = "sqlite:///../new/events.db"
"""
    read = read_live(write(site, text.format(tmp_path)))
    assert read.out == tmp_path / "new" / "live"
    assert read.model == tmp_path / "models" / "gate"
    assert read.cameras["gate"].url == f"{tmp_path}/new/live.mp4"
    assert read.cameras["yard"].url == f"{site}/link/../yard.mp4", "that is elsewhere/yard.mp4"
    assert read.store.url == f"{tmp_path}/new/events.db"


def test_relative_paths_of_every_group(tmp_path: Path) -> None:
    more = """
[web]
certificate = "page.pem"
key = "page.key"
[store]
url = "{store}"
media = "media"
"""
    stores = {
        "sqlite:///events.db": f"{tmp_path}/events.db",
        "sqlite:////var/events.db": "/var/events.db",
        "sqlite:///events.db?timeout=5": f"sqlite:///{tmp_path}/events.db?timeout=5",
        "sqlite:///:memory:": "sqlite:///:memory:",
        "events.db": f"{tmp_path}/events.db",
        "postgresql+psycopg://me@host/events": "postgresql+psycopg://me@host/events",
        "env:STORE": "env:STORE",
    }
    for given, meant in stores.items():
        read = read_live(write(tmp_path, TOML + 'ca_file = "ca.pem"\n' + more.format(store=given)))
        assert read.store.url == meant
        assert (read.web.certificate, read.web.key) == (tmp_path / "page.pem", tmp_path / "page.key")
        assert read.media == tmp_path / "media"
        desk = read.alerts["desk"]
        assert isinstance(desk, WebhookSettings)
        assert desk.ca_file == tmp_path / "ca.pem"
    assert read_live(None, {"store": {"url": "events.db"}}).store.url == "events.db"


def test_flags_override_the_file(tmp_path: Path) -> None:
    given = {"cameras": {"gate": {"false_alarms": "2/h"}}, "out": str(tmp_path / "out")}
    read = read_live(write(tmp_path), given, ["health.stalled_s=9", "cameras.yard.fps=5"])
    assert read.cameras["gate"].false_alarms == "2/h"
    assert read.cameras["gate"].zones
    assert read.cameras["yard"].fps == 5
    assert read.health.stalled_s == 9


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[cameras.a]\nurl='x'\ncolour=1", "colour"),
        ("[cameras.a]\nurl='x'\nzones=[[[0,0],[1,1]]]", "three points"),
        ("[cameras.a]\nurl='x'\nzones=[[[0,0],[1,1],[2,0]]]", "0 to 1"),
        ("[cameras.a]\nurl='x'\nhours=['soon']", "hours"),
        ("[cameras.a]\nurl='x'\nfalse_alarms='few'", "budget"),
        ("[cameras.'a b']\nurl='x'", "name"),
        ("[cameras.a]\nurl=''", "url"),
        ("[cameras]\na=1", "a"),
        (
            "[alerts.d]\nkind='command'\nargv=['true']\n[alerts.d.per_camera.gaet]\ncooldown_s=1",
            "'gaet', which does not exist",
        ),
        ("[alerts.x]\nkind='pigeon'", "pigeon"),
        ("[web]\nport=99999", "port"),
        (f"[cameras.a]\nurl='x'\nzones=[{[[0, 0], [0, 1]] * 33}]", "64 points at most, got 66"),
        (f"[cameras.a]\nurl='x'\nzones={[[[0, 0], [0, 1], [1, 1]]] * 33}", "32 zones at most, got 33"),
        ("[retention]\ndays=800000", "retention.days"),
        ("[retention]\nmax_gb=1e305", "retention.max_gb"),
        ("[web]\nsession_hours=1e305", "web.session_hours"),
        ('out = "a\\u0000b"', "out contains a null byte"),
        ('[cameras.a]\nurl="rtsp://a:b\\u0000@host"', "cameras.a.url contains a null byte"),
    ],
)
def test_invalid_settings_are_one_line(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        read_live(write(tmp_path, f"model='m'\n{line}"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["a?b", "a%41b", "a#b", "a b"])
def test_store_is_in_the_folder_of_exactly_this_name(tmp_path: Path, name: str) -> None:
    pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
    from comemory.store.store import EventStore

    (tmp_path / name).mkdir()
    file = write(tmp_path / name, "model = 'm'\n[store]\nurl = 'sqlite:///named.db'\n[cameras.gate]\nurl = 'x'")
    for read, made in ((read_live(None, {"out": str(tmp_path / name)}), "events.db"), (read_live(file), "named.db")):
        with EventStore.open(read.store_url, tmp_path / name / "media"):
            assert (tmp_path / name / made).is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_longest_retention_can_be_applied(tmp_path: Path) -> None:
    pytest.importorskip("sqlalchemy", reason="needs comemory[live]")
    from comemory.store.store import EventStore

    retention = read_live(None, {"retention": {"days": 36500, "max_gb": 1e6, "min_free_gb": 0}}).retention
    with EventStore.open(f"sqlite:///{tmp_path / 'events.db'}", tmp_path / "media") as store:
        assert store.sweep(datetime.now(UTC), retention.days, int(retention.max_gb * 1e9)).events == 0


def test_camera_needs_a_model() -> None:
    with pytest.raises(ConfigError, match="no model"):
        read_live(None, {"cameras": {"gate": {"url": "x"}}})


def test_secrets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_live(None, {"model": "m", "cameras": {"gate": {"url": "env:GATE_URL"}}})
    with pytest.raises(ConfigError, match="GATE_URL"):
        _ = read.cameras["gate"].resolved_url
    monkeypatch.setenv("GATE_URL", "rtsp://user:pass@gate.lan")
    assert read.cameras["gate"].resolved_url == "rtsp://user:pass@gate.lan"
    other = read_live(None, {"model": "m", "cameras": {"gate": {"url": "rtsp://user:hidden@gate.lan"}}})
    assert "hidden" not in repr(other)


@pytest.mark.parametrize("name", ["Tür", "my cam", "_gate", "g" * 65])
def test_a_name_that_cannot_be_used_is_refused_with_the_letters_that_can(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_live(None, {"model": "m", "cameras": {name: {"url": "x"}}})
    assert str(caught.value) == (
        f"config key 'cameras' is not valid: the name {name!r} cannot be used: a name has the letters a to z and A to Z, "
        "digits, '.', '-' and '_' only, begins with a letter or a digit, and has 64 characters at most"
    )


def test_an_error_names_no_class() -> None:
    with pytest.raises(ConfigError) as caught:
        read_live(None, {"cameras": {"gate": {"url": "x"}}})
    assert str(caught.value) == (
        "the settings are not valid: camera 'gate' has no model: give model, or --model for all cameras"
    )
    with pytest.raises(ConfigError) as caught:
        read_live(None, {"model": "m", "cameras": {"gate": {"url": ["x"]}}})
    assert str(caught.value) == "config key 'cameras.gate.url' is not valid: expected a text"


SECRET = "geheim123"


@pytest.mark.parametrize(
    ("values", "settings"),
    [
        ({"cameras": {"my cam": {"url": f"rtsp://admin:{SECRET}@host/s"}}}, ()),
        ({"cameras": {"hof": f"{SECRET}"}}, ()),
        ({"cameras": f"rtsp://admin:{SECRET}@host/s"}, ()),
        ({"cameras": {"hof": {"url": [f"rtsp://admin:{SECRET}@host/s"]}}}, ()),
        ({"cameras": {f"rtsp://admin:{SECRET}@host/s": {"url": "x"}}}, ()),
        ({"alerts": {"my desk": {"kind": "webhook", "url": f"https://desk.lan/{SECRET}"}}}, ()),
        ({"alerts": {"desk": SECRET}}, ()),
        ({"web": {"password": [SECRET]}}, ()),
        ({"web": {"password": 12345678901}}, ()),
        ({"alerts": {"desk": {"kind": "webhook", "url": [f"https://desk.lan/{SECRET}"]}}}, ()),
        ({"web": SECRET}, ()),
        ({}, (f'web.token={{"a": "{SECRET}"}}',)),
        ({"store": {"url": [f"postgresql+psycopg://user:{SECRET}@host/db"]}}, ()),
        ({"store": f"postgresql+psycopg://user:{SECRET}@host/db"}, ()),
    ],
)
def test_error_message_never_shows_a_secret(values: dict[str, object], settings: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_live(None, values, settings)
    assert SECRET not in str(caught.value)
    assert "12345678901" not in str(caught.value)
    assert "config key" in str(caught.value)


@pytest.mark.parametrize("setting", [f"web.password:{SECRET}", f"web.password {SECRET}", f"=rtsp://a:{SECRET}@host/s"])
def test_invalid_setting_is_shown_without_its_value(setting: str) -> None:
    with pytest.raises(ConfigError, match=r"cannot read the setting|a setting has no key") as caught:
        read_live(None, {}, (setting,))
    assert SECRET not in str(caught.value)


def test_secrets_are_in_no_repr(tmp_path: Path) -> None:
    web = {"password": SECRET, "token": SECRET}
    assert SECRET not in repr(read_live(write(tmp_path), {"web": web, "store": {"url": SECRET}}))


@pytest.mark.parametrize("flag", ["gate", "=x", "gate=", "rtsp://user:hidden@host/a=b"])
def test_invalid_camera_flags_are_refused(flag: str) -> None:
    with pytest.raises(ConfigError, match="NAME=URL") as caught:
        camera_flags([flag])
    assert "hidden" not in str(caught.value)


class TestOverrides:
    def settings(self, **more: object) -> LiveSettings:
        return read_live(None, {"model": "m", "cameras": {"gate": {"url": "x", **more}}})

    def test_override_survives_a_restart_until_the_setting_changes(self, tmp_path: Path) -> None:
        Overrides(tmp_path).set("gate", "false_alarms", None, "5/h")
        again = Overrides(tmp_path)
        assert again.apply(self.settings()).cameras["gate"].false_alarms == "5/h"
        assert again.apply(self.settings(false_alarms="3/h")).cameras["gate"].false_alarms == "3/h"

    def test_setting_the_original_value_removes_the_override(self, tmp_path: Path) -> None:
        overrides = Overrides(tmp_path)
        overrides.set("gate", "false_alarms", "1/day", "5/h")
        overrides.set("gate", "false_alarms", "1/day", "1/day")
        assert overrides.apply(self.settings()) == self.settings()

    @pytest.mark.parametrize("content", ["", "[]", "{", '{"gate": 3}', '{"gate": {"zones": {"was": [], "now": 7}}}'])
    def test_damaged_file_is_ignored(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "overrides.json").write_text(content, encoding="utf-8")
        assert Overrides(tmp_path).apply(self.settings()) == self.settings()

    @pytest.mark.parametrize("content", ["", "[]", "{"])
    def test_damaged_file_is_not_overwritten(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "overrides.json").write_text(content, encoding="utf-8")
        with pytest.raises(SourceError, match=r"overrides\.json is damaged and was left as it is"):
            Overrides(tmp_path).set("gate", "false_alarms", "1/day", "5/h")
        assert (tmp_path / "overrides.json").read_text(encoding="utf-8") == content

    def test_concurrent_processes_lose_no_override(self, tmp_path: Path) -> None:
        code = (
            "import sys; from pathlib import Path; from comemory.live.config.overrides import Overrides;"
            "kept = Overrides(Path(sys.argv[1]));"
            "[kept.set(f'{sys.argv[2]}{k}', 'model', None, 'm') for k in range(60)]"
        )
        at_once(code, tmp_path)
        assert len(json.loads((tmp_path / "overrides.json").read_text(encoding="utf-8"))) == 120


@pytest.mark.parametrize("host", ["a" * 64, "broker..lan", "broker lan", "broker\n"])
def test_a_host_that_cannot_be_looked_up_is_refused(host: str, tmp_path: Path) -> None:
    for sink in ({"kind": "mqtt", "host": host}, {"kind": "webhook", "url": f"http://{host}/x"}):
        values = {"model": "nowhere", "out": str(tmp_path), "alerts": {"0": sink}}
        with pytest.raises(ConfigError, match=r"alerts\.0"):
            read_live(None, values)
