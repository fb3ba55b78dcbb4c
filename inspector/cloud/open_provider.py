"""From the settings of a provider to somebody who can be asked. SDKs are imported only where they are needed."""

from __future__ import annotations

from inspector.cloud.provider import Provider
from inspector.cloud_settings import (
    GeminiProvider,
    OpenAiCompatibleProvider,
    ProviderConfig,
    VertexProvider,
)
from inspector.config import read_secret
from inspector.errors import ConfigError

CACHE_LIFETIME_S = 900


def open_provider(settings: ProviderConfig) -> Provider:
    """Raises `MissingExtraError` without the SDK, `ConfigError` for a missing secret or one that cannot work."""
    if isinstance(settings, GeminiProvider):
        return _open_gemini(settings)
    if isinstance(settings, VertexProvider):
        return _open_vertex(settings)
    if isinstance(settings, OpenAiCompatibleProvider):
        from inspector.cloud.openai_compatible import OpenAiCompatibleProvider as Asked
        from inspector.cloud.openai_compatible import OpenAiCompatibleSettings

        return Asked(
            OpenAiCompatibleSettings(
                model=settings.model,
                api_key=read_secret(settings.api_key_env),
                base_url=settings.base_url,
                name=settings.name,
                max_output_tokens=settings.max_output_tokens,
                limit_field=settings.limit_field,
                ca_file=settings.ca_file,
            )
        )
    from inspector.cloud import webhook

    secret = _required(settings.secret_env)
    return webhook.WebhookProvider(
        webhook.WebhookSettings(url=settings.base_url, secret=secret, name=settings.name, ca_file=settings.ca_file)
    )


def _open_gemini(settings: GeminiProvider) -> Provider:
    from inspector.cloud import gemini

    return gemini.GeminiProvider(
        gemini.GeminiSettings(
            model=settings.model,
            api_key=_required(settings.api_key_env),
            base_url=settings.base_url,
            name=settings.name,
            max_output_tokens=settings.max_output_tokens,
            cache_lifetime_s=CACHE_LIFETIME_S if settings.use_cache else 0,
        )
    )


def _open_vertex(settings: VertexProvider) -> Provider:
    from inspector.cloud import gemini

    return gemini.VertexProvider(
        gemini.VertexSettings(
            model=settings.model,
            project=settings.project,
            location=settings.location,
            credentials_file=settings.credentials_file,
            base_url=settings.base_url,
            name=settings.name,
            max_output_tokens=settings.max_output_tokens,
            cache_lifetime_s=CACHE_LIFETIME_S if settings.use_cache else 0,
        )
    )


def _required(variable: str) -> str:
    secret = read_secret(variable)
    if secret is None:
        raise ConfigError(f"environment variable {variable} is not set; the configuration names it as a secret")
    return secret
