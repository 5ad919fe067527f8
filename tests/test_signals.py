"""Exogenous signals and headlines: known when they are known, and not a row sooner."""

import subprocess
import sys
from dataclasses import replace

import gymnasium as gym
import numpy as np
import pandas as pd
import pytest

import quantflux_sb3  # noqa: F401
from quantflux_sb3.cli import main
from quantflux_sb3.features import FeatureConfig
from quantflux_sb3.market import MarketData, load_market
from quantflux_sb3.market.calendars import session_closes
from quantflux_sb3.market.headlines import LexiconScorer, PipelineScorer, label_score, score_headlines
from quantflux_sb3.market.signals import add_signals, align_signal, read_signals
from quantflux_sb3.preparation import Prepared
from quantflux_sb3.settings import Settings


@pytest.fixture
def five(prices) -> MarketData:
    """Rows of Tuesday 2010-01-05 to Monday 2010-01-11; Monday 2010-01-04 has no return."""
    return MarketData.from_prices(prices.iloc[:6])


def table(**values: dict[str, float]) -> pd.DataFrame:
    return pd.DataFrame({name: pd.Series(column) for name, column in values.items()}).pipe(
        lambda frame: frame.set_axis(pd.DatetimeIndex(frame.index), axis=0)
    )


def test_a_value_is_known_after_its_lag_at_the_next_close(five):
    signal = table(A={"2010-01-05": 1.0, "2010-01-08": 2.0})
    assert align_signal(signal, five, lag=0)[:, 0].tolist() == [1, 1, 1, 2, 2]
    assert align_signal(signal, five, lag=1)[:, 0].tolist() == [0, 1, 1, 1, 2]  # Saturday is known on Monday
    assert align_signal(signal, five, lag=3)[:, 0].tolist() == [0, 0, 0, 1, 2]
    assert align_signal(signal, five, lag=60)[:, 0].tolist() == [0] * 5
    assert align_signal(signal, five, lag=0, fill=-9.0)[:, 1].tolist() == [-9.0] * 5


def test_what_comes_after_the_close_belongs_to_the_next_session(five):
    signal = table(A={"2010-01-05 15:59": 1.0, "2010-01-06 16:01": 2.0, "2010-01-09 12:00": 3.0})
    assert align_signal(signal, five, lag=0)[:, 0].tolist() == [1, 1, 2, 2, 3]
    early = align_signal(signal, five, lag=0, close=pd.Timedelta(hours=13))
    assert early[:, 0].tolist() == [0, 1, 2, 2, 3]


def test_old_values_and_means(five):
    signal = table(A={"2010-01-05": 1.0})
    assert align_signal(signal, five, lag=0, max_age=2)[:, 0].tolist() == [1, 1, 0, 0, 0]
    assert align_signal(signal, five, lag=0, max_age=1)[:, 0].tolist() == [1, 0, 0, 0, 0]
    events = table(
        A={"2010-01-05 09:00": 1.0, "2010-01-05 10:00": 0.0, "2010-01-09": -1.0, "2010-01-10": 1.0, "2010-01-11": 1.0}
    )
    np.testing.assert_allclose(align_signal(events, five, lag=0, how="mean")[:, 0], [0.5, 0, 0, 0, 1 / 3])


def test_rows_in_any_order_and_other_tickers(five):
    signal = table(A={"2010-01-08": 2.0, "2010-01-05": 1.0}, Z={"2010-01-05": 9.0})
    assert align_signal(signal.iloc[::-1], five, lag=0).tolist() == align_signal(signal, five, lag=0).tolist()
    assert align_signal(signal, five, lag=0)[:, 1:].max() == 0.0


