"""tagger: trains and measures the linear tagger of what a sentence asks for.

    python benchmarks/tagger.py [--write benchmarks/tagger.md] [--save src/stillwatch/evidence/tagger.npz]

The sentences are made from frames of our own (`benchmarks/tagger/*.txt`), written by hand in nine languages, and from
lines of this project's own code; no log and no text of the simulator is used. A quarter of the frames of each language
is held out whole, so that the held-out figures are those of wordings never seen. Needs scikit-learn (group `dev`).
"""

from __future__ import annotations

import argparse
import random
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from scipy.sparse import csr_matrix
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold

from stillwatch.evidence.tagger import BUCKETS, CLASSES, Tagger, sentence_features

HERE = Path(__file__).parent
FRAMES = HERE / "tagger"
SEED = 7
PER_FRAME = 160
HELD_OUT = 4
"""Every so many-th frame of a class is held out."""

N_FOLDS = 5
MOST_WRONG = 0.01
"""Share of ordinary sentences, of frames a fold has not seen, that a threshold may let through."""

N_GIBBERISH = 6000
LETTERS = "abcdefghijklmnopqrstuvwxyzäöüéèñçабвгдежзиклмнопрст"
OUR_OWN_WORDS = r"reason|grad(e|ing)|judge|score|rank|tool|trajector|rubric|think|step|trace"
"""What this project's own pages talk about; their sentences with these words are no ordinary ones."""

WORDS = {
    "en": "river stone garden letter window summer bread candle mirror forest engine violin harbour lantern meadow "
    "table market price paper train tooth shoulder contract budget kitchen novel island winter music ladder",
    "de": "fluss stein garten brief fenster sommer brot kerze spiegel wald motor geige hafen markt preis zug küche",
    "es": "río piedra jardín carta ventana verano pan vela espejo bosque motor mercado precio tren cocina invierno",
    "fr": "rivière pierre jardin lettre fenêtre été pain bougie miroir forêt moteur marché prix train cuisine hiver",
    "pt": "rio pedra jardim carta janela verão pão vela espelho floresta motor mercado preço trem cozinha inverno",
    "ru": "река камень сад письмо окно лето хлеб свеча зеркало лес мотор рынок цена поезд кухня зима",
}


@dataclass(frozen=True)
class Sentence:
    """A sentence, the class of the frame it was made from, its language, and whether that frame is held out."""

    text: str
    label: str
    language: str
    held_out: bool
    frame: str = ""


def fill(frame: str, words: list[str], rng: random.Random) -> str:
    """One sentence of a frame: {a|b} is one of, [x] may be left out, <word> is any word."""
    said = re.sub(r"\[([^\[\]]*)\]", lambda found: found[1] if rng.random() < 0.5 else "", frame)
    for _ in range(4):
        said = re.sub(r"\{([^{}]*)\}", lambda found: rng.choice(found[1].split("|")), said)
    return re.sub("<word>", lambda _: rng.choice(words), said)


def sentences() -> list[Sentence]:
    """Every sentence, in an order that the seed fixes."""
    rng, made = random.Random(SEED), []
    for path in sorted(FRAMES.glob("*.txt")):
        words = WORDS.get(path.stem, WORDS["en"]).split()
        label, number = "", 0
        for line in path.read_text("utf-8").splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[:-1] in (*CLASSES, "ordinary") and line.endswith(":"):
                label, number = line[:-1], 0
                continue
            texts = {_dressed(fill(line, words, rng), words, rng) for _ in range(PER_FRAME)}
            held = number % HELD_OUT == HELD_OUT - 1
            made += [Sentence(text, label, path.stem, held, line) for text in sorted(texts)]
            number += 1
    made += [
        Sentence(_gibberish(rng), "ordinary", "gibberish", at % HELD_OUT == 0, f"gibberish {at}")
        for at in range(N_GIBBERISH)
    ]
    pages = " ".join(path.read_text("utf-8") for path in sorted((HERE.parent / "docs").glob("*.md")))
    told = {one.strip() for one in re.split(r"(?<=[.:])\s+|\n+|\|", pages) if len(one.split()) > 4}
    prose = sorted(one for one in told if not re.search(OUR_OWN_WORDS, one, re.IGNORECASE))
    made += [Sentence(line, "ordinary", "prose", at % HELD_OUT == 0, line) for at, line in enumerate(prose)]
    modules = sorted((HERE.parent / "src").rglob("*.py"))
    lines = {line.strip() for path in modules for line in path.read_text("utf-8").splitlines()}
    code = sorted(line for line in lines if re.search(r"[=(:]", line) and '"""' not in line and len(line) > 20)
    rng.shuffle(code)
    return made + [Sentence(line, "ordinary", "code", at % HELD_OUT == 0, line) for at, line in enumerate(code[:3000])]


