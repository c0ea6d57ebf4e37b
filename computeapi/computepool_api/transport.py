"""The compute API of one server, for one identity: tokens, repeats, and the common endpoints.

What is repeated, and when, stands in `computepool_api.endpoints`; what an error means to the caller
in `computepool_api.errors`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from random import Random, SystemRandom
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from computepool_api import __version__
from computepool_api.answers import Answer, NoAnswer, check_echo, refusal, rejection
from computepool_api.credentials import Credentials, CredentialSource
from computepool_api.endpoints import (
    CHECK,
    PING,
    SCOPES,
    TASKHUBS,
    TOKEN,
    Endpoint,
    Happening,
    Then,
    happening_of,
    next_step,
    pause_before,
)
from computepool_api.errors import CredentialsRefused, Unavailable, UnexpectedAnswer
from computepool_api.models import parse_strings
from computepool_api.scope import Scope
from computepool_api.secrecy import Secret, login_form
from computepool_api.tokens import Token, TokenKeeper, read_token
from computepool_api.trust import Verify
from computepool_api.wire import Outgoing, Wire

USER_AGENT: Final = f"computepool/{__version__} (alchemiscale compute API client)"

UNANSWERED_TRIES: Final = 3
"""How often to send what had no answer, where the method knows what a repeat means."""


class ComputeAPI:
    """One base URL and one identity. Close it with `aclose`, or use it as a context manager.

    `url` may carry a path prefix. `verify` is True for the usual trust (certifi's, or that of the
    variables SSL_CERT_FILE and SSL_CERT_DIR), the path of a CA bundle, an SSL context, or False.
    `patience` is a factor to the time that answers may take.
    Raises ValueError for a URL, a bundle, a proxy or a variable of no use. A bundle that has been
    replaced is read when a certificate is not trusted, before the next try.

    Every call raises subclasses of `ComputeAPIError` only. One that is cancelled may have been
    carried out by the server.
    """

    def __init__(
        self,
        url: str,
        credentials: CredentialSource,
        *,
        verify: Verify = True,
        user_agent: str = USER_AGENT,
        random: Random | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        patience: float = 1.0,
    ) -> None:
        self._wire = Wire(url, verify=verify, user_agent=user_agent, patience=patience)
        self._tokens = TokenKeeper(credentials, self._request_token, monotonic)
        self._random = random or SystemRandom()
        self._sleep = sleep
        self._monotonic = monotonic

    def __repr__(self) -> str:
        return f"ComputeAPI({self._wire.url!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._wire.aclose()

    async def ping(self) -> None:
        """Make sure that a compute API answers. This says nothing about its stores (trap 26)."""
        answer = await self.ask(PING, Outgoing("/ping"))
        if answer.status != 200:
            raise rejection(PING, answer)
        if not (isinstance(answer.body, dict) and "api" in answer.body):
            raise UnexpectedAnswer(PING.name, status=200, detail="what answers is another service")

    async def check(self) -> None:
        """Make sure that the server reaches its stores. Raises Unavailable when it does not.

        With the database down the server hangs (trap 26): the wait is short.
        """
        answer = await self.ask(CHECK, Outgoing("/check"))
        if answer.status != 200:
            raise rejection(CHECK, answer)
        if answer.body is not None:
            raise UnexpectedAnswer(CHECK.name, status=200, detail="expected null")

    async def visible_scopes(self, identity: str) -> list[Scope]:
        """List the scopes granted to an identity (any identity may ask); unknown ones have none."""
        path = f"/identities/{quote(identity, safe='')}/scopes"
        answer = await self.ask(SCOPES, Outgoing(path))
        if answer.status != 200:
            raise rejection(SCOPES, answer)
        try:
            return [Scope.parse(text) for text in parse_strings(answer.body, SCOPES.name)]
        except ValueError as error:
            raise UnexpectedAnswer(SCOPES.name, status=200, detail=str(error)) from None

    async def taskhubs(self, scope: Scope | None = None) -> list[str]:
        """List the keys of the Task hubs within a scope, or of all that the identity may see."""
        wanted = (scope or Scope()).to_wire()
        params = {level: word for level, word in wanted.items() if word is not None}
        answer = await self.ask(TASKHUBS, Outgoing("/taskhubs", params=params))
        if answer.status != 200:
            raise rejection(TASKHUBS, answer)
        return list(parse_strings(answer.body, TASKHUBS.name))

    async def ask(self, endpoint: Endpoint, outgoing: Outgoing) -> Answer:
        """Send what may be repeated, and give an answer that is for the caller to read."""
        outcome = await self.exchange(endpoint, outgoing)
        if isinstance(outcome, NoAnswer):
            raise outcome.unavailable(endpoint)
        return outcome

    async def exchange(self, endpoint: Endpoint, outgoing: Outgoing) -> Answer | NoAnswer:
        """Send a request by the rules of its endpoint.

        NoAnswer means that it was sent and is not known to have been refused or carried out.
        Raises Unavailable, CredentialsRefused, ScopeRefused.
        """
        if not endpoint.token:
            return await self._tries(endpoint, outgoing, None)
        token = await self._tokens.current()
        outcome = await self._tries(endpoint, outgoing, token.secret)
        if _is_401(outcome):
            token = await self._tokens.current(refused=token)
            outcome = await self._tries(endpoint, outgoing, token.secret)
            if isinstance(outcome, Answer) and _is_401(outcome):
                raise refusal(endpoint, outcome)
        return outcome

    async def remove(self, endpoint: Endpoint, outgoing: Outgoing, *, echo: str | None) -> bool:
        """Take away what a 500 says is not there; False when it was gone before this call.

        A try without an answer may have done it: then the next one's 500 is a success as well.
        """
        tries = 1
        while isinstance(outcome := await self.exchange(endpoint, outgoing), NoAnswer):
            if tries == UNANSWERED_TRIES:
                raise outcome.unavailable(endpoint)
            await self.pause(tries)
            tries += 1
        if outcome.status == 500:
            await self.make_sure_it_lives(endpoint)
            return tries > 1
        check_echo(endpoint, outcome, echo)
        return True

    async def make_sure_it_lives(self, endpoint: Endpoint) -> None:
        """After a 500 of `endpoint`: raise Unavailable unless the server is well (trap 2)."""
        try:
            await self.check()
        except Unavailable as failure:
            trouble = failure.detail
        else:
            return
        raise Unavailable(
            endpoint.name,
            status=500,
            detail=f"the server is not well, so this says nothing ({CHECK.name}: {trouble})",
        )

    async def pause(
        self,
        repeat: int,
        happening: Happening = Happening.SILENCE,
        retry_after: float | None = None,
    ) -> None:
        """Wait before a repeat, the longer the more there were."""
        await self._sleep(pause_before(repeat, happening, self._random.random(), retry_after))

    async def _tries(
        self, endpoint: Endpoint, outgoing: Outgoing, token: Secret | None, *more: Secret
    ) -> Answer | NoAnswer:
        history: list[Happening] = []
        while True:
            outcome = await self._wire.attempt(endpoint, outgoing, token)
            outcome = _blot(outcome, [secret for secret in (token, *more) if secret is not None])
            if isinstance(outcome, NoAnswer):
                happening, status, retry_after = outcome.happening, outcome.status, None
            else:
                sorted_as = happening_of(outcome.status)
                if sorted_as is None:
                    return outcome
                happening, status, retry_after = sorted_as, outcome.status, outcome.retry_after
            history.append(happening)
            match next_step(endpoint, history):
                case Then.READ:
                    return outcome
                case Then.UNCLEAR:
                    return NoAnswer(happening, outcome.detail, status)
                case Then.UNAVAILABLE:
                    raise Unavailable(endpoint.name, status=status, detail=outcome.detail)
                case None:
                    await self.pause(len(history), happening, retry_after)

    async def _request_token(self, credentials: Credentials) -> Token:
        requested_at = self._monotonic()
        form = login_form(credentials)
        outcome = await self._tries(
            TOKEN, Outgoing("/token", form=form), None, form, Secret(credentials.key)
        )
        if isinstance(outcome, NoAnswer):
            raise outcome.unavailable(TOKEN)
        whose = f"identity {credentials.identifier!r}"
        if outcome.status == 401:
            raise CredentialsRefused(
                TOKEN.name, status=401, detail=f"{outcome.detail or 'refused'} ({whose})"
            )
        if outcome.status == 500:
            raise Unavailable(
                TOKEN.name,
                status=500,
                detail=f"either the server does not know the {whose}, or its database is down",
            )
        if outcome.status != 200:
            raise rejection(TOKEN, outcome)
        token = read_token(outcome.body, outcome.date, requested_at)
        if token is None:
            raise UnexpectedAnswer(TOKEN.name, status=200, detail="there is no token in it")
        return token


def _is_401(outcome: Answer | NoAnswer) -> bool:
    return isinstance(outcome, Answer) and outcome.status == 401


def _blot(outcome: Answer | NoAnswer, secrets: Iterable[Secret]) -> Answer | NoAnswer:
    """Take out of a text from outside what it may echo."""
    for secret in secrets:
        outcome = replace(outcome, detail=secret.removed_from(outcome.detail))
    return outcome
