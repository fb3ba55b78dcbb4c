"""What a question may cost at most, what it did cost, and whether a station can afford it. Pure arithmetic.

Money is counted in millionths of the currency unit, so that a price for a million tokens is the price of one
token in these units. What is debited before sending is an upper bound: a token has at least one byte of text,
a picture at most the tokens of its media resolution (or what the provider's settings say).
"""

from __future__ import annotations

import math

from inspector.cloud.provider import MediaResolution, Question, Reply
from inspector.cloud_settings import BudgetConfig, ProviderBase
from inspector.records import Charge, Spent

MICRO = 1_000_000
IMAGE_TOKENS: dict[MediaResolution, int] = {"low": 280, "medium": 560, "high": 1120}
ENVELOPE_BYTES = 2_000
"""The vendor's envelope and the schema of the answer, beside text and pictures."""


def bound_charge(question: Question, size_bytes: int, provider: ProviderBase) -> Charge:
    """The most that one request with this question can cost; `size_bytes` is that of its pictures and texts."""
    per_image = provider.tokens_per_image or IMAGE_TOKENS[question.media_resolution]
    text_bytes = len(question.instruction.encode()) + len(question.text.encode()) + ENVELOPE_BYTES
    tokens = text_bytes + per_image * len(question.images)
    money = tokens * provider.price_input + provider.max_output_tokens * provider.price_output
    return Charge(size_bytes, math.ceil(money + provider.price_request * MICRO))


def cost_of_reply(reply: Reply, provider: ProviderBase, reserved_micro: int) -> int:
    """What an answered request cost by the provider's own counts; where it gives none, what was reserved."""
    if reply.input_tokens is None or reply.output_tokens is None:
        return reserved_micro
    cached = min(reply.cached_tokens or 0, reply.input_tokens)
    return cost_of_tokens(provider, reply.input_tokens - cached, cached, reply.output_tokens)


def cost_of_tokens(provider: ProviderBase, input_tokens: int, cached_tokens: int, output_tokens: int) -> int:
    """Millionths for one request with so many tokens; cached ones are not among the input tokens here."""
    tokens = input_tokens * provider.price_input + cached_tokens * provider.price_cached
    return math.ceil(tokens + output_tokens * provider.price_output + provider.price_request * MICRO)


def refuse_charge(limits: BudgetConfig, spent: Spent, charge: Charge) -> str | None:
    """Why a station cannot afford one more request; None when it can."""
    if spent.requests_hour + 1 > limits.requests_per_hour:
        return f"{spent.requests_hour} of {limits.requests_per_hour} requests in the last hour"
    if spent.requests_day + 1 > limits.requests_per_day:
        return f"{spent.requests_day} of {limits.requests_per_day} requests in the last day"
    if spent.bytes_day + charge.size_bytes > limits.bytes_per_day:
        return f"{spent.bytes_day} of {limits.bytes_per_day} bytes in the last day, {charge.size_bytes} more are needed"
    if spent.money_month_micro + charge.money_micro > limits.money_per_month * MICRO:
        used, needed = spent.money_month_micro / MICRO, charge.money_micro / MICRO
        return f"{used:.4f} of {limits.money_per_month:g} spent in 30 days, up to {needed:.4f} more are needed"
    return None
