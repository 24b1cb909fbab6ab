"""What the Hugging Face hub's library raises, and a proxy that it cannot use, told in one sentence."""

import contextlib
from collections.abc import Iterator
from urllib.request import getproxies

from huggingface_hub import constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from wanda_core.errors import GatedError, InputError, ModelError, WandaError, first_line, shortened, shortened_path
from wanda_core.model.names import DEFAULT_REVISION, hub_id_and_revision

try:  # huggingface_hub sends its requests by httpx2 from its version 2 on, by httpx before
    import httpx2 as httpx
except ImportError:
    import httpx  # type: ignore[no-redef]

UNREACHABLE = (OfflineModeIsEnabled, httpx.TransportError, ConnectionError, TimeoutError)
UNAUTHORIZED = 401
PROXIED = ("http", "https", "all")  # schemes for which the environment may name a proxy
TOKENS = "https://huggingface.co/settings/tokens"


class UnreachableError(Exception):
    """The hub cannot be reached, or gives no answer that serves. said: what to tell where the cache does not serve
    either, None for what is told of a hub out of reach."""

    def __init__(self, said: ModelError | None = None) -> None:
        super().__init__(str(said or ""))
        self.said = said


@contextlib.contextmanager
def in_one_sentence(name: str, token: str | None = None) -> Iterator[None]:
    """Turn what the hub's library raises into UnreachableError, InputError or ModelError, whose words hold no token."""
    shown = shortened_path(name)
    try:
        yield
    except WandaError:
        raise
    except GatedRepoError as error:
        raise _gated(name, error.response.status_code) from error
    except RepositoryNotFoundError as error:
        raise InputError(
            f"model {shown} does not exist on the hub, or is private; check its spelling, or log in with "
            "`hf auth login` if it is yours"
        ) from error
    except RevisionNotFoundError as error:
        hub_id, revision = hub_id_and_revision(name)
        raise InputError(
            f"model {shortened(hub_id)} has no revision {shortened(revision or DEFAULT_REVISION)} on the hub; give a "
            "branch, a tag or a commit that it has, or leave @ out"
        ) from error
    except (*UNREACHABLE, LocalEntryNotFoundError) as error:
        raise UnreachableError from error
    except HfHubHTTPError as error:
        if error.response.status_code == UNAUTHORIZED:
            raise ModelError(
                f"the hub does not accept the token that is sent with the request for {shown}; log in again with "
                "`hf auth login`, correct HF_TOKEN or unset it, or give another"
            ) from error
        said = ModelError(f"the hub answered {shown} with an error: {_said(error, token)}; try again later")
        raise UnreachableError(said) from error
    except OSError as error:
        raise ModelError(
            f"{shown} could not be downloaded: {error.strerror or _said(error, token)}; check the disk that holds "
            f"{shortened_path(constants.HF_HUB_CACHE)} and try again"
        ) from error
    except Exception as error:  # an answer that is none, from whatever stands between here and the hub
        said = ModelError(
            f"the hub's answer about {shown} cannot be read: {_said(error, token)}; check the network and try again"
        )
        raise UnreachableError(said) from error


def _said(error: BaseException, token: str | None) -> str:
    """Return the first line of an error's message, without the token."""
    return first_line(error, token or get_token())


def _gated(name: str, status: int) -> GatedError:
    """Return the error that says where a model's licence is accepted, and what shows the hub that it was."""
    page = f"https://huggingface.co/{hub_id_and_revision(name)[0]}"
    if status == UNAUTHORIZED:
        what = f"is gated on the hub; accept its licence at {page} and give a token of the account that did, made at"
        remedy = f"{what} {TOKENS}: log in with `hf auth login`, or set HF_TOKEN"
    else:
        what = f"is gated on the hub, which does not let this token in; accept its licence at {page}, wait until its"
        remedy = f"{what} owner lets you in, or give the token of an account that is in"
    return GatedError(f"{shortened_path(name)} {remedy}", page)


def check_proxy(name: str) -> None:
    """Raise UnreachableError where the proxy that the environment names cannot be used by what asks the hub.

    Its address is not shown: it may hold a password.
    """
    proxies = {scheme: address for scheme, address in getproxies().items() if scheme in PROXIED}
    try:
        if proxies:
            httpx.Client().close()
    except Exception as error:
        if constants.HF_HUB_OFFLINE:
            raise UnreachableError from error
        socks = isinstance(error, ImportError)
        named = sorted(scheme for scheme, address in proxies.items() if address.startswith("socks") or not socks)
        why = (
            "SOCKS needs a package that is not installed"
            if socks
            else "its address is not http://host:port or the like"
        )
        remedy = 'pip install "httpx[socks]", or unset it' if socks else "correct it or unset it"
        said = ModelError(
            f"the hub cannot be asked for {shortened_path(name)} through the proxy in "
            f"{' and '.join(f'{scheme.upper()}_PROXY' for scheme in named)} ({why}); {remedy}"
        )
        raise UnreachableError(said) from error