@pytest.mark.parametrize("how", ["last", "mean"])
@pytest.mark.parametrize("seed", range(5))
def test_no_look_ahead(market, seed, how):
    """What becomes known after the close of a row changes that row and all before not at all, and some later one."""
    rng = np.random.default_rng(seed)
    stamps = pd.DatetimeIndex(rng.choice(market.dates[20:-20], 400)) + pd.to_timedelta(rng.uniform(0, 24, 400), unit="h")
    signal = pd.DataFrame(rng.normal(size=(400, market.n_assets)), stamps, market.assets)
    lag = pd.Timedelta(hours=float(rng.uniform(0, 72)))
    row = int(rng.integers(60, 200))
    later = (signal.index + lag) > pd.Timestamp(market.dates[row]) + pd.Timedelta(hours=16)
    changed = signal.mask(later[:, None] & np.ones_like(signal, dtype=bool), signal + 100.0)
    before, after = (align_signal(item, market, lag, how=how) for item in (signal, changed))
    np.testing.assert_array_equal(before[: row + 1], after[: row + 1])
    assert not np.array_equal(before[row + 1 :], after[row + 1 :])
    known = ~later
    only_known = align_signal(signal[known], market, lag, how=how)
    np.testing.assert_array_equal(before[: row + 1], only_known[: row + 1])


@pytest.mark.parametrize(
    ("kwargs", "said"),
    [
        (dict(lag=-1), "must not be negative"),
        (dict(lag=100_000_000), "at most 36525 days"),
        (dict(how="next"), "'last' or 'mean'; got 'next'"),
        (dict(max_age=0), "max_age"),
        (dict(fill=np.nan), "fill"),
    ],
)
def test_settings_that_make_no_sense_are_refused(five, kwargs, said):
    with pytest.raises(ValueError, match=said):
        align_signal(table(A={"2010-01-05": 1.0}), five, **kwargs)


def test_signals_without_the_assets_or_dates_are_refused(five):
    with pytest.raises(ValueError, match=r"none of the assets \['A', 'B', 'C'\]; its columns are \['Z'\]"):
        align_signal(table(Z={"2010-01-05": 1.0}), five)
    with pytest.raises(ValueError, match="has an empty date"):
        align_signal(pd.DataFrame({"A": [1.0]}, pd.DatetimeIndex([pd.NaT])), five)


def test_signals_reach_the_observation(market):
    signal = pd.DataFrame(1.5, pd.DatetimeIndex(market.dates[:1]), market.assets)
    with_signal = add_signals(market, {"news": signal}, lag=0)
    block, values = FeatureConfig().blocks(with_signal)[0]
    assert block.columns[-1] == "news" and set(with_signal.asset_features) == {"signal", "news"}
    assert (values.reshape(market.n_days, market.n_assets, -1)[:, :, -1] == 1.5).all()
    env = gym.make("QuantFlux-v0", market=with_signal, split="all")
    assert any("news" in block.columns for block in env.observation_space.layout.blocks)


def test_signals_of_a_file_with_a_lag(tmp_path, bundled, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "signals.csv").write_text(
        "date,ticker,sentiment,value\n2010-01-04,AAPL,0.5,\n2010-01-05,JPM,-0.25,7\n2010-01-06,OTHER,1,1\n"
    )
    market = Prepared.check(Settings(signals="signals.csv", signal_lag=2)).market
    row = int(np.searchsorted(bundled.dates, np.datetime64("2010-01-06")))
    sentiment = market.asset_features["sentiment"]
    apple, jpm = market.assets.index("AAPL"), market.assets.index("JPM")
    assert sentiment[row - 1, apple] == 0.0 and sentiment[row, apple] == 0.5
    assert (
        sentiment[row, jpm] == 0.0 and sentiment[row + 1, jpm] == -0.25 and market.asset_features["value"][row + 1, jpm] == 7.0
    )
    (tmp_path / "signals.csv").write_text("date,ticker\n2010-01-04,AAPL\n")
    assert main(["run", "--signals", "signals.csv"]) == 2
    assert "expected the columns date, ticker and at least one signal" in capsys.readouterr().err
    with pytest.raises(ValueError, match="two rows for one date and ticker"):
        read_signals(pd.DataFrame({"date": ["2010-01-04"] * 2, "ticker": ["A"] * 2, "x": [1.0, 2.0]}))


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("Profits surge to a record", 1.0),
        ("Shares plunge after fraud probe", -1.0),
        ("Analysts don't see growth", -1.0),
        ("No losses this year", 1.0),
        ("Upgrade follows lawsuit", 0.0),
        ("The meeting is on Monday", 0.0),
        ("", 0.0),
    ],
)
def test_lexicon(text, score):
    assert LexiconScorer()([text]) == [score]


