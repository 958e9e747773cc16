"""Fetching the broker's jars: only files with the locked checksum are ever used."""

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from incident_pipelines.stack.errors import ArtifactRejectedError, StackError
from incident_pipelines.stack.jars import Jar, fetch_jars, locked_jars
from incident_pipelines.stack.locations import shipped_file

_CONTENT = b"the real jar" * 1000
_JAR = Jar("org.example", "broker", "1.0", hashlib.sha256(_CONTENT).hexdigest())


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The jar's file in a Maven repository that serves this machine only."""
    repository = tmp_path / "repository"
    path = repository / "org/example/broker/1.0/broker-1.0.jar"
    path.parent.mkdir(parents=True)
    path.write_bytes(_CONTENT)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(repository)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings = tmp_path / "jgo.conf"
    settings.write_text(f"[repositories]\ncentral = http://127.0.0.1:{server.server_port}\n")
    monkeypatch.setenv("JGO_CONFIG_FILE", str(settings))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    yield path
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "found", [None, b"", _CONTENT[:-1], b"T" + _CONTENT[1:]], ids=["none", "empty", "cut", "altered"]
)
def test_what_is_not_the_locked_file_is_fetched_again(published: Path, found: bytes | None) -> None:
    (path,) = fetch_jars(lambda _: None, (_JAR,))
    if found is None:
        path.unlink()
    else:
        path.write_bytes(found)
    steps: list[str] = []
    assert fetch_jars(steps.append, (_JAR,)) == (path,)
    assert path.read_bytes() == _CONTENT
    assert "fetched and verified broker-1.0.jar" in steps


def test_an_intact_jar_needs_no_repository(published: Path) -> None:
    fetch_jars(lambda _: None, (_JAR,))
    published.unlink()
    steps: list[str] = []
    fetch_jars(steps.append, (_JAR,))
    assert steps == []


def test_a_repository_that_gives_another_file_is_refused(published: Path, tmp_path: Path) -> None:
    published.write_bytes(b"something else")
    with pytest.raises(ArtifactRejectedError, match=r"broker-1\.0\.jar .* does not have the locked sha256"):
        fetch_jars(lambda _: None, (_JAR,))
    assert not list((tmp_path / "cache").rglob("*.jar"))


def test_a_jar_that_nobody_has_is_named(published: Path) -> None:
    published.unlink()
    with pytest.raises(StackError, match=r"broker-1\.0\.jar cannot be fetched"):
        fetch_jars(lambda _: None, (_JAR,))


def test_the_lock_pins_every_jar_and_names_no_repository() -> None:
    jars = locked_jars()
    assert {"kafka_2.13", "kafka-clients", "slf4j-simple"} <= {jar.artifact for jar in jars}
    assert all(len(jar.sha256) == 64 for jar in jars)
    assert len({jar.file_name for jar in jars}) == len(jars)
    for name in ("jgo.toml", "jgo.lock.toml"):
        assert "://" not in shipped_file(name).read_text()


def test_a_lock_without_a_checksum_is_refused(tmp_path: Path) -> None:
    lock = tmp_path / "jgo.lock.toml"
    lock.write_text('[[dependencies]]\ngroupId = "a"\nartifactId = "b"\nversion = "1"\n')
    with pytest.raises(StackError, match="not a complete lock file"):
        locked_jars(lock)
