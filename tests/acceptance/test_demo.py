"""`shunter demo`: real images through a whole fleet, and nothing left behind."""

from __future__ import annotations

import subprocess
from pathlib import Path

from shunter.embedded import start_redis
from tests.acceptance.up import COMMAND, clean_environment


def test_it_checks_every_result_and_leaves_nothing_behind(tmp_path: Path) -> None:
    told = demo(tmp_path)
    assert told.returncode == 0, told.stdout + told.stderr
    assert "1797 items polled by their ids: each succeeded, and equals a direct forward" in told.stdout
    assert "passed: every result was checked" in told.stdout
    assert list(tmp_path.iterdir()) == []


def test_it_uses_the_services_that_are_given(tmp_path: Path) -> None:
    with start_redis(tmp_path / "redis") as given:
        told = demo(tmp_path, SHUNTER_REDIS_URL=given.url, SHUNTER_OBJECT_STORE=(tmp_path / "o").as_uri())
        assert told.returncode == 0, told.stdout + told.stderr
        assert given.exit_code() is None


def demo(scratch: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, "demo"],
        env={**clean_environment(), "TMPDIR": str(scratch), **environment},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
