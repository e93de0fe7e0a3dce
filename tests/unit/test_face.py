"""`import shunter`: what it offers, and what it costs."""

import subprocess
import sys
from types import ModuleType

import shunter

HEAVY = ("torch", "celery", "kombu", "fastapi", "sqlalchemy", "boto3", "numpy", "httpx")


def test_all_is_exactly_what_is_public() -> None:
    public = {
        name
        for name, value in vars(shunter).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert {*shunter.__all__} == public | {"__version__"}


def test_all_is_sorted_and_has_no_doubles() -> None:
    assert sorted(set(shunter.__all__)) == sorted(shunter.__all__)


def test_every_public_name_says_what_it_is() -> None:
    undocumented = [name for name in shunter.__all__ if not getattr(shunter, name).__doc__]
    assert undocumented == []


def test_importing_it_loads_nothing_heavy() -> None:
    program = f"import shunter, sys; print([name for name in {HEAVY} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "[]", loaded.stderr
