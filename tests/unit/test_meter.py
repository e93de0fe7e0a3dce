"""What processes take, as the system and the driver tell it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from shunter.storage.errors import SettingsError
from shunter.workers.meter import CUDA_SHARE, Meter, default_budget, device_memory, gpus, resident_memory
from tests.waiting import wait_until

MIB = 2**20
DRIVER = """#!/bin/sh
case "$*" in
  *memory.total*) echo "$*" | grep -q -- "--id=1" && echo 81920 ;;
  *compute-apps*) printf '11, 1000\\n12, [N/A]\\n13, 5\\n11, 24\\n' ;;
  *index*) printf '0\\n1\\n' ;;
esac
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes this script the machine's only nvidia-smi."""

    def install(script: str) -> None:
        (tmp_path / "nvidia-smi").write_text(script)
        (tmp_path / "nvidia-smi").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return install


def test_resident_memory_is_read_and_the_dead_are_left_out() -> None:
    sizes = resident_memory([os.getpid(), 2**22 + 1])
    assert list(sizes) == [os.getpid()]
    assert sizes[os.getpid()] > MIB


def test_a_meter_reads_what_it_is_told_to_watch() -> None:
    meter = Meter(lambda pids: {pid: pid * MIB for pid in pids}, 0.001)
    meter.watch([5])
    wait_until(lambda: meter.of(5))
    meter.stop()
    reading = meter.of(5)
    assert reading is not None
    assert (reading.size, meter.of(6)) == (5 * MIB, None)


def test_a_meter_survives_what_it_cannot_read(caplog: pytest.LogCaptureFixture) -> None:
    outages = iter([True, True])

    def read(_: object) -> dict[int, int]:
        if next(outages, False):
            raise OSError("no driver")
        return {5: MIB}

    meter = Meter(read, 0.001)
    meter.watch([5])
    wait_until(lambda: meter.of(5))
    meter.stop()
    assert [record.message for record in caplog.records].count(
        "the memory of engines cannot be measured, and is estimated: no driver"
    ) == 1


def test_what_the_driver_says_is_read(driver: Callable[[str], None]) -> None:
    driver(DRIVER)
    assert device_memory([11, 12]) == {11: 1024 * MIB}
    assert gpus() == ["cuda:0", "cuda:1"]
    assert default_budget("cuda:1") == int(CUDA_SHARE * 81920 * MIB)


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 9\n", "#!/bin/sh\necho '[N/A]'\n", "#!/bin/sh\n"])
def test_a_gpu_that_cannot_be_asked_is_told_with_the_remedy(
    driver: Callable[[str], None], script: str
) -> None:
    driver(script)
    with pytest.raises(SettingsError, match="--memory 20GiB"):
        default_budget("cuda:0")


def test_a_cpu_has_no_limit_of_itself() -> None:
    assert default_budget("cpu") is None
