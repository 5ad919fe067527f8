"""
The only portfolio accounting of the package: one compiled kernel, batch first.

A day runs constrain target -> gate -> trade -> pay -> earn -> drift -> reward. Decisions are taken at the close of row
``t``, trade there, and earn ``returns[t + 1]``. Every sum is a plain loop over the assets of one portfolio, so that a batch
of one and a batch of thousands give the same bits. Weights are fractions of wealth, cash is the last one; short positions
are negative weights, and cash is what is left.

One file, although it is long: numba's cache notices a change of the file of a compiled function, but not of the files of
the functions and constants that it uses.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit

#: Columns of the state (n_envs, state_size); then come drifted weights (n_assets + 1), smoothed targets (n_assets + 1) and
#: the portfolio part of the next observation (n_assets + PORTFOLIO_TAIL).
WEALTH, PEAK, DAYS_HELD, STATE_HEAD = 0, 1, 2, 3
#: What follows the asset weights in the portfolio part of an observation.
PORTFOLIO_COLUMNS = ("cash", "drawdown", "days_held", "exposure")
PORTFOLIO_TAIL = len(PORTFOLIO_COLUMNS)
#: Columns of the clock (n_envs, 2): row of the next decision, one past the last row that earns.
ROW, STOP = 0, 1
#: Columns of the record of one step (n_envs, RECORD_HEAD + 2 * (n_assets + 1)); then come held and target weights. The last
#: day earned and the last row that the decision knew are rows of the prices; ENDED is one of the three values below.
(
    TURNOVER, COST, REBALANCED, EXPOSURE, PORTFOLIO_RETURN, BENCHMARK_RETURN, DRAWDOWN, REASON, FINAL_WEALTH, LAST_ROW,
    KNOWN_ROW, REWARD, ENDED, TERMS,
) = range(14)  # fmt: skip
RUNNING, TERMINATED, TRUNCATED = 0, 1, 2
#: Why there was a trade, or none; ``record[REASON]`` is an index into it.
TRADE_REASONS = (
    "no decision", "within thresholds", "traded too recently", "nothing to trade",
    "weight drift", "exposure drift", "holding time",
)  # fmt: skip
NO_DECISION, WITHIN_THRESHOLDS, TOO_RECENT, NOTHING_TO_TRADE, WEIGHT_DRIFT, EXPOSURE_DRIFT, HOLDING_TIME = range(7)
#: Status of an asset at a close: it trades; it is suspended and its weight frozen; it is not listed (yet, or any more).
TRADABLE, SUSPENDED, UNLISTED = 1, 0, -1
REWARD_TERMS = ("excess_return", "volatility", "drawdown", "turnover", "concentration", "overtrading", "soft_limit")
N_TERMS = len(REWARD_TERMS)
#: Bull, bear, volatile, sideways.
N_REGIMES = 4
RECORD_HEAD = TERMS + N_TERMS
#: Wealth, as a share of the start, at which a portfolio is ruined.
RUIN = 1e-6
#: Days held before the first trade of an episode: so many that the first decision always trades.
NEVER = 1e9
#: How actions are read; see :func:`read_actions`.
AS_WEIGHTS, LONG_ONLY, LONG_SHORT = 0, 1, 2
#: Rows of the desk, the working memory of one portfolio (DESK_ROWS, n_assets + 1): limits on the weights now, the no-trade
#: band within them, the allowed portfolio nearest to the present one.
LOWER, UPPER, LOW, HIGH, NEAREST, DESK_ROWS = range(6)
#: What :func:`step_batch` did: a step of every env, or nothing.
STEPPED, NOT_FINITE, NOT_RUNNING = 0, 1, 2

#: Columns of the days behind the returns of the assets, counted from ``n_assets``; then come regime probabilities, the status
#: of the assets, and whether every asset trades (1) as the very last column.
BENCHMARK, RISK_FREE, DAY_HEAD = 0, 1, 2


class Prices(NamedTuple):
    """
    What the kernel reads of the markets, several of them one below the other; built by :func:`make_prices`.

    :param days: one row per day (n_rows, 2 * n_assets + DAY_HEAD + n_regimes + 1): a day is one piece of memory
    :param n_assets: number of assets
    """

    days: np.ndarray
    n_assets: int

    @property
    def returns(self) -> np.ndarray:
        """Simple returns (n_rows, n_assets)."""
        return self.days[:, : self.n_assets]

    @property
    def benchmark(self) -> np.ndarray:
        """Simple returns of the benchmark (n_rows,)."""
        return self.days[:, self.n_assets + BENCHMARK]

    @property
    def risk_free(self) -> np.ndarray:
        """Simple return of cash (n_rows,)."""
        return self.days[:, self.n_assets + RISK_FREE]

    @property
    def regime_probs(self) -> np.ndarray:
        """Known at each row (n_rows, n_regimes)."""
        return self.days[:, self.n_assets + DAY_HEAD : -1 - self.n_assets]

    @property
    def status(self) -> np.ndarray:
        """``TRADABLE``, ``SUSPENDED`` or ``UNLISTED`` at each close (n_rows, n_assets)."""
        return self.days[:, -1 - self.n_assets : -1]


def make_prices(
    returns: np.ndarray,
    benchmark: np.ndarray,
    risk_free: np.ndarray,
    regime_probs: np.ndarray,
    status: np.ndarray | None = None,
) -> Prices:
    """
    :param status: ``TRADABLE`` everywhere if not given; the other parameters are the properties of :class:`Prices`
    """
    status = np.full(returns.shape, TRADABLE) if status is None else status
    tradable = (status == TRADABLE).all(axis=1)
    days = np.column_stack([returns, benchmark, risk_free, regime_probs, status, tradable])
    return Prices(np.ascontiguousarray(days, dtype=np.float64), returns.shape[1])


#: Positions in ``Rules.numbers``; then come the weights of the reward's terms, the scale of the penalties by regime and the
#: limits of the groups.
(
    FIXED_FEE, REBALANCE_THRESHOLD, EXPOSURE_THRESHOLD, MAX_HOLDING_DAYS, MIN_HOLDING_DAYS, MAX_TURNOVER, GROSS_LIMIT,
    BORROW_RATE, TO_BAND, SMOOTHING, LAG, SOFT_MAX_WEIGHT, PATIENCE, REWARD_WEIGHTS,
) = range(14)  # fmt: skip
REGIME_SCALE = REWARD_WEIGHTS + N_TERMS
GROUP_MAX = REGIME_SCALE + N_REGIMES
#: Rows of ``Rules.assets``.
MIN_WEIGHT, MAX_WEIGHT, COST_RATE, IMPACT, GROUP = range(5)


class Rules(NamedTuple):
    """
    What governs trading and reward; built by :func:`make_rules`. Two arrays in place of twenty fields, and compiled
    functions take them one by one, because they count references to every array of a tuple at every call.

    :param numbers: see the positions above (GROUP_MAX + n_groups,)
    :param assets: see the rows above (5, n_assets)
    """

    numbers: np.ndarray
    assets: np.ndarray

    @property
    def lag(self) -> int:
        """Rows between what the decision knows and its own close."""
        return int(self.numbers[LAG])

    @property
    def min_weight(self) -> np.ndarray:
        """Hard lower limits (n_assets,)."""
        return self.assets[MIN_WEIGHT]

    @property
    def max_weight(self) -> np.ndarray:
        """Hard upper limits (n_assets,)."""
        return self.assets[MAX_WEIGHT]


def make_rules(
    *,
    min_weight: np.ndarray,
    max_weight: np.ndarray,
    cost_rates: np.ndarray,
    impact: np.ndarray,
    fixed_fee: float,
    rebalance_threshold: float,
    exposure_threshold: float,
    max_holding_days: float,
    min_holding_days: float,
    max_turnover: float,
    groups: np.ndarray,
    group_max: np.ndarray,
    gross_limit: float,
    borrow_rate: float,
    to_band: bool,
    smoothing: float,
    lag: int,
    reward_weights: np.ndarray,
    regime_scale: np.ndarray,
    soft_max_weight: float,
    patience: float,
) -> Rules:
    """
    :param min_weight: hard lower limits (n_assets,)
    :param max_weight: hard upper limits (n_assets,)
    :param cost_rates: commission plus half spread (n_assets,) [fraction of traded value]
    :param impact: square-root impact (n_assets,) [cost of trading x of wealth is impact * x ** 1.5]
    :param fixed_fee: per rebalancing [fraction of initial wealth]
    :param rebalance_threshold: largest drift of a weight that is let be
    :param exposure_threshold: largest drift of the total exposure that is let be
    :param max_holding_days: days after which a trade takes place anyway
    :param min_holding_days: days within which there is no further trade
    :param max_turnover: of one trade [sum of absolute trades over wealth]; the limits on weights come first
    :param groups: number of the group of each asset, -1 for none (n_assets,)
    :param group_max: upper limit on the weight of each group (n_groups,)
    :param gross_limit: of long-short portfolios [sum of absolute weights]; 0: long only
    :param borrow_rate: paid on short positions [per day]
    :param to_band: trade to the edge of the no-trade band only
    :param smoothing: weight of a new target in the smoothed one; 1 = none
    :param lag: rows between what the decision knows and its own close; 0 or 1
    :param reward_weights: of ``REWARD_TERMS`` (n_terms,)
    :param regime_scale: of the penalties, by regime (n_regimes,)
    :param soft_max_weight: weight above which the soft limit counts
    :param patience: days within which a further trade is over-trading
    """
    numbers = [
        fixed_fee, rebalance_threshold, exposure_threshold, max_holding_days, min_holding_days, max_turnover, gross_limit,
        borrow_rate, to_band, smoothing, lag, soft_max_weight, patience,
    ]  # fmt: skip
    return Rules(
        np.concatenate([np.array(numbers, dtype=np.float64), reward_weights, regime_scale, group_max]).astype(np.float64),
        np.stack([min_weight, max_weight, cost_rates, impact, groups]).astype(np.float64),
    )


def special_limits(prices: Prices, rules: Rules) -> int | None:
    """
    Whether portfolios under these rules, on these prices, need more than most do: a limit on groups or on turnover, short
    positions, trades to the edge of a band, days on which an asset does not trade.

    Compiled functions take the answer as `special`. numba compiles them once for a number and once for None, and leaves out
    what follows ``if special is not None``: the first step of most envs waits for half as much to be compiled. It is not an
    array, because numba hands over every array as seven words or more on the stack, which made large batches slow.

    :return: number of limits on groups, which may be 0; None if nothing is special
    """
    numbers = rules.numbers
    usual = numbers[TO_BAND] == 0.0 and numbers[MAX_TURNOVER] == np.inf and len(numbers) == GROUP_MAX
    long_only = numbers[GROSS_LIMIT] == 0.0 and numbers[BORROW_RATE] == 0.0
    return None if usual and long_only and prices.days[:, -1].all() else len(numbers) - GROUP_MAX


#: Compiles a function that allocates nothing, and therefore need not count references to arrays: the counting would take
#: longer than the accounting. No divisor here is zero, so that no code for that error is compiled ("numpy"), nor an entry
#: for C.
kernel = njit(cache=True, _nrt=False, error_model="numpy", no_cfunc_wrapper=True)
#: The same for a function that stands in for a part of the one that calls it: it is compiled with that one, in less time.
#: Not for :func:`decide`: in one piece with the rest LLVM makes machine code that takes half as long again in a large batch.
part = njit(cache=True, _nrt=False, error_model="numpy", inline="always")


@kernel
def copy_into(source, target):
    """Copy one short vector; much faster in compiled code than a slice assignment, which checks for overlap."""
    for i in range(target.shape[0]):
        target[i] = source[i]


@kernel
def project_capped_simplex(values, lower, upper, total, out):
    """
    Euclidean projection of a vector onto ``{w: lower <= w <= upper, sum(w) = total}``, exactly.

    The solution is ``clip(values - tau)``; its sum is piecewise linear and falls in tau, so Newton steps that fall back to
    bisection reach the right piece in finitely many steps.

    Source: Wang and Lu (2015), Projection onto the capped simplex, eq. 2 (optimality conditions).

    :param values: point to project (n,)
    :param lower: (n,), sum <= total
    :param upper: (n,), sum >= total
    :param total: what the weights must sum to
    :param out: receives the projection (n,)
    """
    n = values.shape[0]
    left, right = np.inf, -np.inf
    for i in range(n):
        left = min(left, values[i] - upper[i])
        right = max(right, values[i] - lower[i])
    tau = 0.0 if left <= 0.0 <= right else 0.5 * (left + right)
    for _ in range(200):
        excess, free = -total, 0
        for i in range(n):
            w = values[i] - tau
            if w <= lower[i]:
                w = lower[i]
            elif w >= upper[i]:
                w = upper[i]
            else:
                free += 1
            excess += w
        if abs(excess) <= 1e-15:
            break
        if excess > 0.0:
            left = tau
        else:
            right = tau
        newton = tau + excess / free if free > 0 else np.inf
        proposal = newton if left < newton < right else 0.5 * (left + right)
        if proposal == tau:
            break
        tau = proposal
    for i in range(n):
        out[i] = min(max(values[i] - tau, lower[i]), upper[i])


@kernel
def clipped_sum(values, lower, upper, tau, groups, group):
    """
    :param values: (n,)
    :param lower: (n,)
    :param upper: (n,)
    :param tau: shift
    :param groups: group of each asset, -1 for none (n,)
    :param group: which assets to sum
    :return: sum of ``clip(values - tau)`` over the group
    """
    total = 0.0
    for i in range(values.shape[0]):
        if groups[i] == group:
            total += min(max(values[i] - tau, lower[i]), upper[i])
    return total


@kernel
def shift_of_group(values, lower, upper, left, right, groups, group, limit):
    """
    :param values: (n,)
    :param lower: (n,)
    :param upper: (n,)
    :param left: a shift at which the group is above its limit
    :param right: a shift at which it is not
    :param groups: group of each asset, -1 for none (n,)
    :param group: which assets to sum
    :param limit: what the group must sum to
    :return: the shift at which it does
    """
    tau = 0.5 * (left + right)
    for _ in range(200):
        excess = clipped_sum(values, lower, upper, tau, groups, group) - limit
        if abs(excess) <= 1e-15 or right - left <= 1e-17:
            break
        if excess > 0.0:
            left = tau
        else:
            right = tau
        tau = 0.5 * (left + right)
    return tau


@kernel
def project_grouped(values, lower, upper, total, groups, group_max, out):
    """
    Euclidean projection onto the capped simplex with an upper limit on the sum of each group, exactly.

    At a common shift ``tau`` a group sums to ``min(sum of clip(values - tau), group_max)``, because a group that would
    exceed its limit gets a shift of its own; the sum over all groups falls in ``tau``. So: find ``tau``, then project each
    full group onto its limit.

    :param values: point to project (n,)
    :param lower: (n,)
    :param upper: (n,)
    :param total: what the weights must sum to; it must be reachable within the limits
    :param groups: group of each asset, -1 for none (n,)
    :param group_max: limits (n_groups,)
    :param out: receives the projection (n,)
    """
    left, right = np.inf, -np.inf
    for i in range(values.shape[0]):
        left = min(left, values[i] - upper[i])
        right = max(right, values[i] - lower[i])
    highest, common = right, 0.5 * (left + right)
    for _ in range(200):
        excess = -total
        for g in range(-1, group_max.shape[0]):
            members = clipped_sum(values, lower, upper, common, groups, g)
            excess += members if g < 0 else min(members, group_max[g])
        if abs(excess) <= 1e-15 or right - left <= 1e-17:
            break
        if excess > 0.0:
            left = common
        else:
            right = common
        common = 0.5 * (left + right)
    for g in range(-1, group_max.shape[0]):
        tau = common
        if g >= 0 and clipped_sum(values, lower, upper, common, groups, g) > group_max[g]:
            tau = shift_of_group(values, lower, upper, common, highest, groups, g, group_max[g])
        for i in range(values.shape[0]):
            if groups[i] == g:
                out[i] = min(max(values[i] - tau, lower[i]), upper[i])


@kernel
def project_gross(values, lower, upper, gross, out):
    """
    Euclidean projection onto ``{w: lower <= w <= upper, sum |w| <= gross}``: soft thresholding within the box.

    Source: Duchi et al. (2008), Efficient Projections onto the l1-Ball, lemma 1, with the box added.

    :param values: point to project (n,)
    :param lower: (n,)
    :param upper: (n,)
    :param gross: limit on the sum of absolute weights
    :param out: receives the projection (n,)
    """
    n = values.shape[0]
    left, right = 0.0, 0.0
    for i in range(n):
        right = max(right, abs(values[i]))
    tau = 0.0
    for _ in range(200):
        excess = -gross
        for i in range(n):
            shrunk = np.sign(values[i]) * max(abs(values[i]) - tau, 0.0)
            out[i] = min(max(shrunk, lower[i]), upper[i])
            excess += abs(out[i])
        if excess <= 0.0 and (tau == 0.0 or excess >= -1e-15):
            break
        if excess > 0.0:
            left = tau
        else:
            right = tau
        if right - left <= 1e-17:
            break
        tau = 0.5 * (left + right)


@kernel
def most_in_groups(upper, groups, group_max):
    """
    :param upper: upper limits (n_assets,)
    :param groups: number of the group of each asset, -1 for none (n_assets,)
    :param group_max: limits (n_groups,)
    :return: largest exposure that all limits together allow
    """
    most = 0.0
    for i in range(upper.shape[0]):
        if groups[i] < 0:
            most += upper[i]
    for g in range(group_max.shape[0]):
        members = 0.0
        for i in range(upper.shape[0]):
            if groups[i] == g:
                members += upper[i]
        most += min(members, group_max[g])
    return most


@part
def project_long_only(values, lower, upper, total, out):
    """
    Project the assets onto their limits and fill up with cash.

    :param values: asset weights wanted (n_assets,)
    :param lower: lower limits (n_assets,)
    :param upper: upper limits (n_assets,)
    :param total: exposure wanted; kept if the limits allow it
    :param out: receives weights, cash last (n_assets + 1,)
    """
    n, least, most, cash = values.shape[0], 0.0, 0.0, 1.0
    for i in range(n):
        least += lower[i]
        most += upper[i]
    project_capped_simplex(values, lower, upper, min(max(total, least), most, 1.0), out[:n])
    for i in range(n):
        cash -= out[i]
    out[n] = max(cash, 0.0)


@kernel
def project_special(values, lower, upper, total, numbers, assets, special, out):
    """
    Project the assets onto what is allowed, where groups or short positions may be limited, and fill up with cash.

    :param values: asset weights wanted (n_assets,)
    :param lower: lower limits (n_assets,)
    :param upper: upper limits (n_assets,)
    :param total: exposure wanted; kept if the limits allow it (long only)
    :param numbers: see :class:`Rules`
    :param assets: see :class:`Rules`
    :param special: see :func:`special_limits`
    :param out: receives weights, cash last (n_assets + 1,)
    """
    n, least, cash = values.shape[0], 0.0, 1.0
    if numbers[GROSS_LIMIT] > 0.0:
        project_gross(values, lower, upper, numbers[GROSS_LIMIT], out[:n])
    elif special > 0:
        for i in range(n):
            least += lower[i]
        most = most_in_groups(upper, assets[GROUP], numbers[GROUP_MAX:])
        project_grouped(values, lower, upper, min(max(total, least), most, 1.0), assets[GROUP], numbers[GROUP_MAX:], out[:n])
    else:
        project_long_only(values, lower, upper, total, out)
        return
    for i in range(n):
        cash -= out[i]
    out[n] = cash if numbers[GROSS_LIMIT] > 0.0 else max(cash, 0.0)


@kernel
def limits_now(drifted, row, days, assets, desk):
    """
    Limits on the assets at a close: those of the rules; frozen where an asset is suspended, zero where it is not listed.

    :param drifted: weights now (n_assets + 1,)
    :param row: of the close
    :param days: see :class:`Prices`
    :param assets: see :class:`Rules`
    :param desk: receives lower and upper limits (DESK_ROWS, n_assets + 1)
    """
    n = assets.shape[1]
    for i in range(n):
        desk[LOWER, i] = assets[MIN_WEIGHT, i]
        desk[UPPER, i] = assets[MAX_WEIGHT, i]
    if days[row, -1] > 0.0:
        return
    status = days.shape[1] - 1 - n
    for i in range(n):
        if days[row, status + i] != TRADABLE:
            frozen = drifted[i] if days[row, status + i] == SUSPENDED else 0.0
            desk[LOWER, i], desk[UPPER, i] = frozen, frozen


@kernel
def within_special(request, numbers, special):
    """
    :param request: weights with cash last (n_assets + 1,)
    :param numbers: see :class:`Rules`
    :param special: see :func:`special_limits`
    :return: whether the request surely keeps the limits on all assets together
    """
    gross = 0.0
    for i in range(request.shape[0] - 1):
        gross += abs(request[i])
    return special == 0 and (numbers[GROSS_LIMIT] == 0.0 or gross <= numbers[GROSS_LIMIT])


@kernel
def constrain(request, lower, upper, numbers, assets, special, out):
    """
    The nearest allowed portfolio: assets within their limits, at the exposure that was asked for if the limits allow it.

    :param request: weights with cash last (n_assets + 1,), sum 1
    :param lower: lower limits now (n_assets,)
    :param upper: upper limits now (n_assets,)
    :param numbers: further limits; see :class:`Rules`
    :param assets: see :class:`Rules`
    :param special: see :func:`special_limits`
    :param out: receives allowed weights with cash last (n_assets + 1,)
    """
    n = assets.shape[1]
    exposure, allowed = 0.0, True
    for i in range(n):
        exposure += request[i]
        allowed = allowed and lower[i] <= request[i] <= upper[i]
    if special is not None:
        allowed = allowed and within_special(request, numbers, special)
    if allowed:
        copy_into(request, out)
    elif special is not None:
        project_special(request[:n], lower, upper, exposure, numbers, assets, special, out)
    else:
        project_long_only(request[:n], lower, upper, exposure, out)


@kernel
def to_band_edge(drifted, target, desk, numbers, assets, special, out):
    """
    The allowed portfolio nearest to the drifted one inside the no-trade band around the target.

    Source: Davis and Norman (1990), Portfolio Selection with Transaction Costs: trade to the boundary of the no-trade region.

    :param drifted: weights now (n_assets + 1,)
    :param target: allowed target (n_assets + 1,)
    :param desk: has the limits now (DESK_ROWS, n_assets + 1)
    :param numbers: limits and thresholds; see :class:`Rules`
    :param assets: see :class:`Rules`
    :param special: see :func:`special_limits`
    :param out: receives weights after the trade (n_assets + 1,)
    """
    n = target.shape[0] - 1
    low, high = desk[LOW, :n], desk[HIGH, :n]
    wanted, exposure = 0.0, 0.0
    for i in range(n):
        low[i] = max(desk[LOWER, i], target[i] - numbers[REBALANCE_THRESHOLD])
        high[i] = min(desk[UPPER, i], target[i] + numbers[REBALANCE_THRESHOLD])
        wanted += target[i]
        exposure += drifted[i]
    total = min(max(exposure, wanted - numbers[EXPOSURE_THRESHOLD]), wanted + numbers[EXPOSURE_THRESHOLD])
    project_special(drifted[:n], low, high, total, numbers, assets, special, out)


@kernel
def limit_turnover(drifted, desk, numbers, assets, special, held):
    """
    Go only so far towards a portfolio as the turnover limit allows. Weights beyond their limits come back first.

    :param drifted: weights now (n_assets + 1,)
    :param desk: has the limits now (DESK_ROWS, n_assets + 1)
    :param numbers: see :class:`Rules`
    :param assets: see :class:`Rules`
    :param special: see :func:`special_limits`
    :param held: the allowed portfolio wanted; receives the one that is reached (n_assets + 1,)
    """
    n = held.shape[0]
    nearest = desk[NEAREST]
    constrain(drifted, desk[LOWER, : n - 1], desk[UPPER, : n - 1], numbers, assets, special, nearest)
    forced, further = 0.0, 0.0
    for i in range(n - 1):
        forced += abs(nearest[i] - drifted[i])
        further += abs(held[i] - nearest[i])
    if forced + further <= numbers[MAX_TURNOVER]:
        return
    step = max(numbers[MAX_TURNOVER] - forced, 0.0) / further if further > 0.0 else 0.0
    step = min(step, 1.0)
    for i in range(n):
        held[i] = nearest[i] + step * (held[i] - nearest[i])


@kernel
def gate(drifted, target, days_held, numbers):
    """
    Whether to trade, and why: drift of a weight, drift of the exposure, or holding time.

    :param drifted: weights now (n_assets + 1,)
    :param target: allowed target (n_assets + 1,)
    :param days_held: days since the last trade
    :param numbers: thresholds; see :class:`Rules`
    :return: index into ``TRADE_REASONS``; at least ``WEIGHT_DRIFT`` means trade
    """
    if days_held < numbers[MIN_HOLDING_DAYS]:
        return TOO_RECENT
    drift = 0.0
    for i in range(target.shape[0] - 1):
        drift = max(drift, abs(target[i] - drifted[i]))
    if drift > numbers[REBALANCE_THRESHOLD]:
        return WEIGHT_DRIFT
    if abs(target[-1] - drifted[-1]) > numbers[EXPOSURE_THRESHOLD]:
        return EXPOSURE_DRIFT
    return HOLDING_TIME if days_held >= numbers[MAX_HOLDING_DAYS] else WITHIN_THRESHOLDS


@kernel
def settle(drifted, target, wealth, numbers, assets):
    """
    Solve the self-financing trade: wealth before = wealth after + cost, where the cost depends on wealth after.

    ``mu = 1 - sum_i c_i |target_i mu - drifted_i| - sum_i k_i |target_i mu - drifted_i|^1.5 - fee / wealth`` is solved by
    Newton's method inside a bracket; with linear costs two or three rounds are exact. No solution above 0: ruin.

    Source: Boyd et al. (2017), Multi-Period Trading via Convex Optimization, eq. 2.3 (self-financing condition).

    :param drifted: weights before (n_assets + 1,)
    :param target: weights after (n_assets + 1,)
    :param wealth: before the trade [share of initial wealth]
    :param numbers: costs; see :class:`Rules`
    :param assets: see :class:`Rules`
    :return: wealth after / wealth before, turnover [sum of absolute trades / wealth before]
    """
    n, distance = target.shape[0] - 1, 0.0
    for i in range(n):
        distance += abs(target[i] - drifted[i])
    if distance <= 1e-12:  # nothing to trade, no fee
        return 1.0, 0.0
    fee = numbers[FIXED_FEE] / wealth
    left, right, mu, turnover = 0.0, 1.0, 1.0, 0.0
    for _ in range(200):
        gap, slope, turnover = mu - 1.0 + fee, 1.0, 0.0
        for i in range(n):
            trade = target[i] * mu - drifted[i]
            size = abs(trade)
            rate, marginal = assets[COST_RATE, i], assets[COST_RATE, i]
            if assets[IMPACT, i] > 0.0:
                root = assets[IMPACT, i] * math.sqrt(size)
                rate, marginal = rate + root, marginal + 1.5 * root
            turnover += size
            gap += size * rate
            slope += target[i] * marginal if trade > 0.0 else -target[i] * marginal
        if abs(gap) <= 1e-16:
            break
        if gap > 0.0:
            right = mu
        else:
            left = mu
        newton = mu - gap / slope if slope > 0.0 else -1.0
        proposal = newton if left <= newton <= right else 0.5 * (left + right)
        if proposal == mu:
            break
        mu = proposal
    return mu, turnover


@kernel
def settle_around_frozen(drifted, row, days, wealth, numbers, assets, held):
    """
    Settle a trade on a day on which some assets are suspended: their positions stay what they are, so that their weights
    grow a little as the others pay the costs. The rest is scaled to fit, and settled again until both agree. A trade that
    would cost more than all that can be sold is left undone.

    :param drifted: weights before (n_assets + 1,)
    :param row: of the close
    :param days: see :class:`Prices`
    :param wealth: before the trade [share of initial wealth]
    :param numbers: costs; see :class:`Rules`
    :param assets: see :class:`Rules`
    :param held: weights wanted after the trade, those of suspended assets as before; receives the exact ones (n_assets + 1,)
    :return: wealth after / wealth before, turnover
    """
    mu, turnover = settle(drifted, held, wealth, numbers, assets)
    if turnover == 0.0:
        return mu, turnover
    n, frozen = held.shape[0] - 1, 0.0
    status = days.shape[1] - 1 - n
    for i in range(n):
        if days[row, status + i] == SUSPENDED:
            frozen += drifted[i]
    if frozen == 0.0:
        return mu, turnover
    free = 1.0 - frozen
    for _ in range(50):
        if mu <= frozen + 1e-9 or free <= 1e-12:  # only what cannot be sold could pay for the trade
            return 1.0, 0.0
        fit = (1.0 - frozen / mu) / free
        free *= fit
        for i in range(n + 1):
            if i < n and days[row, status + i] == SUSPENDED:
                held[i] = drifted[i] / mu
            else:
                held[i] *= fit
        previous = mu
        mu, turnover = settle(drifted, held, wealth, numbers, assets)
        if abs(mu - previous) <= 1e-16:
            break
    return mu, turnover


@kernel
def add_reward_terms(record, regime_scale, drawdown_increase, days_held, numbers, assets):
    """
    Add the reward of one day to the record, by term; the benchmark-relative mean-variance reward with penalties.

    :param record: of this step; its returns are those of this day (record_size,)
    :param regime_scale: of the penalties, expected under the regime probabilities
    :param drawdown_increase: of this day
    :param days_held: before this day's trade
    :param numbers: weights of the terms; see :class:`Rules`
    :param assets: see :class:`Rules`
    """
    portfolio, benchmark = record[PORTFOLIO_RETURN], record[BENCHMARK_RETURN]
    herfindahl, over, hasty = 0.0, 0.0, 0.0
    for i in range(assets.shape[1]):
        weight = record[RECORD_HEAD + i]
        herfindahl += weight * weight
        over += max(abs(weight) - numbers[SOFT_MAX_WEIGHT], 0.0)
    if record[REBALANCED] > 0.0 and numbers[PATIENCE] > 0.0:
        hasty = max(1.0 - days_held / numbers[PATIENCE], 0.0)
    growth = math.log(max(1.0 + portfolio, RUIN)) - math.log(max(1.0 + benchmark, RUIN))
    variance = 0.5 * (portfolio * portfolio - benchmark * benchmark)
    record[TERMS] += numbers[REWARD_WEIGHTS] * growth
    record[TERMS + 1] -= regime_scale * numbers[REWARD_WEIGHTS + 1] * variance
    record[TERMS + 2] -= regime_scale * numbers[REWARD_WEIGHTS + 2] * drawdown_increase
    record[TERMS + 3] -= regime_scale * numbers[REWARD_WEIGHTS + 3] * record[TURNOVER]
    record[TERMS + 4] -= regime_scale * numbers[REWARD_WEIGHTS + 4] * herfindahl
    record[TERMS + 5] -= regime_scale * numbers[REWARD_WEIGHTS + 5] * hasty
    record[TERMS + 6] -= regime_scale * numbers[REWARD_WEIGHTS + 6] * over


@kernel
def settle_special(drifted, target, row, days, numbers, assets, special, state, desk, held):
    """
    Settle a trade that goes to the edge of the band only, or no further than the turnover limit, or around suspended assets.

    :param drifted: weights before (n_assets + 1,)
    :param target: allowed target (n_assets + 1,)
    :param row: of the close
    :param days: see :class:`Prices`
    :param numbers: see :class:`Rules`
    :param assets: see :class:`Rules`
    :param special: see :func:`special_limits`
    :param state: of this env
    :param desk: has the limits now (DESK_ROWS, n_assets + 1)
    :param held: receives the weights after the trade (n_assets + 1,)
    :return: wealth after / wealth before, turnover
    """
    if numbers[TO_BAND] > 0.0 and state[DAYS_HELD] < NEVER:
        to_band_edge(drifted, target, desk, numbers, assets, special, held)
    else:
        copy_into(target, held)
    if numbers[MAX_TURNOVER] < np.inf:
        limit_turnover(drifted, desk, numbers, assets, special, held)
    if days[row, -1] > 0.0:
        return settle(drifted, held, state[WEALTH], numbers, assets)
    return settle_around_frozen(drifted, row, days, state[WEALTH], numbers, assets, held)


@part
def trade(drifted, target, row, days, numbers, assets, special, state, record, desk):
    """
    Go to the target, or as near as the rules let, and pay.

    :param drifted: weights now, changed in place (n_assets + 1,)
    :param target: allowed target (n_assets + 1,)
    :param row: of the close
    :param days: see :class:`Prices`
    :param numbers: see :class:`Rules`
    :param assets: see :class:`Rules`
    :param special: see :func:`special_limits`
    :param state: of this env, changed in place
    :param record: of this step, changed in place
    :param desk: has the limits now, if they are special (DESK_ROWS, n_assets + 1)
    """
    held = record[RECORD_HEAD : RECORD_HEAD + target.shape[0]]
    if special is not None:
        left, turnover = settle_special(drifted, target, row, days, numbers, assets, special, state, desk, held)
    else:
        copy_into(target, held)
        left, turnover = settle(drifted, held, state[WEALTH], numbers, assets)
    if turnover == 0.0:
        record[REASON] = NOTHING_TO_TRADE
        copy_into(drifted, held)
    else:
        record[TURNOVER], record[COST], record[REBALANCED] = turnover, 1.0 - left, 1.0
        state[WEALTH] *= max(left, 0.0)
        copy_into(held, drifted)


@kernel
def decide(request, row, days, numbers, assets, special, state, record, desk):
    """
    Decision part of a day: smooth and constrain the target, pass the gate, trade.

    :param request: weights asked for (n_assets + 1,), sum 1
    :param row: of the close
    :param days: see :class:`Prices`
    :param numbers: see :class:`Rules`
    :param assets: see :class:`Rules`
    :param special: see :func:`special_limits`
    :param state: of this env, changed in place
    :param record: of this step, changed in place
    :param desk: working memory (DESK_ROWS, n_assets + 1)
    """
    n = request.shape[0]
    weights, smoothed = state[STATE_HEAD : STATE_HEAD + n], state[STATE_HEAD + n : STATE_HEAD + 2 * n]
    target, begins = record[RECORD_HEAD + n :], state[DAYS_HELD] == NEVER
    for i in range(n):
        smoothed[i] = request[i] if begins else smoothed[i] + numbers[SMOOTHING] * (request[i] - smoothed[i])
    if special is not None:
        limits_now(weights, row, days, assets, desk)
        constrain(smoothed, desk[LOWER, : n - 1], desk[UPPER, : n - 1], numbers, assets, special, target)
    else:
        constrain(smoothed, assets[MIN_WEIGHT], assets[MAX_WEIGHT], numbers, assets, special, target)
    record[REASON] = gate(weights, target, state[DAYS_HELD], numbers)
    if record[REASON] >= WEIGHT_DRIFT:
        trade(weights, target, row, days, numbers, assets, special, state, record, desk)


@kernel
def earn(weights, row, days, numbers, special):
    """
    Earning part of a day: the weights earn ``returns[row]``, cash the risk-free return, short positions pay their borrow
    rate, everything drifts, and what is delisted at this close becomes cash.

    :param weights: held, changed in place (n_assets + 1,)
    :param row: of the returns
    :param days: see :class:`Prices`
    :param numbers: see :class:`Rules`
    :param special: see :func:`special_limits`
    :return: wealth after / wealth before
    """
    n = weights.shape[0] - 1
    cash = weights[n] * (1.0 + days[row, n + RISK_FREE])
    growth = cash
    for i in range(n):
        growth += weights[i] * (1.0 + days[row, i])
        if special is not None:
            if weights[i] < 0.0:
                cash += weights[i] * numbers[BORROW_RATE]
                growth += weights[i] * numbers[BORROW_RATE]
    if growth <= 0.0:
        return growth
    weights[n] = cash / growth
    for i in range(n):
        weights[i] *= (1.0 + days[row, i]) / growth
    if special is not None:
        if days[row, -1] == 0.0:
            status = days.shape[1] - 1 - n
            for i in range(n):
                if days[row, status + i] == UNLISTED:
                    weights[n] += weights[i]
                    weights[i] = 0.0
    return growth


@kernel
def portfolio_block(state, days_held, out):
    """
    Write the portfolio part of an observation: asset weights, cash, drawdown, days held [years], exposure.

    :param state: (state_size,)
    :param days_held: since the last trade
    :param out: receives it (n_assets + PORTFOLIO_TAIL,)
    """
    n = out.shape[0] - PORTFOLIO_TAIL
    for i in range(n + 1):
        out[i] = state[STATE_HEAD + i]
    out[n + 1] = 1.0 - state[WEALTH] / state[PEAK]
    out[n + 2] = min(days_held, 252.0) / 252.0
    out[n + 3] = 1.0 - state[STATE_HEAD + n]


@part
def step_day(request, decides, days, numbers, assets, special, state, clock, record, desk):
    """
    One day of one portfolio: decide (or just hold), then earn, then add the day's reward to the record.

    With lag 1 the next observation shows the portfolio as it is held before the return, because that return is not known yet
    when the order is prepared.

    :param request: weights asked for (n_assets + 1,), sum 1
    :param decides: False on days between decisions
    :param days: see :class:`Prices`
    :param numbers: see :class:`Rules`
    :param assets: see :class:`Rules`
    :param special: see :func:`special_limits`
    :param state: (state_size,), changed in place
    :param clock: (2,), changed in place
    :param record: (record_size,), overwritten but for the reward terms, which are added to
    :param desk: working memory (DESK_ROWS, n_assets + 1)
    """
    n = request.shape[0]
    lag, row, wealth, days_held = int(numbers[LAG]), clock[ROW], state[WEALTH], state[DAYS_HELD]
    drawdown = 1.0 - wealth / state[PEAK]
    record[TURNOVER], record[COST], record[REBALANCED], record[REASON] = 0.0, 0.0, 0.0, NO_DECISION
    copy_into(state[STATE_HEAD : STATE_HEAD + n], record[RECORD_HEAD : RECORD_HEAD + n])
    if decides:
        decide(request, row, days, numbers, assets, special, state, record, desk)
    days_since_trade = 0.0 if record[REBALANCED] > 0.0 else days_held
    if lag > 0:
        portfolio_block(state, days_since_trade, state[STATE_HEAD + 2 * n :])
    record[EXPOSURE] = 1.0 - record[RECORD_HEAD + n - 1]
    state[WEALTH] *= earn(state[STATE_HEAD : STATE_HEAD + n], row + 1, days, numbers, special)
    state[DAYS_HELD] = days_since_trade + 1.0
    state[PEAK] = max(state[PEAK], state[WEALTH])
    record[PORTFOLIO_RETURN] = state[WEALTH] / wealth - 1.0
    record[BENCHMARK_RETURN] = days[row + 1, n - 1 + BENCHMARK]
    record[DRAWDOWN] = 1.0 - state[WEALTH] / state[PEAK]
    scale = 0.0
    if lag == 0:
        portfolio_block(state, state[DAYS_HELD], state[STATE_HEAD + 2 * n :])
    known = row - lag
    for k in range(N_REGIMES):
        scale += days[known, n - 1 + DAY_HEAD + k] * numbers[REGIME_SCALE + k]
    add_reward_terms(record, scale, max(record[DRAWDOWN] - drawdown, 0.0), days_held, numbers, assets)
    clock[ROW] = row + 1


@kernel
def read_actions(actions, reading, requests):
    """
    Read actions as weights. Long only: divide by the sum; what is below zero counts as zero, and all zeros are all cash.
    Long-short: the numbers are the weights of the assets, and cash is what is left.

    :param actions: (n, n_assets + 1)
    :param reading: ``LONG_ONLY``, ``LONG_SHORT``, or ``AS_WEIGHTS`` if they sum to 1 already
    :param requests: receives weights, rows sum to 1 (n, n_assets + 1)
    :return: whether every action was finite
    """
    last = actions.shape[1] - 1
    for b in range(actions.shape[0]):
        total, magnitude = 0.0, 0.0
        for i in range(last + 1):
            value = float(actions[b, i])
            magnitude += abs(value)
            if reading == LONG_ONLY:
                value = max(value, 0.0)
            elif reading == LONG_SHORT:
                value = min(max(value, -1.0), 1.0) if i < last else 0.0
            total += value
            requests[b, i] = value
        if not magnitude < np.inf:
            return False
        if reading == LONG_SHORT:
            requests[b, last] = 1.0 - total
        elif reading == LONG_ONLY and total <= 0.0:
            requests[b, last] = 1.0
        elif reading == LONG_ONLY:
            for i in range(last + 1):
                requests[b, i] /= total
    return True


@kernel
def observe(seen, state, obs):
    """
    Write the observation of one env: the market part from the table, the portfolio part from the state.

    :param seen: market features at the row that is seen (n_columns,) float32
    :param state: (state_size,)
    :param obs: receives the observation (n_columns + n_assets + PORTFOLIO_TAIL,)
    """
    n_columns = seen.shape[0]
    portfolio = state.shape[0] - obs.shape[0]
    for i in range(n_columns):
        obs[i] = seen[i]
    for i in range(n_columns, obs.shape[0]):
        obs[i] = state[portfolio + i]


@part
def step_one(request, interval, days, numbers, assets, special, state, clock, record, desk):
    """
    One step of one portfolio: a decision and ``interval`` days of earning. Daily figures are accumulated over the step.

    :param request: weights asked for (n_assets + 1,), sum 1
    :param interval: days per step
    :param days: see :class:`Prices`
    :param numbers: see :class:`Rules`
    :param assets: see :class:`Rules`
    :param special: see :func:`special_limits`
    :param state: (state_size,), changed in place
    :param clock: (2,), changed in place
    :param record: receives the record of the step (record_size,)
    :param desk: working memory (DESK_ROWS, n_assets + 1)
    """
    known = clock[ROW] - int(numbers[LAG])
    for term in range(TERMS, RECORD_HEAD):
        record[term] = 0.0
    turnover, cost, rebalanced, growth, benchmark, reason = 0.0, 0.0, 0.0, 1.0, 1.0, 0.0
    ended = RUNNING
    for day in range(interval):
        step_day(request, day == 0, days, numbers, assets, special, state, clock, record, desk)
        turnover += record[TURNOVER]
        cost += record[COST]
        rebalanced = max(rebalanced, record[REBALANCED])
        reason = max(reason, record[REASON])
        growth *= 1.0 + record[PORTFOLIO_RETURN]
        benchmark *= 1.0 + record[BENCHMARK_RETURN]
        if state[WEALTH] <= RUIN:
            ended = TERMINATED
            break
        if clock[ROW] >= clock[STOP] - 1:
            ended = TRUNCATED
            break
    record[TURNOVER], record[COST], record[REBALANCED], record[REASON] = turnover, cost, rebalanced, reason
    record[PORTFOLIO_RETURN], record[BENCHMARK_RETURN] = growth - 1.0, benchmark - 1.0
    record[FINAL_WEALTH], record[LAST_ROW], record[KNOWN_ROW], record[ENDED] = state[WEALTH], clock[ROW], known, ended
    reward = 0.0
    for term in range(TERMS, RECORD_HEAD):
        reward += record[term]
    record[REWARD] = reward


@kernel
def step_batch(
    actions, reading, interval, days, numbers, assets, special, table, state, clock, desk, requests, records, obs
):  # fmt: skip
    """
    One step of every env.

    :param actions: (n_envs, n_assets + 1)
    :param reading: see :func:`read_actions`
    :param interval: days per step
    :param days: see :class:`Prices`
    :param numbers: see :class:`Rules`
    :param assets: see :class:`Rules`
    :param special: see :func:`special_limits`
    :param table: every market feature, one row per day (n_rows, n_columns) float32
    :param state: (n_envs, state_size), changed in place
    :param clock: (n_envs, 2), changed in place
    :param desk: working memory (DESK_ROWS, n_assets + 1)
    :param requests: receives the actions as weights (n_envs, n_assets + 1)
    :param records: receives the record of the step (n_envs, record_size)
    :param obs: receives the next observations (n_envs, obs_size)
    :return: ``STEPPED``, or why nothing was done: an action is ``NOT_FINITE``, or an env is ``NOT_RUNNING`` because its
        episode has ended or not begun
    """
    for b in range(actions.shape[0]):
        if clock[b, ROW] >= clock[b, STOP] - 1 or state[b, WEALTH] <= RUIN:
            return NOT_RUNNING
    if not read_actions(actions, reading, requests):
        return NOT_FINITE
    lag = int(numbers[LAG])
    for b in range(actions.shape[0]):
        step_one(requests[b], interval, days, numbers, assets, special, state[b], clock[b], records[b], desk)
        observe(table[clock[b, ROW] - lag], state[b], obs[b])
    return STEPPED


@kernel
def run_days(requests, decides, days, numbers, assets, special, state, clock, desk, records):
    """
    The compiled part of :func:`run_targets`.

    :return: number of days run
    """
    for day in range(requests.shape[0]):
        for term in range(TERMS, RECORD_HEAD):
            records[day, term] = 0.0
        step_day(requests[day], decides[day], days, numbers, assets, special, state, clock, records[day], desk)
        if state[WEALTH] <= RUIN:
            return day + 1
    return requests.shape[0]


def run_targets(
    requests: np.ndarray, decides: np.ndarray, prices: Prices, rules: Rules, state: np.ndarray, clock: np.ndarray
) -> np.ndarray:
    """
    One portfolio through many days of given targets: the backtest of a rule, or the replay of an agent's decisions.

    :param requests: weights asked for at each day (n_days, n_assets + 1), rows sum to 1
    :param decides: False on days without a decision (n_days,)
    :param prices: see :class:`Prices`
    :param rules: see :class:`Rules`
    :param state: (state_size,), changed in place
    :param clock: (2,), changed in place
    :return: one record per day run (n, record_size); fewer than n_days after ruin
    """
    n = requests.shape[1]
    desk, records = np.zeros((DESK_ROWS, n)), np.zeros((len(requests), RECORD_HEAD + 2 * n))
    special = special_limits(prices, rules)
    return records[: run_days(requests, decides, prices.days, *rules, special, state, clock, desk, records)]


def new_state(n_envs: int, n_assets: int) -> np.ndarray:
    """
    :return: state of portfolios that start all in cash with wealth 1 (n_envs, state_size)
    """
    n = n_assets + 1
    state = np.zeros((n_envs, STATE_HEAD + 2 * n + n_assets + PORTFOLIO_TAIL))
    state[:, [WEALTH, PEAK]] = 1.0
    state[:, DAYS_HELD] = NEVER
    state[:, STATE_HEAD + n_assets] = 1.0
    for row in state:
        portfolio_block(row, NEVER, row[STATE_HEAD + 2 * n :])
    return state
