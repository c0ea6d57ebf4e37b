"""Where the identifier and the key come from: the settings, or a mounted Secret.

A mounted Secret is read again at each request for a token, so that a changed one is used by
workers that run. Errors name files and never repeat what is in them.
"""

from pathlib import Path

from computepool_api.credentials import Credentials, CredentialSource, CredentialsUnreadable
from computepool_worker.documents import DocumentError, read_credentials
from computepool_worker.settings import Settings

__all__ = ["CredentialsUnreadable", "read_directory", "source_for"]


def source_for(settings: Settings) -> CredentialSource:
    """Return what is called for credentials at each token request.

    The directory wins over the settings' own identifier and key, if both are given. Calling the
    source raises CredentialsUnreadable.
    """
    directory = settings.credentials_dir
    if directory is not None:
        return lambda: read_directory(directory)
    identifier, key = settings.identifier, settings.key
    if identifier is None or key is None:
        raise CredentialsUnreadable("the settings give neither identifier and key nor a directory")
    credentials = Credentials(identifier, key)
    return lambda: credentials


def read_directory(directory: Path) -> Credentials:
    """Read a mounted Secret.

    It holds either the files ``identifier`` and ``key``, or one settings file of a compute service,
    JSON or YAML, flat or nested, under any name. Raises CredentialsUnreadable.
    """
    # Kubernetes swaps this link when the Secret changes: through it both files are of one version.
    version = directory / "..data"
    try:
        current = version.resolve(strict=True) if version.exists() else directory
        files = sorted(path for path in current.iterdir() if _is_visible_file(path))
    except OSError as error:
        raise CredentialsUnreadable(f"{directory} cannot be read: {error.strerror}") from None
    names = {path.name for path in files}
    if {"identifier", "key"} <= names:
        return Credentials(
            identifier=_read_line(current / "identifier"), key=_read_line(current / "key")
        )
    for path in files:
        found = _from_settings_file(path)
        if found is not None:
            return found
    seen = ", ".join(sorted(names)) or "nothing"
    raise CredentialsUnreadable(
        f"{directory} holds no credentials: expected the files identifier and key, or a settings "
        f"file that has both; found {seen}"
    )


def _is_visible_file(path: Path) -> bool:
    return not path.name.startswith(".") and path.is_file()


def _read_line(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError:
        raise CredentialsUnreadable(f"{path} is not UTF-8 text") from None
    except OSError as error:
        raise CredentialsUnreadable(f"{path} cannot be read: {error.strerror}") from None
    if not text:
        raise CredentialsUnreadable(f"{path} is empty")
    return text


def _from_settings_file(path: Path) -> Credentials | None:
    try:
        found = read_credentials(path)
    except DocumentError:
        return None
    identifier, key = found.get("identifier"), found.get("key")
    return Credentials(identifier=identifier, key=key) if identifier and key else None
