# SPDX-License-Identifier: Apache-2.0
"""Fits a model that tells from a sentence embedding how English a phrase is.

    python bench/fit_english.py

Logistic regression on the embeddings themselves: English are WordNet's names of things (timm has
them), names of ImageNet's classes and frequent words; other languages are frequent words that are
rare in English (wordfreq: pip install wordfreq), alone and in phrases. A fifth is held out.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import timm
from sklearn.linear_model import LogisticRegression
from wordfreq import top_n_list, zipf_frequency

from lerf_ros.encoders.conse_classes import TEMPLATE, class_texts
from lerf_ros.encoders.readable import DOUBTFUL, FOREIGN, WEIGHTS
from lerf_ros.encoders.sentence import SentenceEncoder

# Languages with words that stand before or between nouns.
LANGUAGES = {
    'es': 'de la el con rojo', 'fr': 'de la un une rouge en', 'de': 'der die ein mit rotes aus',
    'it': 'di il un con rosso', 'pt': 'de o um com', 'nl': 'de een met rode', 'sv': 'en med av',
    'pl': 'z do na', 'cs': 'na s', 'fi': 'ja', 'tr': 'bir ve', 'hu': 'egy a', 'ro': 'cu de',
    'da': 'en med', 'id': 'dan merah', 'hr': 'i na'}
ADJECTIVES = ('red', 'blue', 'small', 'big', 'old', 'wooden', 'metal', 'plastic', 'white', 'black',
              'green', 'yellow', 'round', 'broken', 'empty', 'open', 'my', 'the')
PLACES = 'on the table', 'next to the window', 'with a handle', 'of glass', 'in a box'


def english(rng: random.Random) -> list[str]:
    """Returns names of things, frequent words and phrases."""
    file = Path(timm.__file__).parent / 'data' / '_info' / 'imagenet_synset_to_lemma.txt'
    lemmas = sorted({name.strip() for line in file.read_text().splitlines()
                     for name in line.split('\t')[1].split(',')})
    rng.shuffle(lemmas)
    words = [w for w in top_n_list('en', 25000) if w.isalpha() and len(w) >= 3]
    rng.shuffle(words)
    return [*class_texts()[0], *words[:6000], *lemmas[:8000],
            *(f'{rng.choice(ADJECTIVES)} {rng.choice(lemmas)}' for _ in range(1500)),
            *(f'{rng.choice(lemmas)} {rng.choice(PLACES)}' for _ in range(700))]


def foreign(rng: random.Random) -> list[str]:
    """Returns words and phrases of other languages that do not occur in English."""
    out = []
    for language, between in LANGUAGES.items():
        words = [w for w in top_n_list(language, 8000) if w.isalpha() and len(w) >= 4
                 and zipf_frequency(w, 'en') < 2.5][:1500]
        small = between.split()
        out += [*words, *(f'{rng.choice(words)} {rng.choice(small)} {rng.choice(words)}'
                          for _ in range(150)),
                *(f'{rng.choice(small)} {rng.choice(words)}' for _ in range(100))]
    return out


def main() -> None:
    """Writes the weights, and prints how they classify held-out phrases."""
    rng, encoder = random.Random(1), SentenceEncoder()
    texts = [english(rng), foreign(rng)]
    rows = encoder.encode([TEMPLATE.format(text) for some in texts for text in some])
    other = np.repeat([0, 1], [len(some) for some in texts])
    order = np.random.default_rng(0).permutation(len(rows))
    learned, held_out = np.split(order, [len(order) * 4 // 5])
    model = LogisticRegression(C=30, max_iter=4000).fit(rows[learned], other[learned])
    logits = model.decision_function(rows[held_out])
    for level in (DOUBTFUL, FOREIGN):
        shares = [float((logits[other[held_out] == kind] > level).mean()) for kind in (0, 1)]
        print(f'above {level}: {shares[0]:.2%} of English, {shares[1]:.2%} of other languages')
    WEIGHTS.write_text(json.dumps({'weights': [round(float(w), 4) for w in model.coef_[0]],
                                   'bias': round(float(model.intercept_[0]), 4)}) + '\n')


if __name__ == '__main__':
    main()
