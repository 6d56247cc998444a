"""What a recipe says about a chat server: where it is, what it may be asked at once, and what may be spent on it."""

from __future__ import annotations

from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Structured = Literal["auto", "json_schema", "json_object", "off"]


class Price(BaseModel):
    """US dollars per million tokens."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    input: float = Field(ge=0, description="US dollars per million tokens sent.")
    output: float = Field(ge=0, description="US dollars per million tokens received.")

    def cost(self, tokens_in: int, tokens_out: int) -> float:
        """US dollars for so many tokens."""
        return (tokens_in * self.input + tokens_out * self.output) / 1e6


class Budget(BaseModel):
    """What one client may spend, replayed replies being free. No limit where a value is absent."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    usd: float | None = Field(None, ge=0, description="US dollars; needs the endpoint's `price`.")
    tokens: int | None = Field(None, ge=0, description="Tokens, sent and received.")
    requests: int | None = Field(None, ge=0, description="Requests; sending one again after a failure counts once.")


class Endpoint(BaseModel):
    """A model behind an OpenAI-compatible chat server. Without a `url` a client only replays its journal."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    url: str | None = Field(None, description="Base URL, ending in /v1; absent: replay the journal only.")
    model: str = Field(min_length=1, description="The model's name as the server knows it.")
    api_key_env: str = Field("OPENAI_API_KEY", description="Environment variable that holds the key.")
    api_key_block: str | None = Field(None, description="Prefect Secret block that holds the key, instead.")
    concurrency: int = Field(128, ge=1, description="Requests in flight at most; fewer while the server objects.")
    requests_per_minute: float | None = Field(None, gt=0, description="Rate limit.")
    tokens_per_minute: float | None = Field(None, gt=0, description="Rate limit, tokens sent and received.")
    timeout_s: float = Field(300.0, gt=0, description="Seconds until a request counts as failed.")
    max_attempts: int = Field(6, ge=1, description="How often one request is sent at most.")
    temperature: float = Field(0.0, ge=0, description="Sampling temperature where a request names none.")
    max_tokens: int = Field(2048, ge=1, description="Output tokens at most where a request says nothing else.")
    price: Price | None = Field(None, description="{input, output}: US dollars per million tokens.")
    structured: Structured = Field(
        "auto", description="How JSON is asked for; auto: a JSON schema, else a JSON object, else plain text."
    )

    @field_validator("url")
    @classmethod
    def _normal(cls, value: str | None) -> str | None:
        return value.rstrip("/") if value else None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        # of the whole, not of a field: messages about a field repeat its value, which may be a key put in a wrong place
        if not self.api_key_env.isidentifier():
            raise ValueError("api_key_env must be the NAME of an environment variable, never the key itself")
        if self.url is not None:
            _check_url(self.url)
        return self

    def scoring(self) -> dict[str, Any]:
        """What replies depend on, for fingerprints: not where the server is, nor how hard it is driven."""
        return {"model": self.model, "temperature": self.temperature, "max_tokens": self.max_tokens}

    def cost(self, tokens_in: int, tokens_out: int) -> float | None:
        """US dollars for so many tokens, None where the price is unknown."""
        price = self.price
        return None if price is None else price.cost(tokens_in, tokens_out)


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("url must be an http(s) URL such as http://localhost:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("url must hold no key, user name or query: name the key's variable in api_key_env")
    if parts.path.endswith("/chat/completions"):
        raise ValueError("url must be the base URL (ending in /v1), without /chat/completions")