def _gibberish(rng: random.Random) -> str:
    """Words nobody has seen, so that not knowing a word is no reason to think anything of it."""
    spelled = ["".join(rng.choice(LETTERS) for _ in range(rng.randint(2, 9))) for _ in range(rng.randint(3, 14))]
    return " ".join(spelled) if rng.random() < 0.7 else "".join(chr(rng.randint(0x4E00, 0x8FFF)) for _ in range(12))


def _dressed(text: str, words: list[str], rng: random.Random) -> str:
    """Now and then something before or behind: real sentences are never bare."""
    if rng.random() < 0.3:
        text = f"{rng.choice(words)} {rng.choice(words)}, {text}"
    if rng.random() < 0.3:
        text = f"{text} {rng.choice(words)} {rng.choice(words)}"
    return text


def train(made: list[Sentence]) -> Tagger:
    """Fit one logistic regression per class on the frames held in; weights in 8 bits, thresholds out of fold."""
    kept = [one for one in made if not one.held_out]
    x = sentence_features(pa.array([one.text for one in kept], pa.large_string()))
    ordinary = np.array([one.label == "ordinary" for one in kept])
    folds = list(GroupKFold(N_FOLDS).split(x, groups=[one.frame for one in kept]))
    weights, thresholds, scale = [], [], []
    for name in CLASSES:
        y = np.array([one.label == name for one in kept])
        unseen = np.empty(len(kept))
        for seen, held in folds:
            unseen[held] = _score(_fit(x[seen], y[seen]), x[held])
        model = _fit(x, y)
        step = float(np.abs(model.coef_).max() / 127)
        weights.append(np.round(model.coef_[0] / step).astype(np.int8))
        scale.append(step)
        least = float(np.quantile(unseen[ordinary], 1 - MOST_WRONG))
        thresholds.append(max(least, 0.0) - float(model.intercept_[0]))
    return Tagger(np.stack(weights), np.array(scale), np.array(thresholds))


def _fit(x: csr_matrix, y: np.ndarray) -> LogisticRegression:
    return LogisticRegression(C=2.0, max_iter=400, solver="liblinear", intercept_scaling=10, random_state=SEED).fit(
        x, y
    )


def _score(model: LogisticRegression, x: csr_matrix) -> np.ndarray:
    return np.asarray(model.decision_function(x))


def table(tagger: Tagger, made: list[Sentence]) -> list[str]:
    """Held-out recall per class and language, and ordinary sentences tagged, with counts."""
    lines = ["| language | " + " | ".join(CLASSES) + " | ordinary tagged |", "|" + "---|" * (len(CLASSES) + 2)]
    held = [one for one in made if one.held_out]
    shown = tagger.sentences(pa.array([one.text for one in held], pa.large_string()))
    for language in sorted({one.language for one in held}):
        cells = []
        for at, name in enumerate(CLASSES):
            here = [n for n, one in enumerate(held) if one.language == language and one.label == name]
            cells.append(f"{int(shown[here, at].sum())} of {len(here)}" if here else "none")
        here = [n for n, one in enumerate(held) if one.language == language and one.label == "ordinary"]
        cells.append(f"{int(shown[here].any(axis=1).sum())} of {len(here)}" if here else "none")
        lines.append(f"| {language} | " + " | ".join(cells) + " |")
    return lines


def main() -> None:
    """Train, print and, where asked to, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--save", type=Path)
    options = parser.parse_args()
    made = sentences()
    tagger = train(made)
    text = "\n".join(
        [
            "# Tagger: sentences of held-out frames",
            "",
            f"{len(made):,} sentences from frames of our own, a quarter of the frames held out; seed {SEED}; "
            f"{BUCKETS:,} buckets, 8-bit weights.",
            "Command: `python benchmarks/tagger.py --write benchmarks/tagger.md --save "
            "src/stillwatch/evidence/tagger.npz`.",
            "Thresholds let one ordinary sentence in a hundred pass, of unseen frames; where no pattern stands in for",
            "the tagger, recall of other wordings is low outside English and German, which are most of the frames.",
            "",
            *table(tagger, made),
        ]
    )
    print(text)
    if options.write:
        options.write.write_text(text + "\n", "utf-8")
    if options.save:
        tagger.save(options.save)


if __name__ == "__main__":
    main()
