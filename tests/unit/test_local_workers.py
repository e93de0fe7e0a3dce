"""Which workers a local fleet starts, and where."""

from __future__ import annotations

from shunter.local_fleet import worker_devices

GPUS = ["cuda:0", "cuda:1"]


def test_there_is_one_worker_for_each_device_unless_another_number_is_asked_for() -> None:
    assert worker_devices(["cpu"], None) == {"worker-1": "cpu"}
    assert worker_devices(GPUS, None) == {"worker-1": "cuda:0", "worker-2": "cuda:1"}
    assert worker_devices(GPUS, 1) == {"worker-1": "cuda:0"}
    assert list(worker_devices(GPUS, 3).values()) == ["cuda:0", "cuda:1", "cuda:0"]
