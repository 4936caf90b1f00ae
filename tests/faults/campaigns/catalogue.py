"""All campaigns, in the order of the table."""

from __future__ import annotations

from tests.faults.campaigns.campaign import Campaign
from tests.faults.campaigns.damaged_records import damaged_records
from tests.faults.campaigns.lost_replies import losing_replies_to
from tests.faults.campaigns.races import races

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
    Campaign("races", "issue and renew racing revocations, over three servers", 10_000, races),
    Campaign(
        "records", "records corrupted, cut, foreign, of a later version", 10_000, damaged_records
    ),
)
BY_NAME = {campaign.name: campaign for campaign in CAMPAIGNS}
