"""
From dated headlines to a daily score per ticker, by any scorer: a function from texts to numbers in [-1, 1].

:class:`LexiconScorer` counts words and runs anywhere. :class:`PipelineScorer` asks a text-classification pipeline of Hugging
Face's ``transformers``, which is imported only then. The scores become a feature by
:func:`quantflux_sb3.market.signals.align_signal` with ``how="mean"``.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from quantflux_sb3.market.validation import parse_instants

Scorer = Callable[[Sequence[str]], Sequence[float]]

_POSITIVE = frozenset(
    "accelerates accelerated advance advances beat beats best boom boost boosts boosted breakthrough bullish "
    "buyback climb climbs climbed exceed exceeds exceeded expand expands expansion gain gains gained growth grows "
    "grew high higher improve improves improved jump jumps jumped leads optimistic outperform outperforms "
    "outperformed overweight positive profit profits profitable raise raises raised rally rallies rallied rebound "
    "rebounds record recover recovers recovery rise rises rose soar soars soared strong stronger strength success "
    "successful surge surges surged surpass surpasses top tops topped upbeat upgrade upgrades upgraded win wins won".split()
)
_NEGATIVE = frozenset(
    "bankrupt bankruptcy bearish breach cut cuts cutting crash crashes crashed crisis decline declines declined "
    "default defaults delay delays delayed disappoint disappoints disappointing disappointed downgrade downgrades "
    "downgraded drop drops dropped fail fails failed failure fall falls fell fine fined fraud halt halts "
    "investigation lawsuit layoff layoffs loss losses lose loses lost low lower miss misses missed negative "
    "pessimistic plunge plunges plunged probe recall recalls recession scandal shortfall shrink shrinks slash "
    "slashes slashed slow slows slowdown slump slumps slumped sued sues suspend suspends tumble tumbles tumbled "
    "underperform underperforms underweight warn warns warning warned weak weaker weakness worse worst".split()
)
_NEGATIONS = frozenset("no not never without neither nor cannot cant isnt wasnt doesnt didnt dont wont fails failed".split())


@dataclass(frozen=True)
class LexiconScorer:
    """
    Good words less bad words over all of them; a negation up to three words before turns a word round.

    Small and transparent, not clever: for real work give it your own words or use a :class:`PipelineScorer`.

    :param positive: words that speak for the share, in lower case
    :param negative: words that speak against it
    """

    positive: frozenset[str] = _POSITIVE
    negative: frozenset[str] = _NEGATIVE

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """
        :param texts: headlines
        :return: their scores in [-1, 1]; 0 where no word is known
        """
        return [self._score(text) for text in texts]

    def _score(self, text: str) -> float:
        words = re.findall(r"[a-z]+", str(text).lower().replace("'", "").replace("\u2019", ""))
        signs = []
        for place, word in enumerate(words):
            sign = (word in self.positive) - (word in self.negative)
            if sign:
                turned = any(before in _NEGATIONS for before in words[max(place - 3, 0) : place])
                signs.append(-sign if turned else sign)
        return float(np.mean(signs)) if signs else 0.0


class PipelineScorer:
    """
    Scores of a text-classification model of the Hugging Face hub, or of a local folder; needs ``transformers``.

    The score is the probability of the positive label less that of the negative one.

    :param model: name such as ``ProsusAI/finbert``
    :param batch_size: headlines classified at once
    :param kwargs: of ``transformers.pipeline``
    :raises ImportError: if transformers is not installed
    """

    def __init__(self, model: str, batch_size: int = 32, **kwargs: object):
        try:
            from transformers import pipeline
        except ImportError as error:
            raise ImportError(f"The scorer '{model}' needs transformers; pip install transformers.") from error
        self.batch_size = batch_size
        self.classify = pipeline("text-classification", model=model, top_k=None, **kwargs)

    def __call__(self, texts: Sequence[str]) -> list[float]:
        """
        :param texts: headlines
        :return: their scores in [-1, 1]
        :raises ValueError: if the model has no positive or no negative label
        """
        answers = self.classify(list(texts), batch_size=self.batch_size, truncation=True)
        return [label_score({item["label"]: item["score"] for item in answer}) for answer in answers]


def label_score(probabilities: dict[str, float]) -> float:
    """
    :param probabilities: by label
    :return: probability of the positive label less that of the negative one
    :raises ValueError: if there are no such labels
    """
    by_name = {label.lower(): value for label, value in probabilities.items()}
    positive = next((by_name[name] for name in ("positive", "pos", "bullish") if name in by_name), None)
    negative = next((by_name[name] for name in ("negative", "neg", "bearish") if name in by_name), None)
    if positive is None or negative is None:
        raise ValueError(
            f"The model's labels {sorted(probabilities)} have no positive and negative one; wrap it in a function."
        )
    return float(positive - negative)


def score_headlines(headlines: pd.DataFrame, scorer: Scorer | str | None = None) -> pd.DataFrame:
    """
    :param headlines: columns date (with a time of day in the exchange's time or with a zone, if known), ticker, headline
    :param scorer: from texts to scores in [-1, 1]; the name of a Hugging Face model; the lexicon if not given
    :return: scores by time and ticker (NaN: no headline), for ``align_signal(..., how="mean")``
    :raises ValueError: if a column is missing, or the scorer gives anything but one number in [-1, 1] per headline
    """
    if missing := {"date", "ticker", "headline"} - set(headlines.columns):
        raise ValueError(f"Headlines need the columns date, ticker, headline; {sorted(missing)} are missing.")
    scorer = PipelineScorer(scorer) if isinstance(scorer, str) else scorer or LexiconScorer()
    texts = headlines["headline"].fillna("").astype(str).tolist()
    scores = np.asarray(scorer(texts) if texts else [], dtype=np.float64)
    if scores.shape != (len(texts),) or not (np.abs(scores) <= 1.0).all():
        raise ValueError(f"A scorer must give one number in [-1, 1] per headline; got shape {scores.shape} for {len(texts)}.")
    stamps = parse_instants(headlines["date"])
    table = pd.DataFrame({"date": stamps, "ticker": headlines["ticker"].astype(str).to_numpy(), "score": scores})
    return table.groupby(["date", "ticker"])["score"].mean().unstack().rename_axis(index=None, columns=None)
