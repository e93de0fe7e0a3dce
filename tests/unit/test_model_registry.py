"""Models as they lie in a directory."""

from pathlib import Path

import pytest

from shunter.storage.errors import ModelConfigError
from shunter.storage.model_config import ModelConfig, parse
from shunter.storage.model_registry import describe, read_config, scan
from shunter.storage.signature import TensorSpec
from tests.engine_process import write_model

EVERYTHING = {
    "batching": {"max_rows": 32, "max_tokens": 4096, "max_wait_s": 0.25},
    "run": {"batch_timeout_s": 10, "load_timeout_s": 20, "max_attempts": 5, "warmup": True},
    "params": {"threshold": 0.5, "labels": ["a", "b"]},
    "signature": {
        "inputs": {"x": {"dtype": "float32", "shape": [-1, 128]}},
        "outputs": {"y": {"dtype": "int64"}},
    },
}


def test_every_setting_is_read_and_survives_the_database() -> None:
    config = parse(EVERYTHING, source="model.toml")
    assert config.batching.max_tokens == 4096
    assert config.run.batch_timeout_s == 10.0
    assert config.signature.inputs["x"] == TensorSpec("float32", (-1, 128))
    assert ModelConfig.from_document(config.to_document()) == config


def test_defaults_need_no_file() -> None:
    assert parse({}, source="model.toml") == ModelConfig()


def test_settings_of_a_newer_version_are_ignored_in_the_database_only() -> None:
    document = ModelConfig().to_document()
    document["batching"]["max_moons"] = 3
    document["moons"] = {}
    assert ModelConfig.from_document(document) == ModelConfig()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[batchin]", "does not know 'batchin': did you mean 'batching'?"),
        ("[batching]\nmax_row = 3", "[batching] does not know 'max_row': did you mean 'max_rows'?"),
        ("[batching]\nmax_rows = 0", "[batching] max_rows is 0: write a whole number from 1"),
        ("[batching]\nmax_rows = true", "[batching] max_rows is True"),
        ("[batching]\ntokens = 'summed'", "tokens is 'summed': write one of padded, packed"),
        ("[batching]\nmax_wait_s = inf", "max_wait_s is inf: write a number of seconds"),
        ("[run]\nwarmup = 1", "warmup is 1: write true or false"),
        ("[run]\nwarmup = true", "warmup needs rows: declare [signature.inputs]"),
        ("[run]\ncompile = true", "compile needs warmup = true"),
        ("[run]\ndtype = 'int8'", "dtype is 'int8': write one of bfloat16, float16"),
        ("[run]\nwarmup_lengths = [0]", "warmup_lengths is [0]: write a list of whole numbers from 1"),
        ("[run]\npreprocess_processes = -1", "preprocess_processes is -1: write a whole number from 0"),
        ("batching = 3", "batching is 3: write a table, [batching]"),
        ("[params]\nday = 2020-01-01", "write dates and times as strings"),
        ("[signature.inputs]\nx = {dtype='float31'}", "dtype is 'float31': write one of bool"),
        ("[signature.inputs]\nx = {dtype='int8', shape=[-2]}", "shape is [-2]"),
        ("[signature.input]\nx = {dtype='int8'}", "did you mean 'inputs'?"),
        ("[batching\n", "model.toml"),
    ],
)
def test_a_wrong_setting_names_the_file_the_key_and_the_remedy(tmp_path: Path, text: str, words: str) -> None:
    directory = write_model(tmp_path, config=text)
    with pytest.raises(ModelConfigError) as refused:
        read_config(directory)
    assert words in refused.value.message
    assert str(directory) in refused.value.message


def test_a_versions_own_file_overrides_the_models_key_by_key(tmp_path: Path) -> None:
    directory = write_model(tmp_path, config="[batching]\nmax_rows = 4\n[params]\na = 1")
    (tmp_path / "tiny" / "model.toml").write_text("[batching]\nmax_rows = 9\nmax_wait_s = 1\n[params]\nb = 2")
    config = read_config(directory)
    assert (config.batching.max_rows, config.batching.max_wait_s) == (4, 1.0)
    assert config.params == {"a": 1, "b": 2}


def test_a_scan_finds_the_good_and_says_why_not_the_bad(tmp_path: Path) -> None:
    write_model(tmp_path, "x = 1", version=10)
    write_model(tmp_path, "x = 2", version=9)
    write_model(tmp_path, name="wrong", config="nonsense = 1")
    (tmp_path / "no version" / "1").mkdir(parents=True)
    (tmp_path / "empty" / "v1").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "README").touch()
    versions, failures = scan(tmp_path)
    assert [(found.name, found.version) for found in versions] == [("tiny", 9), ("tiny", 10)]
    assert [error.message.split(":")[0].removeprefix(f"{tmp_path}/").split("/")[0] for error in failures] == [
        "empty",
        "no version",
        "wrong",
    ]


def test_a_models_directory_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ModelConfigError, match="SHUNTER_MODELS"):
        scan(tmp_path / "nowhere")


def test_the_digest_changes_with_every_file_and_with_nothing_else(tmp_path: Path) -> None:
    directory = write_model(tmp_path, "x = 1")
    digests = [describe(directory).digest]
    (directory / "__pycache__").mkdir()
    (directory / "__pycache__" / "model.pyc").touch()
    assert describe(directory).digest == digests[0]
    (directory / "model.py").write_text("x = 2")
    digests.append(describe(directory).digest)
    (directory / "weights").mkdir()
    (directory / "weights" / "w.bin").write_bytes(b"w")
    digests.append(describe(directory).digest)
    (tmp_path / "tiny" / "model.toml").write_text("[batching]\nmax_rows = 9")
    digests.append(describe(directory).digest)
    assert len(set(digests)) == 4
