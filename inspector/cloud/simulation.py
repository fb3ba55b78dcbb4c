"""What a policy would have asked, cost and missed on recorded parts: pure, for a manager who chooses one.

What is assumed, since a recording cannot know it: a REVIEW that nobody asks about goes to a person, who is right;
an NG stays NG; what the cloud says of a REVIEW is followed, and an OK part that it calls defective is stopped.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice

from inspector.cloud.budget import IMAGE_TOKENS, cost_of_tokens
from inspector.cloud.looks import Look, are_near_duplicates
from inspector.cloud.policy import DEFECT, GOOD, RECENT_ANSWERS, find_agreed, is_drawn
from inspector.cloud.provider import MediaResolution
from inspector.cloud_settings import ProviderBase, StationCloudConfig
from inspector.records import VerdictKind


@dataclass(frozen=True, slots=True)
class RecordedPart:
    """One recorded inspection. `key` says which case it is: draws and answers follow from it.

    `defective` is None where nobody knows. `looks` are those of all suspicious regions, `pictures` how many would
    be sent, `part_bytes` and `context_bytes` what would leave: about this part, and the same for every part.
    """

    key: str
    camera: str
    recipe_name: str
    verdict: VerdictKind
    defective: bool | None
    looks: tuple[Look, ...]
    pictures: int
    part_bytes: int
    context_bytes: int
    context_pictures: int


@dataclass(frozen=True, slots=True)
class Policy:
    """A way of asking that can be compared."""

    name: str
    everything: bool = False
    audit_share: float = 0.0
    reuse: bool = False
    cache: bool = False
    reuse_good_lead: int = 3
    reuse_defect_lead: int = 1
    recheck_share: float = 0.05


@dataclass(frozen=True, slots=True)
class Prices:
    """What a question costs: `context_tokens` of text are the same for every part, `answer_tokens` come back."""

    provider: ProviderBase
    resolution: MediaResolution
    context_tokens: int
    text_tokens: int
    answer_tokens: int


@dataclass(frozen=True, slots=True)
class PolicyOutcome:
    """What a policy would have done.

    `missed` are the keys of defective parts that nobody would have stopped, `overkill` those of good parts that the
    cloud would have stopped.
    """

    policy: str
    parts: int
    calls: int
    reused: int
    size_bytes: int
    money_micro: int
    defective: int
    missed: tuple[str, ...]
    overkill: tuple[str, ...]


def compare_policies(rules: StationCloudConfig) -> tuple[Policy, ...]:
    """Those that every comparison has, with a station's own shares and leads."""
    saving = Policy(
        "REVIEW + reuse + cache",
        reuse=True,
        cache=True,
        reuse_good_lead=rules.reuse_good_lead,
        reuse_defect_lead=rules.reuse_defect_lead,
        recheck_share=rules.recheck_share,
    )
    return (
        Policy("everything", everything=True),
        Policy("REVIEW", everything=False),
        saving,
        Policy("REVIEW + audit", audit_share=rules.audit_share),
        replace(saving, name="REVIEW + audit + reuse + cache", audit_share=rules.audit_share),
    )


class ComparedLooks:
    """Which looks are near-duplicates, compared once: every policy and every assumed cloud asks about the same parts.

    Looks are known by their identity, so the parts have to live as long.
    """

    def __init__(self) -> None:
        self._alike: dict[tuple[int, int], bool] = {}

    def are_alike(self, one: tuple[Look, ...], other: tuple[Look, ...]) -> bool:
        """See `are_near_duplicates`."""
        pair = (id(one), id(other))
        if pair not in self._alike:
            self._alike[pair] = are_near_duplicates(one, other)
        return self._alike[pair]


def simulate_policy(
    parts: Sequence[RecordedPart],
    policy: Policy,
    prices: Prices,
    right_share: float = 1.0,
    compared: ComparedLooks | None = None,
) -> PolicyOutcome:
    """Run a policy over parts in their order; the cloud is right about `right_share` of the cases it is asked about."""
    compared = compared or ComparedLooks()
    calls = reused = size_bytes = money = defective = 0
    missed: list[str] = []
    overkill: list[str] = []
    known: dict[tuple[str, str], list[tuple[tuple[Look, ...], str]]] = {}
    for part in parts:
        defective += part.defective is True
        said: str | None = None
        if _is_asked(part, policy):
            cases = known.setdefault((part.camera, part.recipe_name), [])
            reusable = policy.reuse and part.verdict is VerdictKind.REVIEW
            said = _find_answer(part, cases, policy, compared) if reusable else None
            if said is not None:
                reused += 1
            else:
                calls += 1
                size_bytes += part.part_bytes + (0 if policy.cache and calls > 1 else part.context_bytes)
                money += _cost(part, prices, cached=policy.cache and calls > 1)
                said = _answer(part, right_share)
                if reusable:
                    cases.append((part.looks, said))
        if part.defective and _is_missed(part, said):
            missed.append(part.key)
        if part.defective is False and part.verdict is not VerdictKind.NG and said == DEFECT:
            overkill.append(part.key)
    return PolicyOutcome(
        policy.name, len(parts), calls, reused, size_bytes, money, defective, tuple(missed), tuple(overkill)
    )


def _is_asked(part: RecordedPart, policy: Policy) -> bool:
    if part.verdict is VerdictKind.NOT_INSPECTED:
        return False
    if policy.everything or part.verdict is VerdictKind.REVIEW:
        return True
    return part.verdict is VerdictKind.OK and is_drawn(part.key, policy.audit_share)


def _find_answer(
    part: RecordedPart, cases: Sequence[tuple[tuple[Look, ...], str]], policy: Policy, compared: ComparedLooks
) -> str | None:
    """What earlier near-duplicates agree on, unless this one is drawn to be asked all the same."""
    if is_drawn(part.key, policy.recheck_share, "recheck"):
        return None
    alike = (said for looks, said in reversed(cases) if compared.are_alike(part.looks, looks))
    newest = list(islice(alike, RECENT_ANSWERS))
    return find_agreed(reversed(newest), good_lead=policy.reuse_good_lead, defect_lead=policy.reuse_defect_lead)


def _is_missed(part: RecordedPart, said: str | None) -> bool:
    if part.verdict is VerdictKind.OK:
        return said != DEFECT
    return part.verdict is VerdictKind.REVIEW and said == GOOD


def _answer(part: RecordedPart, right_share: float) -> str:
    """Right or wrong by a draw that is the same for the same case under every policy (common random numbers)."""
    digest = hashlib.sha256(f"answer/{part.key}".encode()).digest()
    is_right = int.from_bytes(digest[:8], "big") < right_share * 2**64
    return DEFECT if bool(part.defective) is is_right else GOOD


def _cost(part: RecordedPart, prices: Prices, *, cached: bool) -> int:
    per_image = prices.provider.tokens_per_image or IMAGE_TOKENS[prices.resolution]
    context = prices.context_tokens + part.context_pictures * per_image
    fresh = prices.text_tokens + part.pictures * per_image
    if cached:
        return cost_of_tokens(prices.provider, fresh, context, prices.answer_tokens)
    return cost_of_tokens(prices.provider, fresh + context, 0, prices.answer_tokens)
