"""Made-up films and viewers in words: each text spells the attributes that the latent tables rest on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Int64 = npt.NDArray[np.int64]

GENRES = (
    "drama", "comedy", "thriller", "romance", "science fiction", "documentary",
    "horror", "western", "war story", "musical", "fantasy", "crime story",
)  # fmt: skip
SETTINGS = (
    "at sea", "in a mountain village", "in a big city", "in the desert", "on a space station",
    "at an old school", "at a royal court", "on a farm", "in a hospital", "on a night train",
)  # fmt: skip
MOODS = ("dark", "warm", "playful", "tense", "melancholy", "hopeful", "strange", "quiet")
PACES = ("slow", "steady", "fast")
JOBS = (
    "nurse", "teacher", "engineer", "student", "farmer", "lawyer",
    "musician", "driver", "programmer", "cook", "librarian", "salesman",
)  # fmt: skip
_NOUNS = (
    ("Harbour", "Tide", "Lighthouse", "Sailor"), ("Valley", "Chapel", "Shepherd", "Snow"),
    ("Avenue", "Rooftop", "Stranger", "Subway"), ("Dune", "Caravan", "Well", "Mirage"),
    ("Orbit", "Signal", "Airlock", "Comet"), ("Classroom", "Lesson", "Headmaster", "Playground"),
    ("Crown", "Throne", "Courtier", "Ballroom"), ("Harvest", "Barn", "Orchard", "Plough"),
    ("Ward", "Surgeon", "Fever", "Corridor"), ("Carriage", "Passenger", "Platform", "Whistle"),
)  # fmt: skip
_ADJECTIVES = (
    ("Black", "Hollow", "Broken", "Last"), ("Golden", "Kind", "Open", "Summer"),
    ("Dancing", "Clumsy", "Borrowed", "Spotted"), ("Sudden", "Narrow", "Burning", "Hidden"),
    ("Grey", "Fading", "Lost", "Autumn"), ("Bright", "New", "Rising", "First"),
    ("Crooked", "Glass", "Seventh", "Upside-Down"), ("Silent", "Still", "Small", "Distant"),
)  # fmt: skip
_PLURAL = {
    "drama": "dramas", "comedy": "comedies", "thriller": "thrillers", "romance": "romances",
    "science fiction": "science fiction", "documentary": "documentaries", "horror": "horror films",
    "western": "westerns", "war story": "war stories", "musical": "musicals", "fantasy": "fantasy",
    "crime story": "crime stories",
}  # fmt: skip


@dataclass(frozen=True)
class ItemAttributes:
    """What the text of an item tells; each (I,) int64, an index into the words above.

    Attributes:
        genre: index into GENRES.
        setting: index into SETTINGS.
        mood: index into MOODS.
        pace: index into PACES.
        year: year of release.
    """

    genre: Int64
    setting: Int64
    mood: Int64
    pace: Int64
    year: Int64


@dataclass(frozen=True)
class UserAttributes:
    """What the text of a user tells; each (U,) int64.

    Attributes:
        age: years.
        job: index into JOBS.
        first: the genre liked most.
        second: another liked genre.
        disliked: a third genre, disliked.
        setting: the setting liked.
        mood: the mood liked.
    """

    age: Int64
    job: Int64
    first: Int64
    second: Int64
    disliked: Int64
    setting: Int64
    mood: Int64


def draw_items(count: int, rng: np.random.Generator) -> ItemAttributes:
    """Draw I items; genres are unequally common, and each has settings and moods that it prefers."""
    genre = rng.choice(len(GENRES), count, p=rng.dirichlet(np.full(len(GENRES), 4.0)))
    return ItemAttributes(
        genre=genre,
        setting=_depending(genre, len(GENRES), len(SETTINGS), rng),
        mood=_depending(genre, len(GENRES), len(MOODS), rng),
        pace=rng.integers(0, len(PACES), count),
        year=2024 - np.minimum(rng.geometric(0.07, count), 80),
    )


def draw_users(count: int, rng: np.random.Generator) -> UserAttributes:
    """Draw U users; three different genres each."""
    genres = np.argsort(rng.random((count, len(GENRES))), axis=1)[:, :3]
    return UserAttributes(
        age=rng.integers(16, 80, count),
        job=rng.integers(0, len(JOBS), count),
        first=genres[:, 0],
        second=genres[:, 1],
        disliked=genres[:, 2],
        setting=rng.integers(0, len(SETTINGS), count),
        mood=rng.integers(0, len(MOODS), count),
    )


def _depending(given: Int64, kinds: int, values: int, rng: np.random.Generator) -> Int64:
    table = np.cumsum(rng.dirichlet(np.full(values, 0.7), kinds), axis=1)
    draw = rng.random(len(given))
    return np.asarray(np.minimum((draw[:, None] > table[given]).sum(1), values - 1), np.int64)


def item_texts(items: ItemAttributes, rng: np.random.Generator) -> tuple[str, ...]:
    """Return I texts: "The Hollow Harbour (1987). Slow, dark thriller set at sea."; titles never repeat."""
    count = len(items.genre)
    noun, adjective = rng.integers(0, 4, count), rng.integers(0, 4, count)
    used: dict[str, int] = {}
    texts = []
    for i in range(count):
        title = f"The {_ADJECTIVES[items.mood[i]][adjective[i]]} {_NOUNS[items.setting[i]][noun[i]]}"
        used[title] = used.get(title, 0) + 1
        part = f", Part {used[title]}" if used[title] > 1 else ""
        kind = f"{PACES[items.pace[i]].capitalize()}, {MOODS[items.mood[i]]} {GENRES[items.genre[i]]}"
        texts.append(f"{title}{part} ({items.year[i]}). {kind} set {SETTINGS[items.setting[i]]}.")
    return tuple(texts)


def user_texts(users: UserAttributes) -> tuple[str, ...]:
    """Return U texts, as in "34 year old nurse who likes dramas and westerns, stories at sea ..."."""
    texts = []
    for u in range(len(users.age)):
        first, second, disliked = (_PLURAL[GENRES[g[u]]] for g in (users.first, users.second, users.disliked))
        mood = MOODS[users.mood[u]]
        article = "an" if mood[0] in "aeiou" else "a"
        texts.append(
            f"{users.age[u]} year old {JOBS[users.job[u]]} who likes {first} and {second}, stories "
            f"{SETTINGS[users.setting[u]]} and {article} {mood} mood, and dislikes {disliked}."
        )
    return tuple(texts)
