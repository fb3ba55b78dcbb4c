"""What the cloud said, in words for people: an opinion is always named as one, and its text is a stranger's."""

from __future__ import annotations

from inspector.store.reviews import Opinion
from reports.formats import clean_name, clean_text

LONGEST_TEXT = 600
VERDICT_WORDS = {"good": "good", "defect": "a defect", "unsure": "cannot tell"}


def brief_opinion(opinion: Opinion) -> str:
    """`cloud: a defect, dent`: for a picture, where there is room for a few words."""
    return f"cloud: {_said(opinion)}"


def opinion_words(opinion: Opinion) -> str:
    """`Cloud opinion (model, 80 %): a defect, dent. “A dark dent.”`, and whether it was late or reused."""
    details = opinion.details
    who = [clean_text(str(details.get("model") or "unknown model"))]
    confidence = details.get("confidence")
    who += [f"{confidence:.0%}"] if isinstance(confidence, int | float) else []
    text = clean_text(str(details.get("text") or ""), LONGEST_TEXT)
    notes = [note for note, is_so in (("late", details.get("late")), ("reused", details.get("same_as"))) if is_so]
    noted = f" ({', '.join(notes)})" if notes else ""
    return f"Cloud opinion ({', '.join(who)}){noted}: {_said(opinion)}." + (f" “{text}”" if text else "")


def _said(opinion: Opinion) -> str:
    name = opinion.details.get("defect_name")
    named = f", {clean_name(name)}" if isinstance(name, str) and name else ""
    return VERDICT_WORDS.get(opinion.verdict, "something else") + named
