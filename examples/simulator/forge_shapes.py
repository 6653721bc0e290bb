"""How Forge writes its things down in JSON."""

from typing import Any

from examples.simulator.forge import Caller, Forge
from examples.simulator.records import Account, App, Key, Organisation, Release, Repository, Status


def account_shape(forge: Forge, account: Account, caller: Caller) -> dict[str, Any]:
    """What only administrators (and the account itself) see is blank for everybody else (V)."""
    inside = caller.is_admin or caller.account is account
    hidden_mail = f"{account.name.lower()}@noreply.forge.test"
    return {
        "id": account.id,
        "login": account.name,
        "username": account.name,
        "login_name": account.login_name if caller.is_admin else "",
        "source_id": account.source_id if caller.is_admin else 0,
        "full_name": account.full_name,
        "email": account.email if caller.account else hidden_mail,
        "avatar_url": f"{forge.realm.forge_url}/avatars/{account.id}",
        "html_url": f"{forge.realm.forge_url}/{account.name}",
        "is_admin": account.admin and inside,
        "active": account.active and inside,
        "prohibit_login": account.prohibit_login and inside,
        "created": forge.realm.stamp(account.created),
        "visibility": account.visibility,
    }


def organisation_as_user(forge: Forge, org: Organisation) -> dict[str, Any]:
    """`GET /users/{n}` answers for organisations too, with an empty mail address (V)."""
    shape = account_shape(forge, Account(id=org.id, name=org.name, email="", full_name=org.full_name), Caller())
    return {**shape, "email": ""}


def organisation_shape(org: Organisation) -> dict[str, Any]:
    return {
        "id": org.id,
        "name": org.name,
        "username": org.name,
        "full_name": org.full_name,
        "email": "",
        "visibility": "public",
    }


def key_shape(key: Key) -> dict[str, Any]:
    return {"id": key.id, "title": key.title, "key": key.key, "key_type": "user", "read_only": False}


def app_shape(forge: Forge, app: App, with_secret: bool = False) -> dict[str, Any]:
    """Reading never shows a secret: it is the empty string (V)."""
    return {
        "id": app.id,
        "name": app.name,
        "client_id": app.client_id,
        "client_secret": app.client_secret if with_secret else "",
        "confidential_client": app.confidential,
        "skip_secondary_authorization": False,
        "redirect_uris": app.redirect_uris,
        "created": forge.realm.stamp(app.created),
    }


def repository_shape(forge: Forge, repository: Repository) -> dict[str, Any]:
    full = f"{repository.owner}/{repository.name}"
    return {
        "id": repository.id,
        "name": repository.name,
        "full_name": full,
        "owner": {"login": repository.owner, "username": repository.owner},
        "private": False,
        "default_branch": "main",
        "html_url": f"{forge.realm.forge_url}/{full}",
    }


def release_shape(forge: Forge, repository: Repository, release: Release) -> dict[str, Any]:
    base = f"{forge.realm.forge_url}/{repository.owner}/{repository.name}/releases"
    published = forge.realm.stamp(release.published)
    assets = [
        {
            "id": asset.id,
            "name": asset.name,
            "size": len(asset.content.encode()),
            "download_count": 0,
            "created_at": published,
            "browser_download_url": f"{base}/download/{release.tag}/{asset.name}",
        }
        for asset in release.assets
    ]
    return {
        "id": release.id,
        "tag_name": release.tag,
        "target_commitish": release.target,
        "name": release.name,
        "body": "",
        "html_url": f"{base}/tag/{release.tag}",
        "draft": False,
        "prerelease": False,
        "created_at": published,
        "published_at": published,
        "assets": assets,
    }


def status_shape(forge: Forge, status: Status) -> dict[str, Any]:
    moment = forge.realm.stamp(status.created)
    return {
        "id": status.id,
        "status": status.state,
        "target_url": status.target_url,
        "description": status.description,
        "context": status.context,
        "creator": {"login": status.creator},
        "created_at": moment,
        "updated_at": moment,
    }