def test_lexicon_of_ones_own():
    assert LexiconScorer(frozenset(["moon"]), frozenset(["rekt"]))(["to the moon", "rekt", "profit"]) == [1.0, -1.0, 0.0]


@pytest.fixture
def headlines() -> pd.DataFrame:
    return pd.DataFrame(
        [
            ("2010-01-05 09:00", "A", "Profit rises"),
            ("2010-01-05 09:00", "A", "Profit falls"),
            ("2010-01-05 18:00", "A", "Bankruptcy"),
            ("2010-01-07", "B", "Record growth"),
        ],
        columns=["date", "ticker", "headline"],
    )


def test_headlines_become_a_daily_score_per_ticker(headlines, five):
    scores = score_headlines(headlines)
    assert list(scores.columns) == ["A", "B"] and len(scores) == 3
    feature = align_signal(scores, five, lag=0, how="mean")
    np.testing.assert_allclose(feature[:, 0], [0.5, -1.0, 0, 0, 0])  # a rise and a riddle before the close, ruin after it
    np.testing.assert_allclose(feature[:, 1], [0, 0, 1.0, 0, 0])


def test_any_function_is_a_scorer(headlines):
    assert score_headlines(headlines, lambda texts: [0.25] * len(texts)).stack().tolist() == [0.25] * 3
    for bad in (lambda texts: [2.0] * len(texts), lambda texts: [0.0], lambda texts: [np.nan] * len(texts)):
        with pytest.raises(ValueError, match=r"one number in \[-1, 1\] per headline"):
            score_headlines(headlines, bad)
    with pytest.raises(ValueError, match=r"\['headline'\] are missing"):
        score_headlines(headlines.drop(columns="headline"))


def test_no_headlines_are_no_scores():
    assert score_headlines(pd.DataFrame({"date": [], "ticker": [], "headline": []})).empty


def test_labels_of_models():
    assert label_score({"positive": 0.7, "neutral": 0.2, "negative": 0.1}) == pytest.approx(0.6)
    assert label_score({"POSITIVE": 0.25, "NEGATIVE": 0.75}) == pytest.approx(-0.5)
    with pytest.raises(ValueError, match="no positive and negative one"):
        label_score({"LABEL_0": 1.0})


