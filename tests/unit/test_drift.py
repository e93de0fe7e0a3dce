"""Drift: distances of sketches agree with exact ones, chance is not called drift, and change is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import chi2, ks_2samp

from shunter.storage.scoring.drift import (
    LEAST_KS,
    LEAST_PSI,
    Distance,
    bin_counts,
    compare,
    distinct_quantiles,
    ks,
    ks_limit,
    psi,
    psi_limit,
)
from shunter.storage.scoring.sketches import (
    RANK_ERROR,
    Sketches,
    decode_sketches,
    encode_sketches,
    sketch_table,
)

Array = np.ndarray[Any, Any]


def sketches(**columns: Any) -> Sketches:
    return sketch_table({name: pa.array(values) for name, values in columns.items()}, every=1, seed=0)


def normal(seed: int, rows: int, *, mean: float = 0.0, scale: float = 1.0) -> Array:
    return np.random.default_rng(seed).normal(mean, scale, rows)


def exact_psi(now: Array, reference: Array) -> float:
    edges = np.quantile(reference, np.linspace(0.1, 0.9, 9))
    shares = [
        np.bincount(np.searchsorted(edges, each), minlength=10) / len(each) for each in (now, reference)
    ]
    return float(((shares[0] - shares[1]) * np.log(shares[0] / shares[1])).sum())


def only(distances: list[Distance], of: str) -> Distance:
    (found,) = (distance for distance in distances if distance.of == of)
    return found


@pytest.mark.parametrize("mean", [0.0, 0.1, 0.3, 0.5, 1.0])
def test_the_distances_agree_with_exact_computation(mean: float) -> None:
    now, reference = normal(1, 100_000, mean=mean), normal(2, 100_000)
    found = only(compare(sketches(x=now), sketches(x=reference))["x"], "value")
    assert found.ks == pytest.approx(ks_2samp(now, reference).statistic, abs=2 * RANK_ERROR)
    assert found.psi == pytest.approx(exact_psi(now, reference), rel=0.15, abs=0.005)


def test_the_limits_are_those_of_the_distributions() -> None:
    least = chi2.ppf(1 - 0.001, 9) * (1 / 50 + 1 / 60)
    assert psi_limit(50, 60, bins=10, alpha=0.001) == pytest.approx(least, rel=0.02)
    chance = np.sqrt(-np.log(0.001 / 2) / 2) * np.sqrt(110 / 3000)
    assert ks_limit(50, 60, 0.001) == pytest.approx(chance + 2 * RANK_ERROR)


def test_with_many_rows_a_change_must_also_be_large() -> None:
    assert psi_limit(10**6, 10**6, bins=10, alpha=0.001) == LEAST_PSI
    assert ks_limit(10**6, 10**6, 0.001) == pytest.approx(LEAST_KS + 2 * RANK_ERROR)


@pytest.mark.parametrize("rows", [3, 20, 100, 1_000])
def test_chance_is_not_called_drift(rows: int) -> None:
    def night(seed: int) -> Sketches:
        generator = np.random.default_rng(seed)
        words = generator.choice(["red", "green", "blue"], rows)
        return sketches(a=generator.normal(size=rows), b=generator.exponential(size=rows), word=list(words))

    drifted = [
        seed
        for seed in range(100)
        if any(d.drifted for ds in compare(night(2 * seed), night(2 * seed + 1)).values() for d in ds)
    ]
    # One report in a hundred may err.
    assert len(drifted) <= 4


@pytest.mark.parametrize(
    "changed",
    [
        {"x": normal(3, 500, mean=1.0)},
        {"x": normal(3, 500, scale=2.5)},
        {"x": np.where(np.arange(500) % 4, normal(3, 500), np.nan)},
    ],
    ids=["moved", "wider", "fewer"],
)
def test_a_change_is_called_drift(changed: dict[str, Any]) -> None:
    column = pa.array(changed["x"], from_pandas=True)
    now = sketch_table({"x": column}, every=1, seed=0)
    assert any(distance.drifted for distance in compare(now, sketches(x=normal(4, 500)))["x"])


def test_other_words_are_called_drift() -> None:
    now, reference = sketches(word=["a"] * 20 + ["b"] * 80), sketches(word=["a"] * 80 + ["b"] * 20)
    assert only(compare(now, reference)["word"], "values").drifted
    assert not any(distance.drifted for distance in compare(now, now)["word"])


def test_texts_that_do_not_repeat_have_no_values_to_compare() -> None:
    now, reference = (sketches(text=[f"{side} {n}" for n in range(200)]) for side in ("a", "b"))
    assert [distance.of for distance in compare(now, reference)["text"]] == ["nulls", "characters"]


def test_a_reference_of_one_value_is_compared_on_both_sides() -> None:
    reference = sketches(x=[5.0] * 100)
    for value in (4.0, 6.0):
        found = only(compare(sketches(x=[value] * 100), reference)["x"], "value")
        assert (found.ks, found.drifted) == (1.0, True)


def test_columns_that_only_one_side_has_are_left_out() -> None:
    assert compare(sketches(a=[1], b=[1]), sketches(b=[1], c=[1])).keys() == {"b"}


def test_equal_shares_have_no_distance() -> None:
    assert psi([10, 20, 30], [10, 20, 30]) == 0.0
    measure = sketches(x=normal(5, 1_000))["x"].measures["value"]
    assert ks(measure, measure) == 0.0
    edges = distinct_quantiles(measure, 10)
    assert sum(bin_counts(measure, edges)) == pytest.approx(1_000, abs=10)


def scores(seed: int, *, sharpness: float) -> pa.Array:
    """Rows of ten scores that add up to 1, as a network gives them."""
    each = np.exp(normal(seed, 20_000, scale=sharpness).astype(np.float32)).reshape(-1, 10)
    each /= each.sum(axis=1, keepdims=True)
    return pa.FixedSizeListArray.from_arrays(pa.array(each.reshape(-1)), 10)


@pytest.mark.parametrize("type", [pa.float32(), pa.float64()])
def test_what_only_rounding_tells_apart_has_not_drifted(type: pa.DataType) -> None:
    blurred, sharp = (
        scores(seed, sharpness=sharpness).cast(pa.list_(type)) for seed, sharpness in ((1, 1.0), (2, 4.0))
    )
    found = compare(sketches(p=blurred), sketches(p=sharp))["p"]
    means = only(found, "mean")
    assert (means.psi, means.ks, means.drifted) == (0.0, 0.0, False)
    assert only(found, "spread").drifted


def test_means_that_lie_apart_by_more_than_rounding_drift_however_small_they_are() -> None:
    small = [normal(seed, 20_000, mean=mean).reshape(-1, 10) * 1e-12 for seed, mean in ((1, 0.0), (2, 1.0))]
    now, reference = (sketches(p=list(rows)) for rows in small)
    assert only(compare(now, reference)["p"], "mean").drifted


@pytest.mark.parametrize("whole", [False, True], ids=["float64", "integers"])
def test_a_large_number_beside_them_does_not_hide_that_others_drift(whole: bool) -> None:
    def rows(seed: int, mean: float) -> Sketches:
        each = np.column_stack([np.full(5_000, 1.767e9), normal(seed, 10_000, mean=mean).reshape(-1, 2)])
        return sketches(p=list(each.astype(np.int64) if whole else each))

    found = compare(rows(1, 50.0), rows(2, 0.0))["p"]
    assert only(found, "mean").drifted
    assert only(found, "spread").drifted


def test_sketches_keep_whether_their_numbers_are_of_32_bits() -> None:
    lists = [scores(1, sharpness=1.0), pa.array([[1e-300, 0.1]]), pa.array([[1, 2]]), pa.array([[]])]
    found = [sketches(p=each) for each in lists]
    (kept,) = decode_sketches(
        encode_sketches(kept={str(n): each["p"] for n, each in enumerate(found)})
    ).values()
    assert [kept[str(n)].single for n in range(4)] == [True, False, False, True]
    kept["0"].merge(kept["1"])
    assert not kept["0"].single
