"""An independent subscriber: reads events from the bus until a workflow has ended, and validates them as CloudEvents.

usage: subscribe.py nats://HOST:PORT [STATE]

Prints one JSON object per line for each event of the first workflow that reaches STATE (default WORKFLOW_STATE_SUCCEEDED), from
the alert that started it to its end. Uses nats-py for the bus and the CloudEvents SDK to parse each message in binary mode.
"""

import asyncio
import json
import sys
from collections import defaultdict

import nats
from cloudevents.core.bindings.http import HTTPMessage, from_http_event
from nats.js.api import ConsumerConfig, DeliverPolicy


def parse(message):
    """The message as a CloudEvent; the SDK's HTTP binding has the same binary headers."""
    headers = {name.lower(): value for name, value in (message.headers or {}).items()}
    headers.setdefault("content-type", headers.get("ce-datacontenttype", "application/json"))
    event = from_http_event(HTTPMessage(headers=headers, body=message.data))
    attributes = event.get_attributes()
    assert attributes["specversion"] == "1.0", attributes
    assert attributes["source"].startswith("/rekindle/"), attributes
    assert headers["nats-msg-id"] == attributes["source"] + attributes["id"], headers
    _, service, noun, verb, *_ = message.subject.removeprefix("rekindle.").split(".")
    assert attributes["type"] == f"dev.rekindle.{service}.{noun}.{verb}.v1", (attributes, message.subject)
    data = event.get_data()
    return attributes, data if isinstance(data, dict) else json.loads(data)


async def main():
    url, state = sys.argv[1], (sys.argv[2:] or ["WORKFLOW_STATE_SUCCEEDED"])[0]
    connection = await nats.connect(url)
    stream = connection.jetstream()
    subscription = await stream.subscribe(
        "rekindle.events.>", ordered_consumer=True, config=ConsumerConfig(deliver_policy=DeliverPolicy.ALL)
    )
    by_correlation = defaultdict(list)
    while True:
        attributes, data = parse(await subscription.next_msg(timeout=240))
        correlation = attributes.get("correlationid")
        if not correlation:
            continue
        by_correlation[correlation].append({**attributes, "data": data})
        ended = attributes["type"] == "dev.rekindle.orchestrator.workflow.advanced.v1" and data["to_state"] == state
        if ended:
            for event in by_correlation[data["workflow_id"]]:
                print(json.dumps(event, default=lambda time: time.isoformat()))
            break
    await connection.close()


asyncio.run(main())
