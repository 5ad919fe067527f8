"""
The names of figures and how they are written: the one place where numbers become text.

The page, the terminal and the pictures all ask here, so that they agree.
"""

from collections.abc import Mapping
from typing import Any

from quantflux_sb3.dynamics import REWARD_TERMS
from quantflux_sb3.regimes import REGIMES

#: Heading and format of every figure with a name of its own; others are shown by their key with three digits.
FIGURES = {
    "name": ("Strategy", "{}"),
    "annual_return": ("Annual return", "{:.1%}"),
    "annual_volatility": ("Volatility", "{:.1%}"),
    "sharpe_ratio": ("Sharpe", "{:.2f}"),
    "sharpe_interval": ("95 % interval of Sharpe", "{:.2f}"),
    "max_drawdown": ("Max. drawdown", "{:.1%}"),
    "annual_turnover": ("Turnover / year", "{:.0%}"),
    "annual_cost": ("Cost / year", "{:.2%}"),
    "mean_exposure": ("Exposure", "{:.1%}"),
    "sortino_ratio": ("Sortino", "{:.2f}"),
    "calmar_ratio": ("Calmar", "{:.2f}"),
    "cumulative_return": ("Cumulative return", "{:.1%}"),
    "excess_annual_return": ("Return over benchmark", "{:+.1%}"),
    "tracking_error": ("Tracking error", "{:.1%}"),
    "information_ratio": ("Information ratio", "{:.2f}"),
    "beta": ("Beta", "{:.2f}"),
    "trades_per_year": ("Trades / year", "{:.1f}"),
    "effective_assets": ("Effective assets", "{:.1f}"),
    "distance_to_equal_weight": ("Distance to equal weight, invested part", "{:.1%}"),
    "distance_to_equal_weight_rule": ("Distance to equal weight", "{:.1%}"),
    "distance_to_base_rule": ("Distance to its base rule", "{:.1%}"),
    "difference": ("Sharpe difference", "{:+.2f}"),
    "interval": ("95 % interval", "{:+.2f}"),
    "run": ("Run", "{}"),
    "seeds_range": ("Seeds, least to largest", "{:.2f}"),
    "agent_sharpe": ("Agent", "{:.2f}"),
    "base rule_sharpe": ("Base rule", "{:.2f}"),
    "equal weight_sharpe": ("Equal weight", "{:.2f}"),
    "sharpe_a": ("Sharpe of the first", "{:.2f}"),
    "sharpe_b": ("Sharpe of the second", "{:.2f}"),
    "p_value": ("p-value", "{:.3f}"),
    "n_seeds_a": ("Seeds", "{:,}"),
    "deflated_sharpe_ratio": ("Deflated Sharpe: chance that the chosen seed beats so many worthless trials", "{:.1%}"),
    "probabilistic_sharpe_ratio": ("Probability of a Sharpe above 0", "{:.1%}"),
    "expected_maximum_sharpe": ("Best Sharpe of so many worthless trials", "{:.2f}"),
    "n_trials": ("Settings tried", "{:,}"),
    "superior_p_value": ("Best strategy against equal weight, p-value", "{:.3f}"),
    "overfitting_probability": ("Probability of backtest overfitting", "{:.1%}"),
    "iqm": ("Interquartile mean", "{:.2f}"),
    "iqm_interval": ("95 % interval of it", "{:.2f}"),
    "median": ("Median", "{:.2f}"),
    "deviation": ("Standard deviation", "{:.2f}"),
    "min": ("Least", "{:.2f}"),
    "max": ("Largest", "{:.2f}"),
    "validation_sharpe_ratio": ("Sharpe, validation years", "{:.2f}"),
    "test_sharpe_ratio": ("Sharpe, test years", "{:.2f}"),
    "mean_weight": ("Mean weight", "{:.1%}"),
    "min_weight": ("Least weight", "{:.1%}"),
    "max_weight": ("Largest weight", "{:.1%}"),
    "contribution": ("Contribution to return", "{:+.1%}"),
    "regime": ("Regime", "{}"),
    "days": ("Days", "{:,}"),
    "share_of_days": ("Share of days", "{:.1%}"),
    "log_excess_return": ("Log return over benchmark", "{:+.3f}"),
    "cost": ("Cost, sum over days", "{:.2%}"),
    "turnover": ("Turnover", "{:.0%}"),
    "trades": ("Trades", "{:,}"),
    **{name: (name.capitalize(), "{:+.3f}") for name in ("allocation", "selection", "interaction", "costs", "total")},
    "mean_benchmark_weight": ("Mean weight in the other", "{:.1%}"),
    **{f"reward_{name}": (name.capitalize().replace("_", " "), "{:+.3f}") for name in REWARD_TERMS},
    "effect": ("Effect", "{:+.1%}"),
    "moved": ("Moved", "{:.1%}"),
    "importance": ("Weight moved", "{:.2%}"),
    "longest_stale": ("Longest run unchanged", "{:,}"),
    "removed": ("Impossible prices", "{:,}"),
    "filled": ("Filled days", "{:,}"),
    "suspended": ("Suspended days", "{:,}"),
    "unlisted": ("Days not listed", "{:,}"),
    "mean_cash": ("Cash", "{:.1%}"),
    "cap_hits": ("Days at the cap", "{:.1%}"),
    "herfindahl": ("Herfindahl", "{:.3f}"),
    "cash_contribution": ("Return from cash, over all days", "{:+.1%}"),
    "cost_contribution": ("Return lost to costs, over all days", "{:+.1%}"),
    "std": ("Daily deviation, mean of all series", "{:.2%}"),
    "benchmark_std": ("Daily deviation, index", "{:.2%}"),
    "kurtosis": ("Kurtosis, mean of all series", "{:.1f}"),
    "benchmark_kurtosis": ("Kurtosis, index", "{:.1f}"),
    "benchmark_leverage": ("Leverage effect, index", "{:+.3f}"),
    "benchmark_acf": ("Autocorrelation of absolute returns, index", "{:.3f}"),
    "acf_error": ("Error of that autocorrelation, all series", "{:.3f}"),
    "benchmark_acf_error": ("Error of that autocorrelation, index", "{:.3f}"),
    "correlation_error": ("Error of the correlations", "{:.3f}"),
    "absolute_correlation_error": ("Error of the correlations of absolute returns", "{:.3f}"),
    "too_near_share": ("Paths too near to training ones (1 % expected)", "{:.1%}"),
    **{f"{name}_return": (f"64-day return, {name}", "{:+.1%}") for name in REGIMES},
    **{f"{name}_windows": (f"Windows, {name}", "{:.0f}") for name in REGIMES},
}
MAIN_COLUMNS = tuple(FIGURES)[:9]
TERMINAL_COLUMNS = tuple(key for key in MAIN_COLUMNS if key not in ("sharpe_interval", "mean_exposure"))


def format_figure(key: str, value: Any) -> str:
    """
    The one place where numbers become text: percentages as ``12.3 %``, no negative zero, intervals as ``0.50 to 1.23``.

    :param key: name of the figure, as in ``performance``
    :param value: a number, a text, None for nothing, or an interval as a mapping with ``low`` and ``high``
    """
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Mapping):
        return f"{format_figure(key, value['low'])} to {format_figure(key, value['high'])}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    form = FIGURES[key][1] if key in FIGURES else "{:,}" if isinstance(value, int) else "{:.3g}"
    text = form.format(value)
    if text[0] in "+-" and not any(digit in text for digit in "123456789"):
        text = text[1:]
    return text.replace("%", " %")


def heading(key: str) -> str:
    """
    :param key: name of a figure
    :return: how it is called in tables
    """
    return FIGURES[key][0] if key in FIGURES else key[:1].upper() + key[1:].replace("_", " ")
