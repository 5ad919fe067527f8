"""Deflated Sharpe ratios against the paper, overfitting of noise and of skill, the test of superior ability; trial counts."""

import math

import numpy as np
import pytest
from results import make_result, random_result

from quantflux_sb3.evaluation.overfitting import (
    deflated_sharpe_ratio,
    expected_maximum_sharpe,
    probabilistic_sharpe_ratio,
    probability_of_backtest_overfitting,
    split_selections,
    superior_predictive_ability,
)
from quantflux_sb3.evaluation.trials import tuning_trials


@pytest.mark.parametrize(
    ("n_trials", "skewness", "kurtosis", "expected"),
    [(100, -3.0, 10.0, 0.9004), (46, -3.0, 10.0, 0.9505), (88, 0.0, 3.0, 0.9505)],
)
def test_deflated_sharpe_ratio_of_the_paper(n_trials, skewness, kurtosis, expected):
    """Bailey & Lopez de Prado (2014), numerical example: a Sharpe ratio of 2.5 a year over 1,250 days, 250 of them a year."""
    luck = expected_maximum_sharpe(n_trials, 0.5 / 250)
    assert probabilistic_sharpe_ratio(2.5 / math.sqrt(250), luck, 1250, skewness, kurtosis) == pytest.approx(
        expected, abs=5e-5
    )


def test_expected_maximum_of_the_paper_and_of_a_simulation():
    assert expected_maximum_sharpe(100, 0.5 / 250) == pytest.approx(0.1132, abs=5e-5)
    assert expected_maximum_sharpe(1, 1.0) == 0.0
    maxima = np.random.default_rng(0).normal(0.0, 0.3, (20_000, 50)).max(axis=1)
    assert expected_maximum_sharpe(50, 0.09) == pytest.approx(maxima.mean(), rel=0.02)


def test_best_of_many_worthless_strategies_is_deflated():
    """Uniform under the hypothesis, so about one in twenty of such winners passes; without deflating almost all do."""
    passed, naive = 0, 0
    for trial in range(200):
        returns = np.random.default_rng(trial).normal(0.0, 0.01, (500, 20))
        best = make_result(returns[:, returns.mean(axis=0).argmax()])
        figures = deflated_sharpe_ratio(best, n_trials=20)
        passed += figures["deflated_sharpe_ratio"] > 0.95
        naive += figures["probabilistic_sharpe_ratio"] > 0.95
    assert passed <= 20 and naive >= 100


def test_deflated_sharpe_ratio_of_trials_by_hand():
    result, sharpes = random_result(3, n_days=1000, mean=0.001), [0.1, 0.5, 0.9, -0.3]
    figures = deflated_sharpe_ratio(result, trial_sharpes=sharpes)
    deviation = np.std(sharpes, ddof=1)
    assert figures["n_trials"] == 4 and figures["trial_deviation_from"] == "trials"
    assert figures["trial_deviation"] == pytest.approx(deviation, abs=1e-12)
    assert figures["expected_maximum_sharpe"] == pytest.approx(expected_maximum_sharpe(4, deviation**2), abs=1e-12)
    assert deflated_sharpe_ratio(result, 4, trial_deviation=deviation) == pytest.approx(figures)
    more = deflated_sharpe_ratio(result, n_trials=92, trial_sharpes=sharpes)
    assert more["deflated_sharpe_ratio"] < figures["deflated_sharpe_ratio"] < figures["probabilistic_sharpe_ratio"]
    assert deflated_sharpe_ratio(result, 1)["deflated_sharpe_ratio"] == figures["probabilistic_sharpe_ratio"]


def test_a_series_that_stands_still_has_no_skill():
    figures = deflated_sharpe_ratio(make_result(np.full(100, 1e-4), risk_free=1e-4), n_trials=10)
    assert figures["probabilistic_sharpe_ratio"] == 0.5
    assert figures["deflated_sharpe_ratio"] < 0.1


