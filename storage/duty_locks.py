"""Duties of which the fleet does one at a time: each holds an advisory lock of Postgres while it is done."""

from __future__ import annotations

from enum import IntEnum, unique


@unique
class DutyLock(IntEnum):
    """The keys of the locks; those of the same fleet must agree on them, whatever their versions."""

    RELAY = 0x53480001
    RESCUE = 0x53480002
    EXPIRE_JOBS = 0x53480003
    NAME_UNSERVED = 0x53480004
    UPKEEP = 0x53480005
    FORGET_JOBS = 0x53480006
    SWEEP_OBJECTS = 0x53480007
    PLAN_SCORINGS = 0x53480010
    FINISH_SCORINGS = 0x53480011
    FIRE_SCHEDULES = 0x53480012
    REPORT_SCORINGS = 0x53480013
    FORGET_SCORINGS = 0x53480014
