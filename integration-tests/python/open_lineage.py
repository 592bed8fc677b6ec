"""An independent reader of OpenLineage: reads run events from the bus until a run is complete, and makes the classes of OpenLineage's client of them.

usage: open_lineage.py nats://HOST:PORT

Prints one JSON object per event. The classes refuse fields that the specification does not have, and validate ids, times and addresses.
"""

import asyncio
import json
import sys

import nats
from nats.js.api import ConsumerConfig, DeliverPolicy
from openlineage.client import event_v2, facet_v2
from openlineage.client.generated.base import RunEvent
from openlineage.client.serde import Serde

FACETS = {
    "errorMessage": facet_v2.error_message_run.ErrorMessageRunFacet,
    "jobType": facet_v2.job_type_job.JobTypeJobFacet,
    "version": facet_v2.dataset_version_dataset.DatasetVersionDatasetFacet,
    "inputStatistics": facet_v2.input_statistics_input_dataset.InputStatisticsInputDatasetFacet,
}


def major(address):
    """The major version and the name of the schema of a facet."""
    version, name = address.split("#")[0].rsplit("/", 2)[1:]
    return version.split("-")[0], name


def facets(given):
    """The facets of a part of an event, as the client's classes where it has them."""
    made = {}
    for name, facet in (given or {}).items():
        fields = {key: value for key, value in facet.items() if not key.startswith("_")}
        assert facet["_producer"].startswith("urn:rekindle:"), facet
        if name == "schema":
            kind = facet_v2.schema_dataset.SchemaDatasetFacet
            columns = [facet_v2.schema_dataset.SchemaDatasetFacetFields(**field) for field in fields["fields"]]
            made[name] = kind(fields=columns)
        elif name in FACETS:
            kind = FACETS[name]
            made[name] = kind(**fields)
        else:
            continue
        assert major(facet["_schemaURL"]) == major(kind._get_schema()), (facet, kind._get_schema())
    return made


def parse(data):
    """The event as the client has it."""
    run, job = data["run"], data["job"]
    return event_v2.RunEvent(
        eventType=event_v2.RunState(data["eventType"]),
        eventTime=data["eventTime"],
        producer=data["producer"],
        run=event_v2.Run(runId=run["runId"], facets=facets(run["facets"])),
        job=event_v2.Job(namespace=job["namespace"], name=job["name"], facets=facets(job["facets"])),
        inputs=[
            event_v2.InputDataset(
                namespace=one["namespace"],
                name=one["name"],
                facets=facets(one["facets"]),
                inputFacets=facets(one.get("inputFacets")),
            )
            for one in data["inputs"]
        ],
        outputs=[
            event_v2.OutputDataset(namespace=one["namespace"], name=one["name"], facets=facets(one["facets"]))
            for one in data["outputs"]
        ],
    )


async def main():
    connection = await nats.connect(sys.argv[1])
    subscription = await connection.jetstream().subscribe(
        "rekindle.events.registry.openlineage.emitted.>",
        ordered_consumer=True,
        config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL),
    )
    while True:
        data = json.loads((await subscription.next_msg(timeout=60)).data)
        assert data["schemaURL"] == RunEvent._get_schema(), (data["schemaURL"], RunEvent._get_schema())
        print(Serde.to_json(parse(data)))
        if data["eventType"] == "COMPLETE":
            break
    await connection.close()


asyncio.run(main())
