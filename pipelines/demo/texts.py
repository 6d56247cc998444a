"""Small talk for the example: texts put together from banks of sentences, different enough not to be duplicates."""

from __future__ import annotations

import random

TOPICS: dict[str, tuple[str, ...]] = {
    "sourdough": (
        "A starter is a mix of flour and water that keeps wild yeast alive.",
        "Feed it twice a day at room temperature, or once a week in the fridge.",
        "The dough is ready when it has grown by half and holds small bubbles.",
        "A hot lid traps steam, which keeps the crust soft while the loaf rises.",
        "Salt slows the yeast down and tightens the gluten.",
        "Wet doughs give open crumbs but are harder to shape.",
        "Let the loaf cool for an hour, because the inside is still setting.",
        "Rye flour ferments faster than white wheat.",
        "If the loaf spreads flat, the dough was left to rise for too long.",
    ),
    "bicycles": (
        "Check the tyre pressure every week, since soft tyres wear fast and puncture easily.",
        "A dry chain squeaks; wipe it clean before you oil it again.",
        "Brake pads have a groove that shows when they are worn out.",
        "The saddle is at the right height when your knee stays slightly bent.",
        "Loose spokes let the wheel wobble and should be trued soon.",
        "Change to an easy gear before the hill, not on it.",
        "Lights make you visible long before they help you see.",
        "Carry a spare tube, two levers and a small pump.",
        "Cables stretch in the first months, so have the gears adjusted once.",
    ),
    "tides": (
        "The moon pulls the nearer ocean more strongly than the rest of the Earth.",
        "Most coasts see two high tides in a little under twenty-five hours.",
        "Spring tides come when sun, moon and Earth stand in one line.",
        "The shape of a bay can make its tides many times higher than those of the open sea.",
        "Neap tides are the weak ones, at the half moons.",
        "Tide tables give heights above a chart datum, not above the beach.",
        "Friction of the tides makes the days longer by a sliver each century.",
        "Currents turn later than the water level does.",
        "The Mediterranean is almost tideless, as its only strait is narrow.",
    ),
    "chess": (
        "Bring out knights and bishops before you move the queen.",
        "A rook belongs on a file that has no pawns.",
        "Castle early, because a king in the middle is easy to attack.",
        "When you are ahead, trade pieces and keep the pawns.",
        "A knight on the rim controls half as many squares as one in the centre.",
        "Look at every check and every capture before you choose a plan.",
        "Two bishops are strong in open positions.",
        "A passed pawn ties down the piece that has to stop it.",
        "In the endgame the king becomes a fighting piece.",
    ),
    "gardens": (
        "Water in the morning, so that the leaves are dry by night.",
        "Mulch keeps the soil moist and the weeds small.",
        "Beans feed the soil with nitrogen while they grow.",
        "Tomatoes want sun, warmth and the same amount of water each day.",
        "Prune apple trees in late winter, when their shape is plain to see.",
        "Slugs dislike copper tape and rough gravel.",
        "Compost needs green scraps, brown leaves and air.",
        "Rotate crops each year to keep diseases from settling in.",
        "Raised beds warm up sooner in spring.",
    ),
    "databases": (
        "An index speeds up reading and slows down writing.",
        "Normal forms keep one fact in one place.",
        "A transaction either happens as a whole or not at all.",
        "Column stores read only the columns that a query names.",
        "Statistics tell the planner how many rows to expect.",
        "Backups that nobody has restored are only hopes.",
        "A foreign key refuses rows that point nowhere.",
        "Views give a query a name without storing its result.",
        "Locks that are held for long make everybody wait.",
    ),
}  # fmt: skip
_ASKS = (
    "Explain {topic} to {who}.", "Write a short note about {topic} for {who}.", "What should {who} know about {topic}?",
    "Give {who} some advice on {topic}.", "Summarise the basics of {topic} for {who}.",
)  # fmt: skip
_WHO = (
    "a child",
    "a beginner",
    "my neighbour",
    "a busy reader",
    "a new colleague",
    "a sceptic",
    "an old hand",
    "a class",
)
_STYLES = ("Keep it short.", "Use plain words.", "No lists, please.", "One paragraph will do.", "")


def question_and_answer(rng: random.Random) -> tuple[str, str]:
    """A question about a random topic, and an answer of three to six sentences."""
    topic = rng.choice(sorted(TOPICS))
    question = rng.choice(_ASKS).format(topic=topic, who=rng.choice(_WHO))
    style = rng.choice(_STYLES)
    return f"{question}\n{style}".rstrip(), _sentences(rng, topic, rng.randint(3, 6))


def dialogue(rng: random.Random) -> list[str]:
    """Two to four questions with their answers, in turn."""
    return [text for _ in range(rng.randint(2, 4)) for text in question_and_answer(rng)]


def article(rng: random.Random) -> str:
    """One line of running text on two topics."""
    first, second = rng.sample(sorted(TOPICS), 2)
    return f"{_sentences(rng, first, 6)} {_sentences(rng, second, 5)}"


def _sentences(rng: random.Random, topic: str, count: int) -> str:
    return " ".join(rng.sample(TOPICS[topic], count))
