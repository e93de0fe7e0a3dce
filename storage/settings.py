"""What an operator sets: read from the environment here, and nowhere else."""

from __future__ import annotations

import difflib
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from urllib.parse import urlsplit

from shunter.storage import clock, failpoints
from shunter.storage.errors import SettingsError

PREFIX = "SHUNTER_"
TEST_VARIABLES = (failpoints.VARIABLE, failpoints.CONSENT, clock.VARIABLE)

DATABASE_SCHEMES = ("postgresql", "postgres", "postgresql+psycopg2")
REDIS_SCHEMES = ("redis", "rediss", "sentinel", "redis+socket")
STORE_SCHEMES = ("file", "s3")

# By pattern, not by parts: a URL that urlsplit misreads must not show its password either.
_USER_PASSWORD = re.compile(r"(://[^:/]*:)(?:(?!;[a-z+]+://).)+@")
_QUERY_PASSWORD = re.compile(r"([?&](?:ssl)?password=)[^&#]+", re.IGNORECASE)

DAY_S = 86_400.0
DEFAULT_KEEP_DAYS, DEFAULT_KEEP_FAILED_DAYS = 7, 30
MAX_KEEP_DAYS = 36_500
_DAYS = _PRICE = re.compile(r"[0-9]+(\.[0-9]+)?")

MAX_JOB_ROWS = 10_000
"""Rows in one job; a larger dataset is several jobs (`map`) or a scoring (`score`)."""

MAX_JOB_BYTES = 64 * 2**20
"""Encoded bytes of one job's rows; the block passes through memory whole."""

MAX_OUTPUT_BYTES = 512 * 2**20
"""Encoded bytes of one job's outputs: the block passes through the engine's memory and its reader's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Where the services are; every field is the SHUNTER_ variable of the same name."""

    database_url: str = ""
    redis_url: str = ""
    object_store: str = ""
    models: str = ""
    data: str = ""
    api_url: str = ""
    api_key: str = ""
    keep_days: str = ""
    keep_failed_days: str = ""
    fetch_from: str = ""
    device_hour_price: str = ""

    def __post_init__(self) -> None:
        _check_scheme("database_url", self.database_url, DATABASE_SCHEMES)
        _check_scheme("redis_url", self.redis_url, REDIS_SCHEMES)
        _check_scheme("object_store", self.object_store, STORE_SCHEMES)
        _check_scheme("api_url", self.api_url, ("http", "https"))
        for prefix in split_prefixes(self.fetch_from):
            _check_scheme("fetch_from", prefix, STORE_SCHEMES)
        for name in ("keep_days", "keep_failed_days"):
            _check_days(name, getattr(self, name))
        _check_price("device_hour_price", self.device_hour_price)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Settings:
        """Read the SHUNTER_ variables; an unknown one warns, because platforms inject their own.

        Raises SettingsError, also when failpoints are armed outside of a test.
        """
        variables = os.environ if environment is None else environment
        failpoints.asked_for(variables)
        known = {PREFIX + field.name.upper(): field.name for field in fields(cls)}
        for name in variables:
            if name.startswith(PREFIX) and name not in known and name not in TEST_VARIABLES:
                _warn_unknown(name, known)
        return cls(**{field: variables[name] for name, field in known.items() if variables.get(name)})

    def require(self, *names: str) -> Settings:
        """Return these settings, or raise SettingsError naming the variables that are missing."""
        missing = [PREFIX + name.upper() for name in names if not getattr(self, name)]
        if missing:
            raise SettingsError(
                f"{' and '.join(missing)} not set: run `shunter up` and then `eval $(shunter env)` "
                "in this shell, or set them to your own services",
                field=missing[0],
            )
        return self

    @property
    def models_directory(self) -> Path | None:
        """Where the models are, if set."""
        return Path(self.models).expanduser().absolute() if self.models else None

    @property
    def keep_s(self) -> float:
        """How many seconds jobs are kept that have ended."""
        return float(self.keep_days or DEFAULT_KEEP_DAYS) * DAY_S

    @property
    def keep_failed_s(self) -> float:
        """How many seconds failed jobs and quarantined messages are kept."""
        return float(self.keep_failed_days or DEFAULT_KEEP_FAILED_DAYS) * DAY_S

    @property
    def price_per_device_hour(self) -> float | None:
        """What a device costs for an hour, in whatever money; reports tell of costs if it is set."""
        return float(self.device_hour_price) if self.device_hour_price else None

    def environment(self) -> dict[str, str]:
        """These settings as environment variables, for child processes and other shells."""
        return {PREFIX + f.name.upper(): getattr(self, f.name) for f in fields(self) if getattr(self, f.name)}


def split_prefixes(text: str) -> tuple[str, ...]:
    """Prefixes that are separated by commas."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def fetch_prefixes(object_store: str, environment: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """Below which prefixes rows may refer to objects: by default the object store's bucket or directory."""
    variables = os.environ if environment is None else environment
    asked = split_prefixes(variables.get(f"{PREFIX}FETCH_FROM", ""))
    bucket = urlsplit(object_store)._replace(path="").geturl()
    return asked or ((bucket,) if object_store.startswith("s3://") else (object_store,))


def _check_scheme(field: str, url: str, schemes: tuple[str, ...]) -> None:
    if url and _scheme(url) not in schemes:
        raise SettingsError(
            f"{PREFIX}{field.upper()} is {redact(url)!r}: its scheme must be one of {', '.join(schemes)}",
            field=PREFIX + field.upper(),
        )


def _check_days(field: str, text: str) -> None:
    if text and not (_DAYS.fullmatch(text) and 0 < float(text) <= MAX_KEEP_DAYS):
        raise SettingsError(
            f"{PREFIX}{field.upper()} is {text!r}: give a number of days above 0, up to {MAX_KEEP_DAYS}",
            field=PREFIX + field.upper(),
        )


def _check_price(field: str, text: str) -> None:
    if text and not _PRICE.fullmatch(text):
        raise SettingsError(
            f"{PREFIX}{field.upper()} is {text!r}: give the price of a device for an hour, such as 2.50",
            field=PREFIX + field.upper(),
        )


def _scheme(url: str) -> str:
    try:
        return urlsplit(url).scheme
    except ValueError:
        return ""


def redact(url: str) -> str:
    """The URL, or several joined by semicolons, without passwords, for messages and logs."""
    return _QUERY_PASSWORD.sub(r"\1***", _USER_PASSWORD.sub(r"\1***@", url))


def _warn_unknown(name: str, known: Mapping[str, str]) -> None:
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    warnings.warn(f"{name} is no setting of Shunter and is ignored{hint}", stacklevel=3)
