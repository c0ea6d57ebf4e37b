"""The compute API over HTTP: routes, bodies, tokens, gzip, and the server's kinds of errors."""

import asyncio
import gzip
import json
from collections import defaultdict
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, FastAPI, Request, Response
from fastapi.middleware.gzip import GZipMiddleware
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from fastapi.security import OAuth2PasswordBearer, OAuth2PasswordRequestForm

from .bodies import ScopeBody
from .errors import BrokenError, RefusedError
from .identifiers import scope_of_key
from .scopes import Scope
from .settings import TransformationForm
from .store import Store
from .tokens import TokenData
from .wire import NOTES

_BAD_SCOPE = (
    "Requested Scope cannot be processed as a 3-object tuple of form"
    '"X-Y-Z" and cast to string. Alpha numerical values (a-z A-Z 0-9) and "*" are accepted for '
    'parameter "scope"'
)


class _UnzippingRequest(Request):
    """A request whose body is unzipped, if `Content-Encoding` is exactly gzip."""

    async def body(self) -> bytes:
        if not hasattr(self, "_body"):
            body = await super().body()
            if "gzip" in self.headers.getlist("Content-Encoding"):
                body = gzip.decompress(body)
            self._body = body
        return self._body


class _UnzippingRoute(APIRoute):
    """Accepts gzipped bodies."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def handle_unzipped(request: Request) -> Response:
            return await handle(_UnzippingRequest(request.scope, request.receive))

        return handle_unzipped


def make_api(store_of: Callable[[], Store]) -> FastAPI:
    """The application; `store_of` gives the store at each request, so that it can be replaced."""
    api = FastAPI(title="AlchemiscaleComputeAPI", openapi_url=None)
    api.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=5)
    api.add_exception_handler(RefusedError, _refused)
    routes = _Routes(store_of)
    routes.add_open(api)
    tokens = OAuth2PasswordBearer(tokenUrl="token")

    async def caller(request: Request, token: Annotated[str, Depends(tokens)]) -> TokenData:
        data = store_of().identify(token)
        request.scope[NOTES]["identity"] = data.identity
        request.state.caller = data
        return data

    guarded = APIRouter(dependencies=[Depends(caller)], route_class=_UnzippingRoute)
    guarded.add_api_route("/info", routes.info)
    guarded.add_api_route("/check", routes.check)
    stored = APIRouter(
        dependencies=[Depends(caller), Depends(routes.need_database)],
        route_class=_UnzippingRoute,
    )
    routes.add_stored(stored)
    routes.add_managers(stored)
    api.include_router(guarded)
    api.include_router(stored)
    return api


async def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RefusedError)
    headers = {"WWW-Authenticate": "Bearer"} if error.challenge else None
    return JSONResponse({"detail": error.detail}, error.status, headers)


class _Routes:
    """The handlers. They run on one event loop, so each stretch without `await` is atomic."""

    def __init__(self, store_of: Callable[[], Store]) -> None:
        self._store_of = store_of
        self._hub_locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    @property
    def _store(self) -> Store:
        return self._store_of()

    def add_open(self, api: FastAPI) -> None:
        """Routes that need no token."""
        api.add_api_route("/ping", self.ping)
        api.add_api_route("/openapi.json", self.openapi, include_in_schema=False)
        api.add_api_route("/token", self.token, methods=["POST"])

    def add_stored(self, router: APIRouter) -> None:
        """Routes that need a token and the database."""
        router.add_api_route("/identities/{identity}/scopes", self.scopes)
        router.add_api_route("/taskhubs", self.taskhubs)
        service = "/computeservice/{service}"
        for path, handler in (
            (f"{service}/register", self.register_service),
            (f"{service}/deregister", self.deregister_service),
            (f"{service}/heartbeat", self.heartbeat),
            ("/taskhubs/{hub}/claim", self.hub_claim),
            ("/claim", self.claim),
            ("/tasks/{task}/results", self.push),
        ):
            router.add_api_route(path, handler, methods=["POST"])
        router.add_api_route("/tasks/{task}/transformation", self.transformation)
        router.add_api_route("/tasks/{task}/transformation/gufe", self.transformation_gufe)

    def add_managers(self, router: APIRouter) -> None:
        """Routes of compute managers, which old servers do not have."""
        managers = APIRouter(
            dependencies=[Depends(self.need_managers)], route_class=router.route_class
        )
        for action, handler in (
            ("register", self.register_manager),
            ("deregister", self.deregister_manager),
            ("instruction", self.instruction),
            ("status", self.status),
            ("clear_error", self.clear_error),
        ):
            managers.add_api_route(
                f"/computemanager/{{manager}}/{action}", handler, methods=["POST"]
            )
        router.include_router(managers)

    # what must be up

    async def need_database(self) -> None:
        if not self._store.settings.database_up:
            raise BrokenError("the database is down")

    async def need_managers(self) -> None:
        if not self._store.settings.has_managers:
            raise RefusedError(404, "Not Found")

    # small endpoints

    async def ping(self) -> dict[str, str]:
        return {"api": "AlchemiscaleComputeAPI"}

    async def openapi(self) -> None:
        raise BrokenError("the real server cannot describe itself")

    async def token(
        self, request: Request, form: Annotated[OAuth2PasswordRequestForm, Depends()]
    ) -> dict[str, str]:
        await self.need_database()
        request.scope[NOTES]["identity"] = form.username
        token = self._store.token(form.username, form.password)
        return {"access_token": token, "token_type": "bearer"}

    async def info(self) -> dict[str, str]:
        return {"message": "nothing yet"}

    async def check(self, request: Request) -> None:
        settings = self._store.settings
        if not settings.database_up:
            while (await request.receive())["type"] != "http.disconnect":
                pass
        if not settings.object_store_up:
            raise RefusedError(
                503,
                "Attempt to reach services failed, Neo4j reachable: True, S3 reachable: False",
            )

    async def scopes(self, identity: str) -> list[str]:
        return self._store.scopes_of(identity)

    # managers

    async def register_manager(
        self, manager: str, steal: Annotated[bool, Body(embed=True)] = False
    ) -> str:
        store = self._store
        manager_id = store.manager_id(manager)
        store.check_manager_free(manager_id, steal=steal)
        if store.settings.registration_gap:
            await asyncio.sleep(store.settings.registration_gap)
        store.add_manager(manager_id)
        return manager

    async def deregister_manager(self, manager: str) -> str:
        self._store.registry.deregister_manager(self._store.manager_id(manager))
        return manager

    async def instruction(
        self,
        request: Request,
        manager: str,
        scopes: Annotated[list[ScopeBody], Body(embed=True, default_factory=list)],
        protocols: Annotated[list[str], Body(embed=True, default_factory=list)],
    ) -> dict[str, Any]:
        answer = self._store.instruction(
            manager, [body.scope() for body in scopes], protocols, request.state.caller
        )
        request.scope[NOTES] |= answer
        return answer

    async def status(
        self,
        request: Request,
        manager: str,
        status: Annotated[str, Body()],
        detail: Annotated[str | None, Body()] = None,
        saturation: Annotated[float | None, Body()] = None,
    ) -> str:
        request.scope[NOTES] |= {"reported": status, "saturation": saturation, "detail": detail}
        self._store.set_manager_status(manager, status, detail, saturation)
        return manager

    async def clear_error(self, manager: str) -> None:
        self._store.registry.clear_error(manager)

    # services

    async def register_service(
        self,
        request: Request,
        service: str,
        compute_manager_id: Annotated[str | None, Body(embed=True)] = None,
    ) -> str:
        request.scope[NOTES]["manager"] = compute_manager_id
        self._store.register_service(service, compute_manager_id)
        return service

    async def deregister_service(self, service: str) -> str:
        self._store.deregister_service(service)
        return service

    async def heartbeat(self, service: str) -> str:
        self._store.heartbeat(service)
        return service

    # hubs and claims

    async def taskhubs(
        self,
        request: Request,
        *,
        return_gufe: bool = False,
        org: str | None = None,
        campaign: str | None = None,
        project: str | None = None,
    ) -> list[str] | dict[str, str]:
        try:
            scope = ScopeBody(org=org, campaign=campaign, project=project).scope()
        except ValueError:
            raise RefusedError(400, _BAD_SCOPE, challenge=True) from None
        hubs = self._store.visible_hubs(scope, request.state.caller)
        if not return_gufe:
            return [hub.key for hub in hubs]
        return {
            hub.key: json.dumps(
                {
                    "network": hub.network,
                    "weight": hub.weight,
                    "__qualname__": "TaskHub",
                    "__module__": "alchemiscale.storage.models",
                    ":version:": 1,
                }
            )
            for hub in hubs
        }

    async def hub_claim(
        self,
        request: Request,
        hub: str,
        compute_service_id: Annotated[str, Body()],
        count: Annotated[int, Body()],
        protocols: Annotated[list[str] | None, Body()] = None,
    ) -> list[str | None]:
        self._store.check_scope(hub, request.state.caller)
        self._store.check_service_id(compute_service_id)
        claimed = await self._claim_from(hub, compute_service_id, count, protocols)
        request.scope[NOTES] |= {"service": compute_service_id, "tasks": claimed}
        return [*claimed, *[None] * (count - len(claimed))]

    async def claim(
        self,
        request: Request,
        scopes: Annotated[list[ScopeBody], Body()],
        compute_service_id: Annotated[str, Body()],
        count: Annotated[int, Body()],
        scopes_exclude: Annotated[list[ScopeBody] | None, Body()] = None,
        protocols: Annotated[list[str] | None, Body()] = None,
    ) -> list[str | None] | None:
        store = self._store
        notes: dict[str, Any] = request.scope[NOTES]
        notes |= {"service": compute_service_id, "tasks": []}
        if not store.may_claim(compute_service_id):
            notes["denied"] = True
            return None
        hubs = store.claimable_hubs(
            [body.scope() for body in scopes],
            [body.scope() for body in scopes_exclude or ()],
            request.state.caller,
        )
        if not hubs and not store.settings.pads_empty_claims:
            return []
        claimed: list[str] = notes["tasks"]
        while len(claimed) < count and (hub := store.workload.draw_hub(hubs)) is not None:
            hubs.remove(hub)
            wanted = count - len(claimed)
            claimed += await self._claim_from(hub.key, compute_service_id, wanted, protocols)
        return [*claimed, *[None] * (count - len(claimed))]

    async def _claim_from(
        self, hub: str, service: str, count: int, protocols: list[str] | None
    ) -> list[str]:
        """Claim through one hub; the lock is the hub's, so that two hubs do not see each other."""
        store = self._store
        gap = store.settings.claim_gap
        if not gap:
            keys = store.workload.select(hub, count, protocols)
            store.finish_hub_claim(keys, service)
            return keys
        async with self._hub_locks[hub]:
            keys = store.workload.select(hub, count, protocols)
            await asyncio.sleep(gap)
            store.finish_hub_claim(keys, service)
        return keys

    # fetching and results

    async def transformation(self, request: Request, task: str) -> str:
        return self._store.transformation_key(task, request.state.caller)

    async def transformation_gufe(self, request: Request, task: str) -> Response:
        answer = self._store.transformation(task, request.state.caller)
        if self._store.settings.transformation_form is TransformationForm.JSON_STRING:
            return JSONResponse(answer)
        # Written by gufe's encoder there, hence escaped and with spaces.
        return Response(json.dumps(answer), media_type="application/json")

    async def push(self, request: Request, task: str) -> dict[str, str | None]:
        body = await _body(request)
        store = self._store
        entry, service = store.push(task, body, request.state.caller)
        request.scope[NOTES] |= {"service": service, "result": entry.key, "ok": entry.ok}
        scope: Scope = scope_of_key(task)
        return {
            "gufe_key": entry.key,
            "org": scope.org,
            "campaign": scope.campaign,
            "project": scope.project,
        }


async def _body(request: Request) -> bytes:
    try:
        return await request.body()
    except (OSError, EOFError) as error:
        raise BrokenError(f"a body that is not gzip: {error}") from error