def test_numbers_of_trials_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="at least 1; got None and 0 `trial_sharpes`"):
        deflated_sharpe_ratio(random_result(0))
    with pytest.raises(ValueError, match="every trial, at least 1; got 2 and 3 `trial_sharpes`"):
        deflated_sharpe_ratio(random_result(0), 2, [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match="must be finite; got None and nan"):
        deflated_sharpe_ratio(random_result(0), 2, trial_deviation=math.nan)
    with pytest.raises(ValueError, match="at least 3 days"):
        deflated_sharpe_ratio(make_result([0.0, 0.1]), 2)


def test_noise_is_overfitted_half_of_the_time():
    probabilities = [
        probability_of_backtest_overfitting(np.random.default_rng(seed).normal(0.0, 0.01, (1000, 20)), 10)["probability"]
        for seed in range(40)
    ]
    assert np.mean(probabilities) == pytest.approx(0.5, abs=0.08)


def test_a_strategy_that_is_better_is_not_overfitted():
    returns = np.random.default_rng(1).normal(0.0, 0.01, (2000, 20))
    returns[:, 7] += 0.0015
    figures = probability_of_backtest_overfitting(returns)
    assert figures["probability"] < 0.01 and figures["probability_of_loss"] < 0.01
    assert figures["n_splits"] == math.comb(16, 8)


def test_overfitting_equals_the_plain_loop():
    from itertools import combinations

    returns = np.random.default_rng(2).normal(0.0003, 0.01, (121, 5))  # blocks of 20 and 21 days
    blocks, logits = np.array_split(np.arange(121), np.linspace(0, 121, 7).astype(int)[1:-1]), []
    for chosen in combinations(range(6), 3):
        inside = returns[np.concatenate([blocks[i] for i in chosen])]
        outside = returns[np.concatenate([blocks[i] for i in range(6) if i not in chosen])]
        best = (inside.mean(axis=0) / inside.std(axis=0, ddof=1)).argmax()
        judged = outside.mean(axis=0) / outside.std(axis=0, ddof=1)
        place = (judged <= judged[best]).sum() / 6
        logits.append(math.log(place / (1 - place)))
    np.testing.assert_allclose(split_selections(returns, 6).logits, logits, rtol=0, atol=1e-12)
    assert probability_of_backtest_overfitting(returns, 6)["probability"] == np.mean(np.array(logits) <= 0.0)


def test_overfitting_takes_backtests_and_refuses_too_little():
    runs = [random_result(seed) for seed in range(3)]
    matrix = np.column_stack([run.returns for run in runs])
    assert probability_of_backtest_overfitting(runs)["slope"] == probability_of_backtest_overfitting(matrix)["slope"]
    for wrong in (matrix[:, :1], matrix[:50]):
        with pytest.raises(ValueError, match="at least 2 strategies and an even number of blocks"):
            probability_of_backtest_overfitting(wrong)


def test_superior_ability_finds_skill_and_does_not_find_noise():
    rng = np.random.default_rng(3)
    common = rng.normal(0.0004, 0.01, 2000)
    benchmark = make_result(common, name="equal weight")
    noise = [make_result(common + rng.normal(0.0, 0.003, 2000), name=f"noise {i}") for i in range(8)]
    skilled = make_result(common + rng.normal(0.0004, 0.003, 2000), name="skilled")
    assert superior_predictive_ability(benchmark, noise, n_bootstraps=500)["p_value"] > 0.1
    figures = superior_predictive_ability(benchmark, [*noise, skilled], n_bootstraps=500)
    assert figures["p_value"] < 0.02 and figures["best"] == "skilled" and figures["n_strategies"] == 9
    assert figures["p_lower"] <= figures["p_value"] <= figures["p_upper"]


def test_superior_ability_is_seldom_found_in_noise():
    found = 0
    for seed in range(40):
        returns = np.random.default_rng(seed).normal(0.0, 0.01, (300, 6))
        runs = [make_result(column) for column in returns.T]
        found += superior_predictive_ability(runs[0], runs[1:], n_bootstraps=200)["p_value"] < 0.05
    assert found <= 6  # 2 expected


def test_superior_ability_does_not_depend_on_leverage():
    """Sharpe ratios do not, and one wild strategy must not drown the others."""
    runs = [random_result(seed, mean=0.0003 * seed) for seed in range(4)]
    levered = [runs[1], make_result(50 * runs[2].returns), runs[3]]
    plain, wild = (superior_predictive_ability(runs[0], others, n_bootstraps=200) for others in (runs[1:], levered))
    assert wild["statistic"] == pytest.approx(plain["statistic"], abs=1e-9)
    assert wild["p_value"] == plain["p_value"]


def test_superior_ability_refuses_what_it_cannot_test():
    run = random_result(0)
    with pytest.raises(ValueError, match="None of the 1 strategies differs"):
        superior_predictive_ability(run, [run])
    with pytest.raises(ValueError, match="on the same days"):
        superior_predictive_ability(run, [])
    with pytest.raises(ValueError, match="'sharpe' or 'return'; got 'sortino'"):
        superior_predictive_ability(run, [run], "sortino")


def test_trials_are_counted_in_every_form_that_optuna_leaves(tmp_path):
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    def objective(trial):
        x = trial.suggest_float("x", -1.0, 1.0)
        if trial.number == 3:
            raise optuna.TrialPruned
        if trial.number == 4:
            raise ValueError("a failure that nobody saw")
        return x

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    journal = tmp_path / "study.log"
    study = optuna.create_study(
        study_name="a", storage=JournalStorage(JournalFileBackend(str(journal))), sampler=optuna.samplers.RandomSampler(seed=0)
    )
    study.optimize(objective, n_trials=6, catch=ValueError)
    study.trials_dataframe().to_csv(tmp_path / "report.csv")
    url = f"sqlite:///{tmp_path / 'study.db'}"
    optuna.copy_study(from_study_name="a", from_storage=study._storage, to_storage=url)
    counts = [tuning_trials(source) for source in (tmp_path / "report.csv", journal, url)]
    assert [count.n_trials for count in counts] == [5, 5, 5]  # four complete, one pruned
    for count in counts:
        assert count.values == counts[0].values
    assert len(counts[0].values) == 4
    with pytest.raises(ValueError, match=r"holds the studies \['a'\], not 'b'"):
        tuning_trials(url, "b")


def test_files_without_trials_are_refused(tmp_path):
    with pytest.raises(ValueError, match="There is no file"):
        tuning_trials(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"is no table of trials: it has the columns \['a', 'b'\]"):
        tuning_trials(tmp_path / "other.csv")
