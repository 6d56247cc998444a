"""Whether a server is there, asked once before a run."""

from __future__ import annotations

from http.client import HTTPException
from urllib.error import HTTPError, URLError
from urllib.request import Request as HttpRequest
from urllib.request import urlopen

from schemas.errors import RecipeError
from stages.llm.endpoint import Endpoint
from stages.llm.secrets import load_key


def reachable(endpoint: Endpoint, timeout_s: float = 10.0) -> None:
    """Raise RecipeError if no server answers at the endpoint's URL or it refuses the key; quiet without a URL.

    Asks for `/models`; any response counts (some servers have no such page), but 401 and 403. For `Stage.check`.
    """
    if endpoint.url is None:
        return
    request = HttpRequest(f"{endpoint.url}/models", headers={"User-Agent": "curatrix"})
    if (key := load_key(endpoint)) is not None:
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    try:
        with urlopen(request, timeout=timeout_s):
            return
    except HTTPError as error:
        if error.code in (401, 403):
            raise RecipeError(f"{endpoint.url} refuses the key (HTTP {error.code}): {_where(endpoint)}") from None
    except (URLError, HTTPException, OSError) as error:
        reason = error.reason if isinstance(error, URLError) else error
        raise RecipeError(
            f"no language model server answers at {endpoint.url} ({reason}): start it, or correct `url`, "
            f"or leave `url` out to replay a journal"
        ) from None


def _where(endpoint: Endpoint) -> str:
    if endpoint.api_key_block is not None:
        return f"check the Prefect Secret block '{endpoint.api_key_block}'"
    return f"put a valid key into the environment variable {endpoint.api_key_env}"