def test_transformers_is_not_imported_unless_asked():
    code = (
        "import sys, pandas as pd; from quantflux_sb3.market.headlines import score_headlines;"
        "score_headlines(pd.DataFrame({'date': ['2020-01-02'], 'ticker': ['A'], 'headline': ['gain']}));"
        "print('transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_pipeline_scorer_with_a_real_model(tmp_path, headlines):
    """A tiny classifier with random weights, saved here: the whole way through transformers, no download."""
    try:
        import transformers
    except ImportError:
        with pytest.raises(ImportError, match="needs transformers; pip install transformers"):
            PipelineScorer("ProsusAI/finbert")
        return
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "profit", "rises", "falls", "bankruptcy", "record", "growth"]
    (tmp_path / "vocab.txt").write_text("\n".join(words))
    transformers.BertTokenizerFast(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
    config = transformers.BertConfig(
        vocab_size=len(words), hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8,
        id2label={0: "positive", 1: "negative", 2: "neutral"}, label2id={"positive": 0, "negative": 1, "neutral": 2},
    )  # fmt: skip
    transformers.BertForSequenceClassification(config).save_pretrained(tmp_path)
    scores = PipelineScorer(str(tmp_path), batch_size=2, device="cpu")(["profit rises", "bankruptcy", "record growth"])
    assert len(scores) == 3 and all(-1.0 <= score <= 1.0 for score in scores)
    assert score_headlines(headlines, str(tmp_path)).notna().sum().sum() == 3


def with_calendars(market: MarketData, *codes: str) -> MarketData:
    return replace(market, calendars=codes)


def test_times_with_a_zone_are_those_of_the_exchange(five):
    """15:30 in Los Angeles is 18:30 in New York, and 23:00 in Tokyo is long after its close."""
    new_york, tokyo = with_calendars(five, "XNYS"), with_calendars(five, "XTKS")
    west = table(A={"2010-01-05 12:59": 1.0, "2010-01-06 15:30": 2.0}).tz_localize("America/Los_Angeles")
    assert align_signal(west, new_york, lag=0)[:, 0].tolist() == [1, 1, 2, 2, 2]
    night = table(A={"2010-01-05 14:00": 1.0}).tz_localize("UTC")
    assert align_signal(night, new_york, lag=0)[:, 0].tolist() == [1, 1, 1, 1, 1]
    assert align_signal(night, tokyo, lag=0)[:, 0].tolist() == [0, 1, 1, 1, 1]
    both = align_signal(night, with_calendars(five, "XNYS", "XTKS"), lag=0)  # a row is known at the first of the closes
    assert both[:, 0].tolist() == [0, 1, 1, 1, 1]
    with pytest.raises(ValueError, match=r"have a zone.*exchange of the market is not known"):
        align_signal(night, five, lag=0)


def test_the_close_is_that_of_the_exchange_on_that_day(five):
    signal = table(A={"2010-01-05 14:59": 1.0, "2010-01-06 15:45": 2.0})
    assert align_signal(signal, with_calendars(five, "XTKS"), lag=0)[:, 0].tolist() == [1, 1, 2, 2, 2]
    assert align_signal(signal, with_calendars(five, "XNYS"), lag=0)[:, 0].tolist() == [1, 2, 2, 2, 2]
    late = with_calendars(five, "XETR")
    assert align_signal(table(A={"2010-01-06 17:29": 2.0}), late, lag=0)[:, 0].tolist() == [0, 2, 2, 2, 2]
    dates = pd.DatetimeIndex(["2010-11-24", "2010-11-26"])  # the day after Thanksgiving closes at 13:00
    local, instants = session_closes(["XNYS"], dates)
    assert local.hour.tolist() == [16, 13] and instants.hour.tolist() == [21, 18]


def test_headlines_and_files_keep_the_zone(five):
    lines = pd.DataFrame({"date": ["2010-01-05T15:30:00-08:00"], "ticker": ["A"], "headline": ["Profit rises"]})
    market = with_calendars(five, "XNYS")
    assert align_signal(score_headlines(lines), market, lag=0)[:, 0].tolist() == [0, 1, 1, 1, 1]
    signals = read_signals(pd.DataFrame({"date": ["2010-01-05T23:30:00Z"], "ticker": ["A"], "x": [2.0]}))
    assert align_signal(signals["x"], market, lag=0)[:, 0].tolist() == [0, 2, 2, 2, 2]
    lines.loc[1] = ["2010-01-05 15:30", "A", "Profit falls"]
    with pytest.raises(ValueError, match="times with a zone and times without, such as '2010-01-05 15:30'"):
        score_headlines(lines)


def test_loaders_name_the_exchange(bundled, prices):
    assert bundled.calendars == ("XNYS",) and load_market(prices=prices).calendars == ()
    japanese = load_market(prices=prices.set_axis(["7203.T", "6758.T", "9432.T"], axis=1))
    assert japanese.calendars == japanese.window(10, 100).calendars == ("XTKS",)
