"""
The only portfolio accounting of the package: one compiled kernel, batch first.

A day runs constrain target -> gate -> trade -> pay -> earn -> drift -> reward. Decisions are taken at the close of row
``t``, trade there, and earn ``returns[t + 1]``. Every sum is a plain loop over the assets of one portfolio, so that a batch
of one and a batch of thousands give the same bits. Weights are fractions of wealth, cash is the last one.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

#: Columns of the state (n_envs, state_size); then come drifted weights (n_assets + 1), smoothed targets (n_assets + 1) and
#: the portfolio part of the observation as it stood before the last return (n_assets + PORTFOLIO_TAIL).
WEALTH, PEAK, DAYS_HELD, STATE_HEAD = 0, 1, 2, 3
#: What follows the asset weights in the portfolio part of an observation.
PORTFOLIO_COLUMNS = ("cash", "drawdown", "days_held", "exposure")
PORTFOLIO_TAIL = len(PORTFOLIO_COLUMNS)
#: Columns of the clock (n_envs, 2): row of the next decision, one past the last row that earns.
ROW, STOP = 0, 1
#: Columns of the record of one step (n_envs, RECORD_HEAD + 2 * (n_assets + 1)); then come held and target weights.
TURNOVER, COST, REBALANCED, EXPOSURE, PORTFOLIO_RETURN, BENCHMARK_RETURN, DRAWDOWN, TERMS = range(8)
REWARD_TERMS = ("excess_return", "volatility", "drawdown", "turnover", "concentration", "overtrading", "soft_limit")
N_TERMS = len(REWARD_TERMS)
RECORD_HEAD = TERMS + N_TERMS
#: Wealth, as a share of the start, at which a portfolio is ruined.
RUIN = 1e-6
#: Days held before the first trade of an episode: so many that the first decision always trades.
NEVER = 1e9


class Prices(NamedTuple):
    """
    What the kernel reads of the markets, several of them one below the other.

    :param returns: simple returns (n_rows, n_assets)
    :param benchmark: simple returns of the benchmark (n_rows,)
    :param risk_free: simple return of cash (n_rows,)
    :param regime_probs: known at each row (n_rows, n_regimes)
    """

    returns: np.ndarray
    benchmark: np.ndarray
    risk_free: np.ndarray
    regime_probs: np.ndarray


class Rules(NamedTuple):
    """
    What governs trading and reward; built and checked by :class:`quantflux_sb3.core.PortfolioConfig`.

    :param min_weight: hard lower limits (n_assets,)
    :param max_weight: hard upper limits (n_assets,)
    :param cost_rates: commission plus half spread (n_assets,) [fraction of traded value]
    :param impact: square-root impact (n_assets,) [cost of trading x of wealth is impact * x ** 1.5]
    :param fixed_fee: per rebalancing [fraction of initial wealth]
    :param rebalance_threshold: largest drift of a weight that is let be
    :param exposure_threshold: largest drift of the total exposure that is let be
    :param max_holding_days: days after which a trade takes place anyway
    :param to_band: trade to the edge of the no-trade band only
    :param smoothing: weight of a new target in the smoothed one; 1 = none
    :param lag: rows between what the decision knows and its own close; 0 or 1
    :param reward_weights: of ``REWARD_TERMS`` (n_terms,)
    :param regime_scale: of the penalties, by regime (n_regimes,)
    :param soft_max_weight: weight above which the soft limit counts
    :param patience: days within which a further trade is over-trading
    """

    min_weight: np.ndarray
    max_weight: np.ndarray
    cost_rates: np.ndarray
    impact: np.ndarray
    fixed_fee: float
    rebalance_threshold: float
    exposure_threshold: float
    max_holding_days: float
    to_band: bool
    smoothing: float
    lag: int
    reward_weights: np.ndarray
    regime_scale: np.ndarray
    soft_max_weight: float
    patience: float


@njit(cache=True)
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


@njit(cache=True)
def constrain(request, rules, out):
    """
    The nearest allowed portfolio: assets within their limits, at the exposure that was asked for if the limits allow it.

    :param request: weights with cash last (n_assets + 1,), sum 1
    :param rules: limits
    :param out: receives allowed weights with cash last (n_assets + 1,)
    """
    n = request.shape[0] - 1
    exposure, least, most, allowed = 0.0, 0.0, 0.0, True
    for i in range(n):
        exposure += request[i]
        least += rules.min_weight[i]
        most += rules.max_weight[i]
        allowed = allowed and rules.min_weight[i] <= request[i] <= rules.max_weight[i]
    total = min(max(exposure, least), most, 1.0)
    if allowed:
        out[:n] = request[:n]
    else:
        project_capped_simplex(request[:n], rules.min_weight, rules.max_weight, total, out[:n])
    _fill_cash(out)


@njit(cache=True)
def to_band_edge(drifted, target, rules, out):
    """
    The allowed portfolio nearest to the drifted one inside the no-trade band around the target.

    Source: Davis and Norman (1990), Portfolio Selection with Transaction Costs: trade to the boundary of the no-trade region.

    :param drifted: weights now (n_assets + 1,)
    :param target: allowed target (n_assets + 1,)
    :param rules: limits and thresholds
    :param out: receives weights after the trade (n_assets + 1,)
    """
    n = target.shape[0] - 1
    lower, upper = np.empty(n), np.empty(n)
    wanted, exposure, least, most = 0.0, 0.0, 0.0, 0.0
    for i in range(n):
        lower[i] = max(rules.min_weight[i], target[i] - rules.rebalance_threshold)
        upper[i] = min(rules.max_weight[i], target[i] + rules.rebalance_threshold)
        wanted += target[i]
        exposure += drifted[i]
        least += lower[i]
        most += upper[i]
    total = min(max(exposure, wanted - rules.exposure_threshold), wanted + rules.exposure_threshold)
    total = min(max(total, least), most, 1.0)
    project_capped_simplex(drifted[:n], lower, upper, total, out[:n])
    _fill_cash(out)


@njit(cache=True)
def _fill_cash(weights):
    cash = 1.0
    for i in range(weights.shape[0] - 1):
        cash -= weights[i]
    weights[-1] = max(cash, 0.0)


@njit(cache=True)
def must_trade(drifted, target, days_held, rules):
    """
    The gate: drift of a weight, drift of the exposure, or holding time.

    :param drifted: weights now (n_assets + 1,)
    :param target: allowed target (n_assets + 1,)
    :param days_held: days since the last trade
    :param rules: thresholds
    """
    if days_held >= rules.max_holding_days:
        return True
    drift = 0.0
    for i in range(target.shape[0] - 1):
        drift = max(drift, abs(target[i] - drifted[i]))
    return drift > rules.rebalance_threshold or abs(target[-1] - drifted[-1]) > rules.exposure_threshold


@njit(cache=True)
def settle(drifted, target, wealth, rules):
    """
    Solve the self-financing trade: wealth before = wealth after + cost, where the cost depends on wealth after.

    ``mu = 1 - sum_i c_i |target_i mu - drifted_i| - sum_i k_i |target_i mu - drifted_i|^1.5 - fee / wealth`` is a contraction
    with factor about ``max(c)``, so that a dozen rounds reach machine precision.

    Source: Boyd et al. (2017), Multi-Period Trading via Convex Optimization, eq. 2.3 (self-financing condition).

    :param drifted: weights before (n_assets + 1,)
    :param target: weights after (n_assets + 1,)
    :param wealth: before the trade [share of initial wealth]
    :param rules: costs
    :return: wealth after / wealth before, turnover [sum of absolute trades / wealth before]
    """
    distance = 0.0
    for i in range(target.shape[0] - 1):
        distance += abs(target[i] - drifted[i])
    if distance <= 1e-12:  # nothing to trade, no fee
        return 1.0, 0.0
    mu, turnover = 1.0, 0.0
    for _ in range(300):
        cost, turnover = rules.fixed_fee / wealth, 0.0
        for i in range(target.shape[0] - 1):
            trade = abs(target[i] * mu - drifted[i])
            turnover += trade
            cost += trade * (rules.cost_rates[i] + rules.impact[i] * np.sqrt(trade))
        previous, mu = mu, max(1.0 - cost, 0.0)  # nobody pays more than there is
        if abs(mu - previous) <= 1e-16:
            break
    return mu, turnover


@njit(cache=True)
def add_reward_terms(record, regime_scale, drawdown_increase, days_held, rules):
    """
    Add the reward of one day to the record, by term; the benchmark-relative mean-variance reward with penalties.

    :param record: of this step; its returns are those of this day (record_size,)
    :param regime_scale: of the penalties, expected under the regime probabilities
    :param drawdown_increase: of this day
    :param days_held: before this day's trade
    :param rules: weights of the terms
    """
    weight = rules.reward_weights
    portfolio, benchmark = record[PORTFOLIO_RETURN], record[BENCHMARK_RETURN]
    n = rules.max_weight.shape[0]
    held = record[RECORD_HEAD : RECORD_HEAD + n]
    herfindahl, over = 0.0, 0.0
    for i in range(n):
        herfindahl += held[i] * held[i]
        over += max(held[i] - rules.soft_max_weight, 0.0)
    hasty = max(1.0 - days_held / rules.patience, 0.0) if record[REBALANCED] > 0.0 and rules.patience > 0.0 else 0.0
    growth = np.log(max(1.0 + portfolio, RUIN)) - np.log(max(1.0 + benchmark, RUIN))
    record[TERMS] += weight[0] * growth
    record[TERMS + 1] -= regime_scale * weight[1] * 0.5 * (portfolio * portfolio - benchmark * benchmark)
    record[TERMS + 2] -= regime_scale * weight[2] * drawdown_increase
    record[TERMS + 3] -= regime_scale * weight[3] * record[TURNOVER]
    record[TERMS + 4] -= regime_scale * weight[4] * herfindahl
    record[TERMS + 5] -= regime_scale * weight[5] * hasty
    record[TERMS + 6] -= regime_scale * weight[6] * over


@njit(cache=True)
def decide(request, state, record, rules):
    """
    Decision part of a day: smooth and constrain the target, pass the gate, trade, pay.

    :param request: weights asked for (n_assets + 1,), sum 1
    :param state: of this env, changed in place
    :param record: of this step, changed in place
    :param rules: see :class:`Rules`
    """
    n = request.shape[0]
    weights, smoothed = state[STATE_HEAD : STATE_HEAD + n], state[STATE_HEAD + n : STATE_HEAD + 2 * n]
    held, target = record[RECORD_HEAD : RECORD_HEAD + n], record[RECORD_HEAD + n :]
    begins, untraded = state[DAYS_HELD] == NEVER, state[DAYS_HELD] >= NEVER
    for i in range(n):
        smoothed[i] = request[i] if begins else smoothed[i] + rules.smoothing * (request[i] - smoothed[i])
    constrain(smoothed, rules, target)
    held[:] = weights
    if not must_trade(weights, target, state[DAYS_HELD], rules):
        return
    if rules.to_band and not untraded:
        to_band_edge(weights, target, rules, held)
    else:
        held[:] = target
    left, turnover = settle(weights, held, state[WEALTH], rules)
    if turnover == 0.0:
        return
    record[TURNOVER], record[COST], record[REBALANCED] = turnover, 1.0 - left, 1.0
    state[WEALTH] *= max(left, 0.0)
    weights[:] = held


@njit(cache=True)
def earn(row, prices, state):
    """
    Earning part of a day: the weights earn ``returns[row]``, cash the risk-free return, and drift.

    :param row: of the returns
    :param prices: see :class:`Prices`
    :param state: of this env, changed in place
    :return: simple return of the portfolio
    """
    n = prices.returns.shape[1]
    weights = state[STATE_HEAD : STATE_HEAD + n + 1]
    growth = weights[n] * (1.0 + prices.risk_free[row])
    for i in range(n):
        growth += weights[i] * (1.0 + prices.returns[row, i])
    state[WEALTH] *= growth
    if growth > 0.0:
        weights[n] *= (1.0 + prices.risk_free[row]) / growth
        for i in range(n):
            weights[i] *= (1.0 + prices.returns[row, i]) / growth
    return growth - 1.0


@njit(cache=True)
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


@njit(cache=True)
def step_day(request, decides, prices, rules, state, clock, record):
    """
    One day of one portfolio: decide (or just hold), then earn, then add the day's reward to the record.

    :param request: weights asked for (n_assets + 1,), sum 1
    :param decides: False on days between decisions
    :param prices: see :class:`Prices`
    :param rules: see :class:`Rules`
    :param state: (state_size,), changed in place
    :param clock: (2,), changed in place
    :param record: (record_size,), overwritten but for the reward terms, which are added to
    """
    n = request.shape[0]
    row, wealth, days_held = clock[ROW], state[WEALTH], state[DAYS_HELD]
    drawdown = 1.0 - wealth / state[PEAK]
    record[TURNOVER], record[COST], record[REBALANCED] = 0.0, 0.0, 0.0
    if decides:
        decide(request, state, record, rules)
    else:
        record[RECORD_HEAD : RECORD_HEAD + n] = state[STATE_HEAD : STATE_HEAD + n]
    days_since_trade = 0.0 if record[REBALANCED] > 0.0 else days_held
    portfolio_block(state, days_since_trade, state[STATE_HEAD + 2 * n :])
    record[EXPOSURE] = 1.0 - record[RECORD_HEAD + n - 1]
    earn(row + 1, prices, state)
    state[DAYS_HELD] = days_since_trade + 1.0
    state[PEAK] = max(state[PEAK], state[WEALTH])
    record[PORTFOLIO_RETURN] = state[WEALTH] / wealth - 1.0
    record[BENCHMARK_RETURN] = prices.benchmark[row + 1]
    record[DRAWDOWN] = 1.0 - state[WEALTH] / state[PEAK]
    scale = 0.0
    for k in range(rules.regime_scale.shape[0]):
        scale += prices.regime_probs[row - rules.lag, k] * rules.regime_scale[k]
    add_reward_terms(record, scale, max(record[DRAWDOWN] - drawdown, 0.0), days_held, rules)
    clock[ROW] = row + 1


@njit(cache=True)
def observe(table, lag, state, clock, obs):
    """
    Write the observation of one env: the market part from the table, the portfolio part from the state.

    With lag 1 both end one row before the decision's close: the portfolio is the one held before the last return, because
    that return is not known yet when the order is prepared.

    :param table: every market feature, one row per day (n_rows, n_columns) float32
    :param lag: rows between what is seen and the decision's close
    :param state: (state_size,)
    :param clock: (2,)
    :param obs: receives the observation (n_columns + n_assets + 4,)
    """
    n_columns = table.shape[1]
    obs[:n_columns] = table[clock[ROW] - lag]
    tail = obs.shape[0] - n_columns
    if lag > 0:
        obs[n_columns:] = state[state.shape[0] - tail :]
    else:
        portfolio_block(state, state[DAYS_HELD], obs[n_columns:])


@njit(cache=True)
def step_batch(requests, interval, prices, rules, table, state, clock, records, obs, rewards, dones):
    """
    One step of every env: a decision and ``interval`` days of earning. Daily figures are accumulated over the step.

    :param requests: weights asked for (n_envs, n_assets + 1), rows sum to 1
    :param interval: days per step
    :param prices: see :class:`Prices`
    :param rules: see :class:`Rules`
    :param table: see :func:`observe`
    :param state: (n_envs, state_size), changed in place
    :param clock: (n_envs, 2), changed in place
    :param records: receives the record of the step (n_envs, record_size)
    :param obs: receives the next observations (n_envs, obs_size)
    :param rewards: receives the rewards (n_envs,)
    :param dones: receives ruin and end of window (n_envs, 2)
    :return: False if nothing was done because an episode has ended or not begun
    """
    for b in range(requests.shape[0]):
        if clock[b, ROW] >= clock[b, STOP] - 1 or state[b, WEALTH] <= RUIN:
            return False
    for b in range(requests.shape[0]):
        record, own, time = records[b], state[b], clock[b]
        record[TERMS:RECORD_HEAD] = 0.0
        turnover, cost, rebalanced, growth, benchmark = 0.0, 0.0, 0.0, 1.0, 1.0
        for day in range(interval):
            step_day(requests[b], day == 0, prices, rules, own, time, record)
            turnover += record[TURNOVER]
            cost += record[COST]
            rebalanced = max(rebalanced, record[REBALANCED])
            growth *= 1.0 + record[PORTFOLIO_RETURN]
            benchmark *= 1.0 + record[BENCHMARK_RETURN]
            if own[WEALTH] <= RUIN or time[ROW] >= time[STOP] - 1:
                break
        record[TURNOVER], record[COST], record[REBALANCED] = turnover, cost, rebalanced
        record[PORTFOLIO_RETURN], record[BENCHMARK_RETURN] = growth - 1.0, benchmark - 1.0
        rewards[b] = record[TERMS:RECORD_HEAD].sum()
        dones[b, 0] = own[WEALTH] <= RUIN
        dones[b, 1] = not dones[b, 0] and time[ROW] >= time[STOP] - 1
        observe(table, rules.lag, own, time, obs[b])
    return True


@njit(cache=True)
def run_targets(requests, decides, prices, rules, state, clock, records):
    """
    One portfolio through many days of given targets: the backtest of a rule, or the replay of an agent's decisions.

    :param requests: weights asked for at each day (n_days, n_assets + 1), rows sum to 1
    :param decides: False on days without a decision (n_days,)
    :param prices: see :class:`Prices`
    :param rules: see :class:`Rules`
    :param state: (state_size,), changed in place
    :param clock: (2,), changed in place
    :param records: receives one record per day (n_days, record_size)
    :return: number of days run; fewer than n_days after ruin
    """
    for day in range(requests.shape[0]):
        records[day, TERMS:RECORD_HEAD] = 0.0
        step_day(requests[day], decides[day], prices, rules, state, clock, records[day])
        if state[WEALTH] <= RUIN:
            return day + 1
    return requests.shape[0]


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
