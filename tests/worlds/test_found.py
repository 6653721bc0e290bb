"""Stories in which something went wrong once (docs/worlds.md, "What was found"): they end well.

What each of them is about has a small test of its own: a story meets its moment only as long as nothing before it changes.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.worlds.living import live
from tests.worlds.story import Story

TIMING = '"timing": {"poll": "%s", "resync": "30m", "outsideProofEvery": "2h", "releasesEvery": "3h"}'
FLEET = 'fleet {"componentSets": {"demo": ["hero_books"]}, ' + TIMING

LATE = '{"method": "POST /api/v1/admin/users", "seconds": 121, "system": "forge", "times": null}'

STORIES = {
    "a letter while the door is shut again": f"""
        seed 60530
        testers 2
        span 10800
        hour 12
        {FLEET % "10s"}}}
        kill +62.458 stop 1800.000
        fate +0:22:03..+0:58:26 app_deleted carol
    """,
    "a second app while our clock is ahead": f"""
        seed 50046
        testers 2
        span 10800
        hour 8
        {FLEET % "30s"}, "engines": []}}
        edit +1547.341 remove carol
        fate +0:37:08..+1:16:19 clock_jumps - {{"seconds": 3600}}
        edit +2262.716 put_back carol
        fate +1:06:28..+1:21:48 app_duplicated carol
    """,
    "a second app of who is paused": f"""
        seed 70047
        testers 2
        span 10800
        hour 13
        {FLEET % "10s"}}}
        edit +1443.229 pause carol {{"paused": {{"reason": "demo on Friday", "by": "mik"}}}}
        fate +1:18:43..+1:45:17 app_duplicated carol
    """,
    "put back while the machine is deleted": f"""
        seed 50191
        testers 2
        span 10800
        hour 2
        {FLEET % "30s"}, "engines": []}}
        edit +6427.696 remove carol
        edit +6441.148 put_back carol
    """,
    "put back with another address for mail, when nobody had heard that its account was made": f"""
        seed 2
        testers 1
        span 10800
        hour 22
        {FLEET % "30s"}, "engines": []}}
        kill +0.500 kill 1.000
        edit +0.501 remove alice
        edit +1200.000 put_back alice {{"identity": {{"email": "alice@elsewhere.org"}}}}
    """,
    "a create of an account that is served two minutes later": f"""
        seed 71042
        testers 2
        span 10800
        hour 13
        {FLEET % "20s"}}}
        fate +0:00:00..+0:09:39 timeout_after_effect - {LATE}
        edit +6224.929 remove alice
    """,
    "other admins, and others again in the same moment": f"""
        seed 2
        testers 1
        span 10800
        hour 9
        {FLEET % "30s"}}}
        edit +3600.434 fleet - {{"admins": [{{"account": "sara"}}]}}
        edit +3600.495 fleet - {{"admins": [{{"account": "mik"}}]}}
    """,
    "put back when its gateway had been cut off": f"""
        seed 7081
        testers 2
        span 10800
        hour 17
        {FLEET % "10s"}, "engines": []}}
        fate +0:47:20..+1:23:32 node_dead - {{"node": 3}}
        edit +4951.640 remove carol
        edit +4975.253 put_back carol
    """,
    "a proof from before a restart that failed": f"""
        seed 5136
        testers 2
        span 10800
        hour 12
        {FLEET % "30s"}}}
        fate +0:05:27..+0:15:13 start_races - {{"times": 2}}
    """,
    "a letter before the books say why": f"""
        seed 87
        testers 2
        span 10800
        hour 7
        {FLEET % "30s"}}}
        fate +0:02:37..+0:23:24 token_revoked -
    """,
    "two machines are lost at once": f"""
        seed 60025
        testers 2
        span 10800
        hour 3
        {FLEET % "10s"}}}
        fate +0:07:59..+0:18:05 host_key_of_a_rebuild alice
        fate +0:15:53..+0:39:23 host_key_of_a_rebuild carol
    """,
}


@pytest.mark.long
@pytest.mark.parametrize("name", STORIES)
def test_what_went_wrong_once_goes_well(tmp_path: Path, name: str) -> None:
    outcome = live(tmp_path, Story.of_text(STORIES[name]))
    assert outcome.failure is None, outcome.failure.text
    assert outcome.standing == ()
