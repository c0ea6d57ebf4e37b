"""Which proxy is taken, by the variables of the environment."""

import base64
import traceback

import pytest
from unit.computeapi.helpers import MakeAPI
from unit.computeapi.raw_server import RawServer, ok, status

from computepool_api.errors import Unavailable
from computepool_api.proxies import proxy_for

SERVER = "https://compute.example.org/prefix"
PROXY = "http://proxy.example.org:3128"


def chosen(url: str = SERVER, **environment: str) -> tuple[str, str] | None:
    """Return the variable and the URL, as they are read."""
    setting = proxy_for(url, environment)
    return None if setting is None else (setting.variable, setting.url.reveal())


@pytest.mark.parametrize(
    ("url", "environment", "variable"),
    [
        (SERVER, {}, None),
        (SERVER, {"HTTPS_PROXY": PROXY}, "HTTPS_PROXY"),
        (SERVER, {"https_proxy": PROXY, "HTTPS_PROXY": "http://other"}, "https_proxy"),
        (SERVER, {"https_proxy": "", "HTTPS_PROXY": PROXY}, None),
        (SERVER, {"HTTP_PROXY": PROXY}, None),
        ("http://10.0.0.1", {"HTTP_PROXY": PROXY, "HTTPS_PROXY": "socks5://x"}, "HTTP_PROXY"),
        (SERVER, {"ALL_PROXY": PROXY}, "ALL_PROXY"),
        (SERVER, {"HTTPS_PROXY": PROXY, "ALL_PROXY": "socks5://x"}, "HTTPS_PROXY"),
        (SERVER, {"HTTPS_PROXY": " ", "ALL_PROXY": PROXY}, "ALL_PROXY"),
    ],
)
def test_the_variable_is_the_one_of_the_scheme_or_the_common_one(
    url: str, environment: dict[str, str], variable: str | None
) -> None:
    assert chosen(url, **environment) == (None if variable is None else (variable, PROXY))


def test_a_proxy_without_a_scheme_is_an_http_proxy() -> None:
    assert chosen(HTTPS_PROXY="me:pw@proxy:3128") == ("HTTPS_PROXY", "http://me:pw@proxy:3128")


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        (SERVER, "*"),
        (SERVER, "compute.example.org"),
        (SERVER, "COMPUTE.example.ORG."),
        (SERVER, "example.org"),
        (SERVER, ".example.org"),
        (SERVER, "*.example.org"),
        (SERVER, "compute.example.org:443"),
        (SERVER, "10.0.0.0/8,fd00::/8, example.org"),
        ("http://localhost:8080", "localhost:8080"),
        ("http://10.1.2.3:8080", "10.1.2.3"),
        ("http://[::1]:8080", "::1"),
        ("http://[::1]:8080", "[::1]"),
        ("http://[::1]:8080", "[0:0::1]:8080"),
    ],
)
def test_what_no_proxy_names_is_asked_directly(url: str, entry: str) -> None:
    assert chosen(url, ALL_PROXY=PROXY, NO_PROXY=f"elsewhere.example.com,{entry}") is None
    assert chosen(url, ALL_PROXY=PROXY, no_proxy=entry, NO_PROXY="") is None


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        (SERVER, ""),
        (SERVER, ",.,"),
        (SERVER, "ample.org"),
        (SERVER, "my.compute.example.org"),
        (SERVER, "compute.example.org:8443"),
        (SERVER, "compute.example.org:"),
        (SERVER, "https://compute.example.org"),
        ("http://10.1.2.3", "2.3"),
        ("http://10.1.2.3", "10.0.0.0/8"),
        ("http://[fd00::1]", "fd00::/8"),
        ("http://[fd00::1]", "[fd00::/8]"),
        ("http://[fd00::1]", "fe80::/10,[::1],::1,[,],[]:1,%,é:²"),
    ],
)
def test_whatever_else_no_proxy_holds_changes_nothing(url: str, entry: str) -> None:
    assert chosen(url, ALL_PROXY=PROXY, NO_PROXY=entry) == ("ALL_PROXY", PROXY)


@pytest.mark.parametrize("entries", ["fd00::/8", "fe80::/10", "[::1]", "10.0.0.0/8,::1,[", "%"])
async def test_entries_that_httpx_does_not_take_break_no_client(
    entries: str, make_api: MakeAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", entries)
    make_api(SERVER)
    monkeypatch.setenv("HTTPS_PROXY", PROXY)
    make_api(SERVER)


@pytest.mark.parametrize("scheme", ["socks4", "socks5", "socks5h"])
def test_socks_is_not_supported(scheme: str) -> None:
    with pytest.raises(ValueError, match=r"ALL_PROXY .*: SOCKS proxies are not supported"):
        proxy_for(SERVER, {"ALL_PROXY": f"{scheme}://me:s3cret@proxy:1080"})


@pytest.mark.parametrize(
    "value",
    [
        "http://user:s3cr#t@proxy:3128",
        "http://user:12#s3cret@proxy:3128",
        "http://user:s3cr?t@proxy:3128",
        "http://user:s3cr/t@proxy:3128",
        "http://user:12/s3cret@proxy:3128",
        "http://user:s3cr[t@proxy:3128",
        "http://user:s3cret@proxy:port",
        "http://user:s3cret@proxy:0",
        "http://user:s3cret@proxy:99999",
        "http://user:s3cret@",
        "http://user:s3cret@pro\x01xy",
        "http://user:s3cr\udcfft@proxy",
        "ftp://user:s3cret@proxy",
        "user:s3cr#t@proxy:3128",
        f"http://user:s3cret@{'ü' * 80}:3128",
    ],
)
async def test_a_proxy_of_no_use_is_named_and_not_shown(
    value: str, make_api: MakeAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ValueError, match=r"^HTTPS_PROXY cannot be used: it must be") as caught:
        make_api(SERVER)
    assert "s3c" not in "".join(traceback.format_exception_only(caught.value))
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize(("written", "meant"), [("s3cr%23t", "s3cr#t"), ("s3cr@t", "s3cr@t")])
async def test_a_password_for_the_proxy_is_sent(
    written: str, meant: str, raw: RawServer, make_api: MakeAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", raw.url.replace("//", f"//user:{written}@"))
    raw.replies = [status(403)]
    with pytest.raises(Unavailable, match="the proxy refuses to connect") as caught:
        await make_api(SERVER).ping()
    assert "s3cr" not in str(caught.value)
    sent = base64.b64encode(f"user:{meant}".encode()).decode()
    assert raw.requests[0].headers["proxy-authorization"] == f"Basic {sent}"


async def test_an_exception_of_no_proxy_is_asked_directly(
    raw: RawServer, make_api: MakeAPI, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("NO_PROXY", "10.0.0.0/8,fd00::/8,127.0.0.1")
    raw.replies = [ok({"api": "AlchemiscaleComputeAPI"})]
    await make_api(raw.url).ping()


def test_a_setting_does_not_show_its_url() -> None:
    assert "s3cret" not in repr(proxy_for(SERVER, {"https_proxy": "http://me:s3cret@proxy"}))
