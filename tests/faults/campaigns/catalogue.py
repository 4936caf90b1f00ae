"""All campaigns, in the order of the table."""

from __future__ import annotations

from dataclasses import replace

from tests.faults.campaigns.campaign import Campaign
from tests.faults.campaigns.cancel_storm import cancel_storm
from tests.faults.campaigns.clocks import skewed_clocks
from tests.faults.campaigns.damaged_records import damaged_records
from tests.faults.campaigns.lost_replies import losing_replies_to
from tests.faults.campaigns.played import (
    LONG_FAULTS,
    playing,
    store_flaps,
    store_stopped_for_long,
)
from tests.faults.campaigns.policy_flips import policy_flips
from tests.faults.campaigns.races import races
from tests.faults.campaigns.restarts import (
    hung_workers,
    restarted_servers,
    restarted_workers,
    rolling_restarts,
)
from tests.faults.campaigns.rotations import rotations
from tests.faults.campaigns.splits import split_cluster, split_sentinel
from tests.faults.campaigns.stores import debian, oldest, on_redis
from tests.faults.replicated import CLUSTER, SENTINEL, acknowledged, cluster, sentinel
from tests.faults.stage import standalone
from tests.faults.troubles import STANDALONE, Trouble, store_emptied

# A change is REPLICATED only while both replicas follow. The longer pause leaves time for such
# changes before the next fault.
ACKNOWLEDGED = replace(LONG_FAULTS, trouble_pause=2.0)

CAMPAIGNS = (
    *(
        Campaign(
            f"lost-replies-{kind}",
            f"reply lost after commit on {kind}, then retried",
            2_000,
            losing_replies_to(kind),
        )
        for kind in ("issue", "renew", "revoke", "update")
    ),
    Campaign(
        "rotations",
        "renewals by several tabs, while calls are cancelled and clients are killed",
        100_000,
        rotations,
    ),
    Campaign("races", "issue and renew racing revocations, over three servers", 10_000, races),
    Campaign(
        "cancel-storm",
        "calls cancelled, connections cut and delayed; each answer names its own user",
        1_000_000,
        cancel_storm,
    ),
    Campaign(
        "records",
        "records that are damaged or cut, or that another program or a later version wrote",
        10_000,
        damaged_records,
    ),
    Campaign(
        "sentinel-killed",
        "primary killed (Sentinel)",
        100,
        playing(
            sentinel,
            SENTINEL["primary killed"],
            SENTINEL["primary restarted"],
            script=LONG_FAULTS,
            stages=2,
        ),
    ),
    Campaign(
        "sentinel-hung",
        "primary hung and woken (Sentinel)",
        100,
        playing(sentinel, SENTINEL["primary hung"], each_round=5, script=LONG_FAULTS, stages=2),
    ),
    Campaign(
        "acknowledged",
        "primary killed or hung (Sentinel, `REPLICAS_ACK=2`); nothing `REPLICATED` is lost",
        100,
        playing(
            acknowledged,
            SENTINEL["primary killed"],
            SENTINEL["primary hung"],
            each_round=5,
            script=ACKNOWLEDGED,
            stages=2,
        ),
    ),
    Campaign(
        "cluster-killed",
        "primary killed (cluster)",
        100,
        playing(cluster, CLUSTER["node killed"], script=LONG_FAULTS),
    ),
    Campaign(
        "cluster-hung",
        "primary hung and woken (cluster)",
        100,
        playing(cluster, CLUSTER["node hung"], script=LONG_FAULTS),
    ),
    Campaign(
        "split-sentinel",
        "primary split from its replicas (Sentinel)",
        100,
        split_sentinel,
        own_network=True,
    ),
    Campaign(
        "split-cluster",
        "primary split from its replicas (cluster)",
        100,
        split_cluster,
        own_network=True,
    ),
    Campaign(
        "slots",
        "slots moved, four at a time (cluster)",
        20,
        playing(cluster, CLUSTER["slots move"]),
    ),
    Campaign(
        "restarts-servers",
        "rolling restarts of two servers under the client's load",
        50,
        restarted_servers,
    ),
    Campaign(
        "rolling-restarts",
        "three servers restarted in turn, all in each trial, under the client's load",
        20,
        rolling_restarts,
    ),
    Campaign(
        "restarts-workers",
        "workers ended and killed under the client's load",
        50,
        restarted_workers,
    ),
    Campaign("hung-workers", "workers hung under the client's load", 20, hung_workers),
    *(
        Campaign(f"store-{name}", f"store {fault}", 100, playing(standalone, trouble))
        for name, fault, trouble in (
            ("stopped", "stopped for 0.1 to 30 s", Trouble(store_stopped_for_long)),
            ("stalled", "stalled: replies come late or never", STANDALONE["replies stall"]),
            ("flapping", "hangs and goes on, many times in a second", Trouble(store_flaps)),
            ("refused", "refuses connections", STANDALONE["store refuses"]),
            ("full", "full", STANDALONE["full"]),
            ("read-only", "read-only", STANDALONE["read only"]),
            ("permissions", "without a permission", STANDALONE["permission taken"]),
            ("locked-out", "locks the service's user out", STANDALONE["user locked out"]),
            ("password", "wants another password", STANDALONE["password changed"]),
            ("killed", "killed and started again", STANDALONE["store killed"]),
            ("scripts", "loses its loaded Lua scripts", STANDALONE["scripts flushed"]),
            (
                "emptied",
                "emptied (`FLUSHALL`)",
                Trouble(store_emptied, ends_watches=True, loses_writes=True),
            ),
        )
    ),
    Campaign("clocks", "a server's clock set wrong by 6 s to 28 hours", 100, skewed_clocks),
    Campaign("policy-flips", "a caller's rights taken away and given back", 100, policy_flips),
    Campaign(
        "on-valkey", "all faults, on Valkey 9.1", 20, playing(standalone, *STANDALONE.values())
    ),
    Campaign("on-redis-7", "all faults, on Redis 7.0", 20, on_redis(debian)),
    Campaign(
        "on-redis-6",
        "all faults but a missing permission, on Redis 6.2, the oldest supported",
        20,
        # Its scripts can't check permissions: a sign-in that fails may leave its event behind.
        on_redis(oldest, "permission taken"),
    ),
)
