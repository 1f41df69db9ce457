"""Enrols and lists people with requests to a running service."""

import httpx


def enrol(registry: httpx.Client, label: str, photo: bytes) -> httpx.Response:
    return registry.post("/register", data={"label": label}, files={"images": photo})


def labels(registry: httpx.Client) -> set[str]:
    result, cursor = set(), None
    while True:
        page = registry.get("/identities", params={"limit": 500} | ({"cursor": cursor} if cursor else {})).json()
        result |= {identity["label"] for identity in page["identities"]}
        if (cursor := page["next_cursor"]) is None:
            return result
